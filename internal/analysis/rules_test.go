package analysis

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
)

func BenchmarkLoadRules(b *testing.B) {
	for b.Loop() {
		_, err := LoadRules("")
		require.NoError(b, err)
	}
}

func TestFold(t *testing.T) {
	for in, want := range map[string]string{
		"":                         "",
		"  -- ":                    "",
		"REWE Markt GmbH & Co.KG":  " rewe markt gmbh co kg ",
		"Bäckerei Größe":           " baeckerei groesse ",
		"Żabka Łódź S.A.":          " zabka lodz s a ",
		"Café\u0301 e\u0301cole":   " cafe ecole ",
		"SVWZ+Lohn/Gehalt 03-2026": " svwz lohn gehalt 03 2026 ",
		"Œuvre Åse Ðør ΑΒΓ 日本":     " oeuvre aase doer αβγ 日本 ",
		"\xff\xfebroken":           " broken ",
	} {
		require.Equal(t, want, strings.ReplaceAll(fold(in), "�", ""), "%q", in)
	}
	require.Equal(t, " a b ", fold("a", "", "b"))
}

// match labels a transaction with rules of a test's own.
func match(t *testing.T, rules string, change ...func(*bankfeed.Transaction)) string {
	t.Helper()
	r, err := parseRules(defaultRules, []byte("version: 1\nmode: replace\nlabels:\n  - {id: L, category: LIVING}\nrules:\n  - {id: r, label: L, "+rules+"}\n"))
	require.NoError(t, err)
	x := bankfeed.Transaction{Money: bankfeed.Money{Amount: bankfeed.MustAmount("-100.00"), Currency: "EUR"}}
	for _, c := range change {
		c(&x)
	}
	var s subject
	r.subjectOf(&s, &x, bankfeed.AccountCurrent, x.Creditor, x.UltimateCreditor)
	if m := r.match(&s); m != nil {
		return m.id
	}
	return ""
}

func TestConditions(t *testing.T) {
	name := func(s string) func(*bankfeed.Transaction) {
		return func(x *bankfeed.Transaction) { x.Creditor.Name = s }
	}
	purpose := func(s ...string) func(*bankfeed.Transaction) {
		return func(x *bankfeed.Transaction) { x.Remittance = s }
	}
	amount := func(s string) func(*bankfeed.Transaction) {
		return func(x *bankfeed.Transaction) { x.Money.Amount = bankfeed.MustAmount(s) }
	}
	for _, c := range []struct {
		rule string
		fits []func(*bankfeed.Transaction)
		not  []func(*bankfeed.Transaction)
	}{
		{`name: ["lidl"]`, []func(*bankfeed.Transaction){name("LIDL sagt Danke"), name("1234 Lidl-Dienst")}, []func(*bankfeed.Transaction){name("Lidlmann"), purpose("lidl"), name("")}},
		{`name: ["lidl*"]`, []func(*bankfeed.Transaction){name("Lidlmann"), name("LIDL")}, []func(*bankfeed.Transaction){name("alidl")}},
		{`name: ["*bank"]`, []func(*bankfeed.Transaction){name("Postbank"), name("Bank")}, []func(*bankfeed.Transaction){name("Bankhaus")}},
		{`name: ["*bank*"]`, []func(*bankfeed.Transaction){name("Sparbankhaus")}, []func(*bankfeed.Transaction){name("Ban k")}},
		{`name: ["media markt"]`, []func(*bankfeed.Transaction){name("MEDIA-MARKT 12")}, []func(*bankfeed.Transaction){name("media super markt")}},
		{`name: ["müller"]`, []func(*bankfeed.Transaction){name("MUELLER"), name("Müller GmbH")}, nil},
		{`name: ["x"]`, nil, []func(*bankfeed.Transaction){name("xx")}},
		{`purpose: ["miete"]`, []func(*bankfeed.Transaction){purpose("Wohnung", "Miete 3")}, []func(*bankfeed.Transaction){name("Miete")}},
		{`words: ["miete"]`, []func(*bankfeed.Transaction){purpose("Miete"), name("Miete"), func(x *bankfeed.Transaction) { x.UltimateCreditor = "Miete" }, func(x *bankfeed.Transaction) { x.AdditionalInfo = "Miete" }}, []func(*bankfeed.Transaction){purpose("Mieter")}},
		{`words: ["miete"], sign: credit`, []func(*bankfeed.Transaction){func(x *bankfeed.Transaction) { purpose("Miete")(x); amount("5")(x) }}, []func(*bankfeed.Transaction){purpose("Miete")}},
		{`words: ["miete"], min: "100.01"`, nil, []func(*bankfeed.Transaction){purpose("Miete")}},
		{`words: ["miete"], min: "100", max: "100.0"`, []func(*bankfeed.Transaction){purpose("Miete")}, nil},
		{`words: ["miete"], account: [savings]`, nil, []func(*bankfeed.Transaction){purpose("Miete")}},
		{`words: ["miete"], name: ["vogt"]`, []func(*bankfeed.Transaction){func(x *bankfeed.Transaction) { purpose("Miete")(x); name("Vogt")(x) }}, []func(*bankfeed.Transaction){purpose("Miete"), name("Vogt")}},
		{`codes: [PMNT-RCDT]`, []func(*bankfeed.Transaction){code("PMNT-RCDT-SALA", "", ""), code("pmnt+rcdt", "", "")}, []func(*bankfeed.Transaction){code("PMNT-RCDTX", "", ""), code("PMNT", "", ""), code("", "", "")}},
		{`purpose_code: [SALA]`, []func(*bankfeed.Transaction){code("", "sala", "")}, []func(*bankfeed.Transaction){code("", "SALAX", "")}},
		{`gvc: ["153"]`, []func(*bankfeed.Transaction){code("", "", "153"), code("", "", "NTRF+153+8930")}, []func(*bankfeed.Transaction){code("", "", "1530"), code("", "", "NTRF+116+153")}},
		{`iban: ["DE89 3704"]`, []func(*bankfeed.Transaction){iban("DE89 3704 0044 0532 0130 00")}, []func(*bankfeed.Transaction){iban("DE02120300000000202051"), name("DE893704")}},
		{`creditor_id: ["DE98 ZZZ0 9999 999999"]`, []func(*bankfeed.Transaction){mandate("de98zzz09999999999", "")}, []func(*bankfeed.Transaction){mandate("DE98ZZZ0999999999", "")}},
		{`regex: "(?i)kd-nr \\d{4}\\b"`, []func(*bankfeed.Transaction){purpose("KD-Nr 1234"), name("kd-nr 9999")}, []func(*bankfeed.Transaction){purpose("Kd-Nr 12345")}},
	} {
		for i, f := range c.fits {
			require.Equal(t, "r", match(t, c.rule, f), "%s, fits %d", c.rule, i)
		}
		for i, f := range c.not {
			require.Empty(t, match(t, c.rule, f), "%s, not %d", c.rule, i)
		}
	}
}

// What is built in must say the obvious of the obvious, in three languages.
func TestBuiltInRules(t *testing.T) {
	r, err := LoadRules("")
	require.NoError(t, err)
	for _, c := range []struct{ amount, name, purpose, label string }{
		{"2850.00", "Werft & Söhne AG", "Gehalt 03/2026 Personalnr. 40718", "SALARY"},
		{"2850.00", "Kowalski sp. z o.o.", "Wynagrodzenie za marzec", "SALARY"},
		{"1900.00", "Acme Ltd", "SALARY MARCH", "SALARY"},
		{"1200.00", "Deutsche Rentenversicherung Bund", "Rente 04.26", "PENSION"},
		{"1200.00", "ZUS", "EMERYTURA", "PENSION"},
		{"250.00", "Bundesagentur für Arbeit - Familienkasse", "KG 2026", "CHILD_BENEFIT"},
		{"900.00", "Bundesagentur für Arbeit", "ALG", "UNEMPLOYMENT"},
		{"-950.00", "Hausverwaltung Elbblick", "Miete 04/2026 Whg. 14", "RENT"},
		{"-950.00", "Jan Nowak", "czynsz kwiecień", "RENT"},
		{"-950.00", "J Smith", "Rent April", "RENT"},
		{"950.00", "Mieter", "Miete April", "RENTAL_INCOME"},
		{"-89.00", "Stadtwerke Nord GmbH", "Abschlag Strom", "ENERGY"},
		{"-39.99", "Telekom Deutschland GmbH", "Festnetz Vertragskonto", "TELECOM"},
		{"-55.08", "Rundfunk ARD, ZDF, DRadio", "Rundfunkbeitrag", "BROADCAST_FEE"},
		{"-134.50", "Hanse Versicherung AG", "Haftpflicht und Hausrat", "LIABILITY_INSURANCE"},
		{"-60.00", "HUK24 AG", "Kfz-Versicherung", "CAR_INSURANCE"},
		{"-44.00", "PZU SA", "skladka", "INSURANCE"},
		{"-199.00", "Santander Consumer Bank", "Rate", "LOAN"},
		{"-15.99", "Netflix International B.V.", "", "STREAMING"},
		{"-25.00", "McFIT GmbH", "Beitrag", "FITNESS"},
		{"-12.00", "REWE SAGT DANKE", "", "GROCERIES"},
		{"-12.00", "Biedronka", "", "GROCERIES"},
		{"-40.00", "Aral Station", "", "FUEL"},
		{"-49.00", "DB Vertrieb GmbH", "Deutschlandticket", "PUBLIC_TRANSPORT"},
		{"-100.00", "GA NR00001234", "Bargeldauszahlung", "CASH"},
		{"-340.00", "Finanzamt Hamburg", "Einkommensteuer 2024", "TAX"},
		{"340.00", "Finanzamt Hamburg", "Einkommensteuer 2024", "TAX_REFUND"},
		{"-1800.00", "Finanzamt Hamburg", "Umsatzsteuer 02/26", "VAT"},
		{"-13500.00", "Lohnsammler", "Gehälter 03/26", "PAYROLL"},
		{"-200.00", "Own transfer", "Sparplan", "OWN_TRANSFER"},
		{"89.00", "Telenova", "Rücklastschrift", "CHARGEBACK"},
		{"-5.00", "Bank", "Rücklastschriftgebühr", "CHARGEBACK_FEE"},
		{"-75.00", "Coeo Inkasso GmbH", "", "DEBT_COLLECTION"},
		{"-75.00", "KRUK S.A.", "spłata", "DEBT_COLLECTION"},
		{"-75.00", "Komornik Sądowy", "zajęcie komornicze", "SEIZURE"},
		{"-50.00", "bet365", "", "GAMBLING"},
		{"-50.00", "STS Zakłady Bukmacherskie", "", "GAMBLING"},
		{"-20.00", "Totalizator Sportowy", "", "LOTTERY"},
		{"-7.00", "Lotte Meier", "Kuchen", ""},
		{"-7.00", "Rentner Cafeteria", "", ""},
		{"-30.00", "Karl Pfand", "Rent-a-bike nein", "RENT"}, // a word is a word
		{"-50.00", "UBERWEISUNG MEIER", "", ""},
		{"-20.00", "Ergotherapie Schulz", "", ""},
	} {
		x := bankfeed.Transaction{Money: bankfeed.Money{Amount: bankfeed.MustAmount(c.amount), Currency: "EUR"}, Remittance: []string{c.purpose}}
		var s subject
		r.subjectOf(&s, &x, bankfeed.AccountCurrent, bankfeed.Party{Name: c.name}, "")
		got := ""
		if m := r.match(&s); m != nil {
			got = m.label.ID
		}
		if c.name == "Karl Pfand" {
			require.Empty(t, got, "less than the least rent")
			continue
		}
		require.Equal(t, c.label, got, "%s %q %q", c.amount, c.name, c.purpose)
	}
	for _, l := range r.labels {
		require.NotEmpty(t, l.Text.EN)
		require.NotEmpty(t, l.Text.DE)
		require.Contains(t, r.categories, l.Category)
	}
	for _, id := range []string{categoryTransfers, categoryOtherIncome, categoryOtherSpending, categoryHousing, categoryLiving, categoryInsurance} {
		require.Contains(t, r.categories, id)
	}
	require.Contains(t, r.labels, labelOwnTransfer)
}

func TestOwnRuleFile(t *testing.T) {
	write := func(text string) string {
		path := filepath.Join(t.TempDir(), "rules.yaml")
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	matched := func(r *Rules, name string) *rule {
		x := bankfeed.Transaction{Money: bankfeed.Money{Amount: bankfeed.MustAmount("-1"), Currency: "EUR"}}
		var s subject
		r.subjectOf(&s, &x, bankfeed.AccountCurrent, bankfeed.Party{Name: name}, "")
		return r.match(&s)
	}
	label := func(r *Rules, name string) string {
		if m := matched(r, name); m != nil {
			return m.label.ID
		}
		return ""
	}
	built, err := LoadRules("")
	require.NoError(t, err)
	own, err := LoadRules(write(`
version: 1
disable: [gambling-names]
categories:
  - {id: PETS, text: {en: Pets, de: Haustiere}}
labels:
  - {id: PET, category: PETS, text: {en: Pets}}
  - {id: GROCERIES, category: PETS}
rules:
  - {id: pets, label: PET, name: ["rewe*", "fressnapf"]}
  - {id: weak, label: PET, name: ["netflix*"], priority: 1}
  - {id: fuel-words, label: PET, name: ["tiger"]}
`))
	require.NoError(t, err)
	require.NotEqual(t, built.Fingerprint, own.Fingerprint)
	require.Equal(t, "PET", label(own, "REWE"), "own rules win")
	require.Equal(t, "STREAMING", label(own, "Netflix"), "unless they say otherwise")
	require.Equal(t, "PETS", matched(own, "Lidl").label.Category, "a built-in label in another category")
	require.Empty(t, label(own, "Tipico"), "disabled")
	require.Empty(t, label(own, "Aral"), "its rule was given anew")
	require.Equal(t, "PET", label(own, "Tiger"))
	require.Equal(t, text{"Pets", "Pets"}, own.text("PET"))
	require.Equal(t, text{"Pets", "Haustiere"}, own.text("PETS"))
	require.Equal(t, text{"what", "what"}, own.text("what"))

	only, err := LoadRules(write("version: 1\nmode: replace\nlabels: [{id: PET, category: LIVING}]\nrules: [{id: pets, label: PET, name: [fressnapf]}]\n"))
	require.NoError(t, err)
	require.Equal(t, "PET", label(only, "Fressnapf"))
	require.Empty(t, label(only, "REWE"))

	_, err = LoadRules(filepath.Join(t.TempDir(), "none.yaml"))
	require.ErrorContains(t, err, "rules file: cannot be read: no such file or directory")
	_, err = LoadRules(write(strings.Repeat("#", maxRuleFile+1)))
	require.ErrorContains(t, err, "larger than")
	_, err = LoadRules(write("version: 1\nrulez: []\n"))
	require.ErrorContains(t, err, "rulez")
}

// Every fault is named at once, with its place, and without its value.
func TestFaultsOfARuleFile(t *testing.T) {
	_, err := parseRules(defaultRules, []byte(`
version: 2
disable: [no-such-rule]
categories:
  - {id: "a b"}
  - {id: PETS}
  - {id: PETS}
labels:
  - {id: PET, category: NOPE, risk: fun, income: luck, holder: dog, transfer: wire}
  - {id: PET, category: PETS, contract: "a b"}
rules:
  - {id: "", label: PET, name: [x]}
  - {id: one, label: NOBODY, name: [x], sign: plus, min: "5", max: "4"}
  - {id: one, label: PET, words: ["**", ok]}
  - {id: two, label: PET, min: "-3", account: [cash]}
  - {id: three, label: PET, codes: [pmt], purpose_code: [TOOLONG], gvc: ["12"], iban: ["1"], creditor_id: ["x"], regex: "("}
`))
	require.Error(t, err)
	lines := strings.Split(err.Error(), "\n")
	for _, want := range []string{
		"rules file, version: must be 1",
		`rules file, disable[0]: there is no built-in rule "no-such-rule"`,
		"rules file, categories[0].id: ",
		"rules file, categories[2]: PETS is there twice",
		`rules file, labels[0] (PET).category: there is no category "NOPE"`,
		"rules file, labels[0] (PET).risk: must be one of chargebacks",
		"rules file, labels[0] (PET).income: ",
		"rules file, labels[0] (PET).holder: ",
		"rules file, labels[0] (PET).transfer: ",
		"rules file, labels[1] (PET): is there twice",
		"rules file, labels[1] (PET).contract: ",
		"rules file, rules[0].id: ",
		`rules file, rules[1] (one).label: there is no label "NOBODY"`,
		"rules file, rules[1] (one).sign: must be credit or debit",
		"rules file, rules[1] (one): min is more than max",
		"rules file, rules[2] (one): is there twice",
		"rules file, rules[2] (one).words[0]: holds neither a letter nor a digit",
		"rules file, rules[3] (two).min: ",
		"rules file, rules[3] (two).account[0]: ",
		"rules file, rules[3] (two): has no condition",
		"rules file, rules[4] (three).codes[0]: ",
		"rules file, rules[4] (three).purpose_code[0]: ",
		"rules file, rules[4] (three).gvc[0]: ",
		"rules file, rules[4] (three).iban[0]: ",
		"rules file, rules[4] (three).creditor_id[0]: ",
		"rules file, rules[4] (three).regex: is not a regular expression",
	} {
		found := 0
		for _, l := range lines {
			if strings.HasPrefix(l, want) {
				found++
			}
		}
		require.Equal(t, 1, found, "%s in\n%s", want, err)
	}
	require.Len(t, lines, 26)
}

func TestSize(t *testing.T) {
	for in, want := range map[string]int64{"0": 0, "-1": 10_000, "12.3": 123_000, "-0.0001": 1, "7.123456": 71_234, "1000000000000": 10_000_000_000_000_000,
		"999999999999999999": 10_000_000_000_000_000, "10.00": 100_000} {
		require.Equal(t, want, size(bankfeed.MustAmount(in)), in)
	}
	require.True(t, within(110, 100, 10))
	require.False(t, within(111, 100, 10))
	require.True(t, within(0, 0, 10))
}
