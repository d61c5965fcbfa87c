package analysis

// word is a text of a page in a language: English is written down in the
// template, unless the table has another text for it.
func word(text, lang string) string {
	if w, ok := pageWords[text]; ok {
		if lang == "de" {
			return w.DE
		}
		return w.EN
	}
	return text
}

var pageWords = map[string]text{
	"report balances":          {"Balances", "Kontostände"},
	"report cashFlow":          {"Cash flow", "Zahlungsströme"},
	"report incomeAndSpending": {"Income and spending", "Einnahmen und Ausgaben"},
	"report income":            {"Income", "Einnahmen"},
	"report spending":          {"Spending", "Ausgaben"},
	"report rentAndLiving":     {"Rent and living", "Wohnen und Lebenshaltung"},
	"report contracts":         {"Contracts", "Verträge"},
	"report insurance":         {"Insurance contracts", "Versicherungsverträge"},
	"report indicators":        {"Signs of risk", "Risikomerkmale"},
	"report chargebacks":       {"Returned payments", "Rücklastschriften"},
	"report debtCollection":    {"Debt collection", "Inkasso"},
	"report gambling":          {"Gambling", "Glücksspiel"},
	"report seizure":           {"Seizures", "Pfändungen"},

	"CHARGEBACKS":     {"Returned payments", "Rücklastschriften"},
	"DEBT_COLLECTION": {"Debt collection", "Inkasso"},
	"GAMBLING":        {"Gambling", "Glücksspiel"},
	"SEIZURE":         {"Seizures", "Pfändungen"},

	"CHECKING":    {"Current account", "Girokonto"},
	"SAVINGS":     {"Savings account", "Sparkonto"},
	"CREDIT_CARD": {"Card account", "Kartenkonto"},
	"LOAN":        {"Loan account", "Kreditkonto"},

	"WEEKLY":      {"weekly", "wöchentlich"},
	"BIWEEKLY":    {"every two weeks", "alle zwei Wochen"},
	"MONTHLY":     {"monthly", "monatlich"},
	"BIMONTHLY":   {"every two months", "alle zwei Monate"},
	"QUARTERLY":   {"quarterly", "vierteljährlich"},
	"HALF_YEARLY": {"twice a year", "halbjährlich"},
	"YEARLY":      {"yearly", "jährlich"},
	"FIXED":       {"fixed", "fest"},
	"STABLE":      {"stable", "stabil"},
	"VARIABLE":    {"variable", "schwankend"},

	"SALARY": {"salary", "Gehalt"}, "PENSION": {"pension", "Rente"}, "BENEFIT": {"benefit", "Leistung"},
	"REGULAR": {"regular", "regelmäßig"}, "OTHER": {"other", "sonstige"},

	"yes": {"yes", "ja"}, "no": {"no", "nein"}, "no label": {"unlabelled", "ohne Zuordnung"},
	"as of":                          {"Data up to", "Daten bis"},
	"from":                           {"from", "ab"},
	"transactions":                   {"transactions", "Umsätze"},
	"ignored":                        {"not counted (pending, rejected)", "nicht gezählt (vorgemerkt, abgelehnt)"},
	"no data":                        {"There are no transactions in this period.", "In diesem Zeitraum gibt es keine Umsätze."},
	"none found":                     {"None found.", "Keine gefunden."},
	"balance at the end of each day": {"Balance at the end of each day", "Kontostand am Ende jedes Tages"},
	"income and spending by month":   {"Income and spending by month", "Einnahmen und Ausgaben je Monat"},
	"regular and other by month":     {"Regular and other amounts by month", "Regelmäßige und sonstige Beträge je Monat"},
	"no balance":                     {"The bank gives no booked balance for this account.", "Die Bank nennt für dieses Konto keinen gebuchten Saldo."},
	"current balance":                {"Current balance", "Aktueller Kontostand"},
	"available":                      {"Available", "Verfügbar"},
	"average":                        {"Average", "Durchschnitt"},
	"lowest":                         {"Lowest", "Niedrigster"},
	"highest":                        {"Highest", "Höchster"},
	"days below zero":                {"Days below zero", "Tage im Minus"},
	"of days":                        {"of", "von"},
	"month":                          {"Month", "Monat"},
	"opening":                        {"Opening", "Anfang"},
	"closing":                        {"Closing", "Ende"},
	"income":                         {"Income", "Einnahmen"},
	"spending":                       {"Spending", "Ausgaben"},
	"transfers":                      {"Own transfers", "Eigene Umbuchungen"},
	"net":                            {"Net", "Saldo"},
	"category":                       {"Category", "Kategorie"},
	"amount":                         {"Amount", "Betrag"},
	"count":                          {"Count", "Anzahl"},
	"monthly average":                {"Average of a full month", "Durchschnitt je vollem Monat"},
	"total":                          {"Total", "Summe"},
	"regular":                        {"Regular", "Regelmäßig"},
	"other":                          {"Other", "Sonstige"},
	"salary":                         {"Salary", "Gehalt"},
	"sources":                        {"Where it comes from", "Woher es kommt"},
	"recipients":                     {"Largest recipients", "Größte Empfänger"},
	"counterpart":                    {"Counterpart", "Gegenseite"},
	"kind":                           {"Kind", "Art"},
	"last":                           {"Last", "Zuletzt"},
	"next":                           {"Next", "Nächste"},
	"rhythm":                         {"Rhythm", "Rhythmus"},
	"active":                         {"Active", "Aktiv"},
	"ended":                          {"Ended", "Beendet"},
	"type":                           {"Type", "Typ"},
	"per month":                      {"A month", "Je Monat"},
	"monthly costs":                  {"What active contracts cost a month", "Was laufende Verträge im Monat kosten"},
	"credits":                        {"Credits", "Eingänge"},
	"debits":                         {"Debits", "Ausgänge"},
	"date":                           {"Date", "Datum"},
	"purpose":                        {"Purpose", "Verwendungszweck"},
	"rule":                           {"Rule", "Regel"},
	"rules":                          {"Rules", "Regeln"},
	"more":                           {"more", "weitere"},
	"incomplete":                     {"not covered whole", "nicht vollständig"},
}
