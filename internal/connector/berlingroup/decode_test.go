package berlingroup

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
)

// one decodes a page with one booked transaction.
func one(t *testing.T, item string) bankfeed.Transaction {
	t.Helper()
	rep, err := decodeReport([]byte(`{"transactions":{"booked":[`+item+`]}}`), "PLN")
	require.NoError(t, err)
	require.Len(t, rep.transactions, 1)
	require.Equal(t, item, string(rep.transactions[0].Raw), "the record is kept byte for byte")
	rep.transactions[0].Raw = nil
	return rep.transactions[0]
}

func TestTransactionInFull(t *testing.T) {
	got := one(t, `{ "transactionId" : "T1", "entryReference":"E1","endToEndId":"X1","mandateId":"M1","checkId":"C1","creditorId":"DE98ZZZ09999999999",
		"bookingDate":"2024-02-29","valueDate":"2024-03-01","transactionDate":"2024-02-28",
		"transactionAmount":{"currency":"EUR","amount":"-10.00"},
		"currencyExchange":[{"sourceCurrency":"usd","exchangeRate":"1.0850","unitCurrency":"EUR","targetCurrency":"EUR","quotationDate":"2024-02-28"}],
		"creditorName":"Shop","creditorAccount":{"iban":"de38 7607 0024 0320 4657 00","currency":"EUR"},"creditorAgent":"COBADEFF",
		"ultimateCreditor":"UC","debtorName":"Me","debtorAccount":{"bban":"123 456","bic":"XBANDECG"},"ultimateDebtor":"UD",
		"remittanceInformationUnstructured":"line","remittanceInformationStructuredArray":[{"reference":"RF18","referenceType":"SCOR"}],
		"additionalInformation":"more","purposeCode":"SALA","bankTransactionCode":"PMNT-RCDT-ESCT","proprietaryBankTransactionCode":"P1",
		"balanceAfterTransaction":{"balanceAmount":{"currency":"EUR","amount":"99.9"},"balanceType":"interimBooked"},
		"entryDetails":[{"x":1}],"somethingNew":{"deep":[null]}}`)
	after := bankfeed.Money{Amount: bankfeed.MustAmount("99.9"), Currency: "EUR"}
	require.Equal(t, bankfeed.Transaction{
		Status: bankfeed.TransactionBooked, Money: bankfeed.Money{Amount: bankfeed.MustAmount("-10.00"), Currency: "EUR"},
		BookingDate: "2024-02-29", ValueDate: "2024-03-01", TransactionDate: "2024-02-28",
		BankID: "T1", EntryReference: "E1", EndToEndID: "X1", MandateID: "M1", CreditorID: "DE98ZZZ09999999999", CheckID: "C1",
		Creditor:         bankfeed.Party{Name: "Shop", Agent: "COBADEFF", Account: bankfeed.Identifier{Type: bankfeed.IdentIBAN, Value: "DE38760700240320465700"}},
		Debtor:           bankfeed.Party{Name: "Me", Agent: "XBANDECG", Account: bankfeed.Identifier{Type: bankfeed.IdentBBAN, Value: "123456"}},
		UltimateCreditor: "UC", UltimateDebtor: "UD", Remittance: []string{"line"}, Structured: []string{"RF18"},
		AdditionalInfo: "more", PurposeCode: "SALA", BankCode: "PMNT-RCDT-ESCT", ProprietaryCode: "P1", BalanceAfter: &after,
		Exchange: []bankfeed.Exchange{{SourceCurrency: "USD", TargetCurrency: "EUR", UnitCurrency: "EUR", Rate: "1.0850", Date: "2024-02-28"}},
	}, got)
}

func TestTransactionQuirks(t *testing.T) {
	amount := `"transactionAmount":{"amount":"1","currency":"PLN"}`
	for name, c := range map[string]struct {
		item  string
		check func(*testing.T, bankfeed.Transaction)
	}{
		"amount as a number keeps its digits": {`{"transactionAmount":{"amount":-12345678901234567.890,"currency":"EUR"}}`, func(t *testing.T, x bankfeed.Transaction) {
			require.Equal(t, "-12345678901234567.890", x.Money.Amount.String())
		}},
		"currency missing": {`{"transactionAmount":{"amount":"5"}}`, func(t *testing.T, x bankfeed.Transaction) { require.Equal(t, "PLN", x.Money.Currency) }},
		"currency null":    {`{"transactionAmount":{"amount":"5","currency":null}}`, func(t *testing.T, x bankfeed.Transaction) { require.Equal(t, "PLN", x.Money.Currency) }},
		"nulls everywhere": {`{` + amount + `,"transactionId":null,"bookingDate":null,"creditorAccount":null,"remittanceInformationUnstructuredArray":null,"currencyExchange":null,"balanceAfterTransaction":null,"_links":null}`,
			func(t *testing.T, x bankfeed.Transaction) {
				require.Equal(t, bankfeed.Transaction{Status: bankfeed.TransactionBooked, Money: bankfeed.Money{Amount: bankfeed.MustAmount("1"), Currency: "PLN"}}, x)
			}},
		"id as a number":                 {`{` + amount + `,"transactionId":1234567}`, func(t *testing.T, x bankfeed.Transaction) { require.Equal(t, "1234567", x.BankID) }},
		"a blank id is left to identity": {`{` + amount + `,"transactionId":" "}`, func(t *testing.T, x bankfeed.Transaction) { require.Equal(t, " ", x.BankID) }},
		"date with a time": {`{` + amount + `,"bookingDate":"2024-01-31T23:30:00+02:00"}`, func(t *testing.T, x bankfeed.Transaction) {
			require.EqualValues(t, "2024-01-31", x.BookingDate)
		}},
		"date that is none": {`{` + amount + `,"bookingDate":"31.01.2024"}`, func(t *testing.T, x bankfeed.Transaction) { require.Empty(t, x.BookingDate) }},
		"value date-time only": {`{` + amount + `,"valueDateTime":"2024-01-31T10:00:00Z"}`, func(t *testing.T, x bankfeed.Transaction) {
			require.EqualValues(t, "2024-01-31", x.ValueDate)
		}},
		"structured remittance as text":   {`{` + amount + `,"remittanceInformationStructured":"RF18"}`, structured("RF18")},
		"structured remittance as object": {`{` + amount + `,"remittanceInformationStructured":{"reference":"RF19","referenceIssuer":"I"}}`, structured("RF19")},
		"structured remittance twice": {`{` + amount + `,"remittanceInformationStructured":"RF18","remittanceInformationStructuredArray":[{"reference":"RF18"},{"reference":"RF20"}]}`,
			structured("RF18", "RF20")},
		"unstructured array":           {`{` + amount + `,"remittanceInformationUnstructuredArray":["a","b"]}`, remitted("a", "b")},
		"unstructured array elsewhere": {`{` + amount + `,"remittanceInformationUnstructured":["a","b"]}`, remitted("a", "b")},
		"unstructured array repeated":  {`{` + amount + `,"remittanceInformationUnstructured":"ab","remittanceInformationUnstructuredArray":["a","b"]}`, remitted("a", "b")},
		"unstructured first line":      {`{` + amount + `,"remittanceInformationUnstructured":"a","remittanceInformationUnstructuredArray":["a","b"]}`, remitted("a", "b")},
		"unstructured other text":      {`{` + amount + `,"remittanceInformationUnstructuredArray":["b"],"remittanceInformationUnstructured":"a"}`, remitted("a", "b")},
		"balance after as an amount": {`{` + amount + `,"balanceAfterTransaction":{"amount":7.5,"currency":"EUR"}}`, func(t *testing.T, x bankfeed.Transaction) {
			require.Equal(t, "7.5", x.BalanceAfter.Amount.String())
		}},
		"balance after without amount": {`{` + amount + `,"balanceAfterTransaction":{"balanceAmount":{"amount":null}}}`, func(t *testing.T, x bankfeed.Transaction) {
			require.Nil(t, x.BalanceAfter)
		}},
		"exchange as an object with a number": {`{` + amount + `,"currencyExchange":{"exchangeRate":4.3210}}`, func(t *testing.T, x bankfeed.Transaction) {
			require.Equal(t, []bankfeed.Exchange{{Rate: "4.3210"}}, x.Exchange)
		}},
		"account as a text":      {`{` + amount + `,"creditorAccount":"PL61109010140000071219812874"}`, creditor(bankfeed.IdentIBAN, "PL61109010140000071219812874")},
		"account number as IBAN": {`{` + amount + `,"creditorAccount":{"iban":"61 1090 1014"}}`, creditor(bankfeed.IdentBBAN, "6110901014")},
		"masked IBAN":            {`{` + amount + `,"creditorAccount":{"iban":"pl xxxx 1234"}}`, creditor(bankfeed.IdentIBAN, "PLxxxx1234")},
		"masked card":            {`{` + amount + `,"creditorAccount":{"maskedPan":"123456xxxxxx1234"}}`, creditor(bankfeed.IdentMaskedPAN, "123456xxxxxx1234")},
		"a full card number is not kept": {`{` + amount + `,"creditorAccount":{"pan":"4111 1111 1111 1111"}}`,
			creditor(bankfeed.IdentMaskedPAN, "411111xxxxxx1111")},
		"other":         {`{` + amount + `,"creditorAccount":{"other":{"identification":"K-1"},"msisdn":"+48 1"}}`, creditor(bankfeed.IdentOther, "K-1")},
		"NUL in a text": {`{` + amount + `,"creditorName":"A\u0000B"}`, func(t *testing.T, x bankfeed.Transaction) { require.Equal(t, "AB", x.Creditor.Name) }},
	} {
		t.Run(name, func(t *testing.T) { c.check(t, one(t, c.item)) })
	}
}

func structured(want ...string) func(*testing.T, bankfeed.Transaction) {
	return func(t *testing.T, x bankfeed.Transaction) { require.Equal(t, want, x.Structured) }
}

func remitted(want ...string) func(*testing.T, bankfeed.Transaction) {
	return func(t *testing.T, x bankfeed.Transaction) { require.Equal(t, want, x.Remittance) }
}

func creditor(kind bankfeed.IdentifierType, value string) func(*testing.T, bankfeed.Transaction) {
	return func(t *testing.T, x bankfeed.Transaction) {
		require.Equal(t, bankfeed.Identifier{Type: kind, Value: value}, x.Creditor.Account)
	}
}

func TestReport(t *testing.T) {
	item := `{"transactionAmount":{"amount":"1"}}`
	rep, err := decodeReport([]byte("\ufeff"+`{"account":{"iban":"X"},"transactions":{"pending":[`+item+`],"booked":[`+item+`,`+item+`],"information":[`+item+`],"info":[`+item+`],
		"other":[1],"_links":{"account":{"href":"/a"},"next":{"href":"?page=2"}}},"balances":[{"balanceType":"authorised","balanceAmount":{"amount":1}}]}`), "EUR")
	require.NoError(t, err)
	var statuses []bankfeed.TransactionStatus
	for _, x := range rep.transactions {
		statuses = append(statuses, x.Status)
		require.Equal(t, item, string(x.Raw))
	}
	require.Equal(t, []bankfeed.TransactionStatus{"pending", "booked", "booked", "scheduled", "other"}, statuses)
	require.Equal(t, "?page=2", rep.next)
	require.Equal(t, []bankfeed.Balance{{Type: "authorised", Money: bankfeed.Money{Amount: bankfeed.MustAmount("1"), Currency: "EUR"}}}, rep.balances)

	for body, want := range map[string]report{
		`{"transactions":{}}`:                                        {listed: true},
		`{"transactions":null}`:                                      {null: true},
		`{"transactions":{"booked":null,"pending":[]}}`:              {listed: true},
		`{"_links":{"download":{"href":"/f"}}}`:                      {download: true},
		`{"transactions":{"booked":[]},"_links":{"next":"/n"}}`:      {listed: true, next: "/n"},
		`{"transactions":[],"_links":{"next":{"href":""}}}`:          {listed: true},
		`{"transactions":{"_links":{"next":null}},"_links":{"x":1}}`: {listed: true},
		`{}`: {},
	} {
		got, err := decodeReport([]byte(body), "")
		require.NoError(t, err, body)
		require.Equal(t, want, got, body)
	}
}

func TestNothingOfABrokenPage(t *testing.T) {
	good := `{"transactionAmount":{"amount":"1"}}`
	for _, bad := range []string{`{"transactionAmount":{"amount":"1,5"}}`, `{"transactionAmount":{"amount":null}}`, `{"transactionAmount":{"amount":""}}`, `{"transactionAmount":null}`,
		`{"transactionAmount":"1"}`, `{"transactionAmount":{"amount":"1e99999999"}}`, `{"transactionAmount":{"amount":"NaN"}}`, `{"transactionAmount":{"amount":[1]}}`, `null`, `[]`} {
		rep, err := decodeReport([]byte(`{"transactions":{"booked":[`+good+`,`+bad+`]}}`), "EUR")
		require.ErrorContains(t, err, "$.transactions.booked[1]", bad)
		require.Empty(t, rep, bad)
	}
	_, err := decodeReport([]byte(`{"transactions":{"booked":[`+good+`]}`), "EUR")
	require.EqualError(t, err, "$: not valid JSON", "a page that was cut off")
}

func TestAccounts(t *testing.T) {
	item := `{"resourceId":"R1","iban":"pl61 1090 1014 0000 0712 1981 2874","bban":"109010140000071219812874","maskedPan":null,"currency":"pln","bic":"WBKPPLPP","name":"Konto",
		"displayName":"D","product":"Konto24","cashAccountType":"CACC","status":"enabled","usage":"ORGA","ownerNames":[{"name":"A","role":"owner"},"B"],
		"balances":[{"balanceAmount":{"amount":"1.00"},"balanceType":"expected","referenceDate":"2024-01-02","lastChangeDateTime":"2024-01-02T03:04:05"}],"future":1}`
	list, next, err := decodeAccounts([]byte(`{"accounts":[` + item + `],"_links":{"next":{"href":"/v1/accounts?page=2"}}}`))
	require.NoError(t, err)
	require.Equal(t, "/v1/accounts?page=2", next)
	require.Len(t, list, 1)
	business, at := true, time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC)
	require.Equal(t, item, string(list[0].Raw))
	list[0].Raw = nil
	require.Equal(t, "R1", list[0].ResourceID)
	require.Equal(t, bankfeed.Account{
		Type: bankfeed.AccountCurrent, Currency: "PLN", Name: "Konto", Product: "Konto24", BIC: "WBKPPLPP", OwnerName: "A, B", HolderType: "corporation", Usage: "ORGA",
		IsBusiness: &business, BankType: "CACC", BankStatus: "enabled",
		Identifiers: []bankfeed.Identifier{{Type: bankfeed.IdentIBAN, Value: "PL61109010140000071219812874"}, {Type: bankfeed.IdentBBAN, Value: "109010140000071219812874"}},
		Balances:    []bankfeed.Balance{{Type: "expected", Money: bankfeed.Money{Amount: bankfeed.MustAmount("1.00"), Currency: "PLN"}, ReferenceDate: "2024-01-02", LastChangeAt: &at}},
	}, list[0].Account)
}

func TestMaskedIBAN(t *testing.T) {
	for _, mask := range []string{"PLxxxx1234", "PLXXXX1234", "PL61 **** **** 1234", "PL61....1234"} {
		list, _, err := decodeAccounts([]byte(`{"accounts":[{"resourceId":"r","iban":"` + mask + `","bban":"1"}]}`))
		require.NoError(t, err)
		require.Equal(t, bankfeed.IdentMaskedIBAN, list[0].Identifiers[0].Type, mask)
		require.Equal(t, bankfeed.IdentBBAN, list[0].Identifiers[1].Type)
		require.Empty(t, list[0].IBAN())
		require.Equal(t, bankfeed.AccountCurrent, list[0].Type)
	}
	list, _, err := decodeAccounts([]byte(`{"accounts":[{"iban":"GB85XXXX60161331926819"},{"iban":"PLxxxx1234","maskedPan":"1234xxxx5678"}]}`))
	require.NoError(t, err)
	require.Equal(t, "GB85XXXX60161331926819", list[0].IBAN(), "a bank code of X is no mask")
	require.Equal(t, bankfeed.AccountCurrent, list[1].Type)
}

func TestOneAccount(t *testing.T) {
	// The standard's own example (1.3.12, accountDetailsRegularAccount).
	example := `{"account":{"resourceId":"3dc3d5b3-7023-4848-9853-f5400a64e80f","iban":"FR7612345987650123456789014","currency":"EUR","ownerName":"Heike Mustermann",
		"product":"Girokonto","cashAccountType":"CACC","name":"Main Account","_links":{"balances":{"href":"/psd2/v1/accounts/3dc3d5b3-7023-4848-9853-f5400a64e80f/balances"}}}}`
	a, err := decodeAccount([]byte(example))
	require.NoError(t, err)
	require.Equal(t, "FR7612345987650123456789014", a.IBAN())
	require.Equal(t, "Heike Mustermann", a.OwnerName)
	require.Equal(t, "3dc3d5b3-7023-4848-9853-f5400a64e80f", a.ResourceID)
	require.NotEmpty(t, a.Raw)

	a, err = decodeAccount([]byte(`{"iban":"FR7612345987650123456789014","balances":[]}`))
	require.NoError(t, err, "without the member around it")
	require.Equal(t, "FR7612345987650123456789014", a.IBAN())

	for body, says := range map[string]string{`{}`: "has no account", `{"account":null}`: "has no account", `{"account":{"iban":"x"}`: "not valid JSON", `[]`: "not an object", `7`: "not an object"} {
		_, err := decodeAccount([]byte(body))
		require.ErrorContains(t, err, says, body)
	}
}

func TestAccountType(t *testing.T) {
	for item, want := range map[string]bankfeed.AccountType{
		`{}`:                           bankfeed.AccountCurrent,
		`{"cashAccountType":"svgs"}`:   bankfeed.AccountSavings,
		`{"cashAccountType":"CARD"}`:   bankfeed.AccountCard,
		`{"cashAccountType":"LOAN"}`:   bankfeed.AccountLoan,
		`{"cashAccountType":"MORT"}`:   bankfeed.AccountLoan,
		`{"cashAccountType":"TRAN"}`:   bankfeed.AccountCurrent,
		`{"cashAccountType":"house"}`:  bankfeed.AccountCurrent,
		`{"product":"Tagesgeld Plus"}`: bankfeed.AccountSavings,
		`{"product":"Visa Card Gold"}`: bankfeed.AccountCard,
		`{"product":"Home Loan"}`:      bankfeed.AccountLoan,
		`{"maskedPan":"1234xxxx5678"}`: bankfeed.AccountCard,
		`{"iban":"DE38760700240320465700","maskedPan":"1234xxxx5678"}`: bankfeed.AccountCurrent,
		`{"cashAccountType":"CACC","product":"Loan"}`:                  bankfeed.AccountCurrent,
	} {
		list, _, err := decodeAccounts([]byte(`{"accounts":[` + item + `]}`))
		require.NoError(t, err)
		require.Equal(t, want, list[0].Type, item)
	}
}

func TestResourceIDFromLinks(t *testing.T) {
	list, _, err := decodeAccounts([]byte(`{"accounts":[{"_links":{"x":{"href":"/v1/accounts/no"},"balances":{"href":"https://b/x/v1/accounts/a%2Fb/balances"}}}]}`))
	require.NoError(t, err)
	require.Equal(t, "a/b", list[0].ResourceID)
}

func TestBalances(t *testing.T) {
	at := time.Date(2021, 7, 7, 8, 40, 30, 712e6, time.UTC)
	list, err := decodeBalances([]byte(`{"account":{"iban":"X"},"balances":[
		{"balanceAmount":{"currency":"EUR","amount":"17120.00"},"balanceType":"interimAvailable","lastChangeDateTime":"2021-07-07T10:40:30.712+02:00"},
		{"balanceAmount":{"amount":150.020},"balanceType":"information","lastChangeDateTime":"soon","creditLimitIncluded":false},
		{"balanceAmount":{"amount":null,"currency":"EUR"},"balanceType":"expected"},
		{"balanceType":"openingBooked"}]}`), "USD")
	require.NoError(t, err)
	require.Equal(t, []bankfeed.Balance{
		{Type: "interimAvailable", Money: bankfeed.Money{Amount: bankfeed.MustAmount("17120.00"), Currency: "EUR"}, LastChangeAt: &at},
		{Type: "information", Money: bankfeed.Money{Amount: bankfeed.MustAmount("150.020"), Currency: "USD"}},
	}, list)
	_, err = decodeBalances([]byte(`{"balances":[{"balanceAmount":{"amount":"x"}}]}`), "USD")
	require.EqualError(t, err, "$.balances[0].balanceAmount.amount: not a decimal amount")
}

// FuzzDecoders feeds every decoder with what a bank might send: no panic, and
// nothing half-read beside an error.
func FuzzDecoders(f *testing.F) {
	for _, s := range []string{
		`{"transactions":{"booked":[{"transactionAmount":{"amount":-1.5}}],"_links":{"next":{"href":"/n"}}}}`,
		`{"accounts":[{"resourceId":"1","iban":"DE1","balances":[{"balanceAmount":{"amount":"1"}}]}]}`,
		`{"account":{"resourceId":"1","iban":"PLxxxx1234"}}`, `{"iban":"PL1","account":"x"}`,
		`{"balances":[{"balanceAmount":{"amount":"1","currency":"EUR"}}]}`,
		`{"scaStatus":"started","scaMethods":[{"authenticationMethodId":1}],"challengeData":{"image":"AAAA","data":["a"]},"_links":{"self":"x"}}`,
		`{"tppMessages":[{"code":"A","text":"B"}],"additionalErrors":[{"code":"C"}]}`, `[{"code":"A"}]`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		rep, err := decodeReport(data, "EUR")
		if err != nil && len(rep.transactions)+len(rep.balances) > 0 {
			t.Fatal("transactions beside an error")
		}
		for _, x := range rep.transactions {
			if !json.Valid(x.Raw) {
				t.Fatalf("the record %q is not JSON", x.Raw)
			}
			for _, s := range []string{x.BankID, x.Creditor.Name, x.Debtor.Account.Value, x.AdditionalInfo} {
				if strings.ContainsRune(s, 0) {
					t.Fatal("a NUL came through")
				}
			}
		}
		if accounts, _, err := decodeAccounts(data); err != nil && accounts != nil {
			t.Fatal("accounts beside an error")
		}
		if a, err := decodeAccount(data); err != nil && (a.ResourceID != "" || a.Identifiers != nil) {
			t.Fatal("an account beside an error")
		}
		if balances, err := decodeBalances(data, "EUR"); err != nil && balances != nil {
			t.Fatal("balances beside an error")
		}
		_, _ = decodeAuthorisation(data)
		judge(nil, 400, decodeRefusal(data), phaseAccount)
	})
}
