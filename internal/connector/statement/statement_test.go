package statement

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
)

const whole = `{
  "name": "ERP export", "bic": "cobadeffxxx", "bankName": "Commerzbank", "callbackUrl": "https://client.example/cb?x=1", "callbackHandle": " h 1 ", "more": {"a": [1]},
  "accounts": [
    {"transactions": [
       {"id": 17, "amount": -12.50, "bankBookingDate": "2026-03-01 00:00:00.000", "valueDate": "2026-03-02", "purpose": "Rent", "counterpartName": "Landlord",
        "counterpartIban": "de89 3704 0044 0532 0130 00", "endToEndReference": "E2E", "primanota": "123"},
       {"amount": "1000.0", "currency": "USD", "valueDate": "2026-03-03", "counterpartAccountNumber": "4711", "counterpartIban": null}],
     "iban": "DE08 7005 0000 0000 0012 34", "accountName": "Giro", "accountType": "Checking", "accountCurrency": "eur", "balance": 1234.500, "balanceDate": "2026-03-03", "colour": "red"},
    {"accountNumber": 4711, "accountType": "CREDIT_CARD", "transactions": null}
  ]}`

// read reads a document and gives it back as it is stored.
func read(t testing.TB, j JSON, body string) (*document, []bankfeed.Transaction, error) {
	t.Helper()
	s, err := j.Read(context.Background(), strings.NewReader(body), func(int, *bankfeed.Transaction) bool { return true })
	if err != nil {
		require.Nil(t, s)
		return nil, nil, err
	}
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	var list []bankfeed.Transaction
	require.NoError(t, s.Transactions(context.Background(), func(account int, x bankfeed.Transaction) error {
		require.Less(t, account, len(s.Accounts()))
		list = append(list, x)
		return nil
	}))
	return s.(*document), list, nil
}

func TestADocumentInTheHubsWords(t *testing.T) {
	for name, body := range map[string]string{"as it is": whole, "with a byte order mark": "\ufeff" + whole} {
		t.Run(name, func(t *testing.T) {
			s, list, err := read(t, JSON{}, body)
			require.NoError(t, err)
			h := s.Head()
			require.Equal(t, []string{"ERP export", "Commerzbank", "COBADEFFXXX", "https://client.example/cb?x=1", " h 1 "},
				[]string{h.Name, h.BankName, h.BIC, string(h.CallbackURL), h.Handle})

			require.Len(t, s.Accounts(), 2)
			a := s.Accounts()[0]
			require.Equal(t, "DE08700500000000001234", a.IBAN())
			require.Equal(t, []any{bankfeed.AccountCurrent, bankfeed.AccountImported, "EUR", "Giro", "Checking"}, []any{a.Type, a.Status, a.Currency, a.Name, a.BankType})
			require.Equal(t, "1234.500", a.Balances[0].Money.Amount.String(), "the scale stays")
			require.Equal(t, bankfeed.Date("2026-03-03"), a.Balances[0].ReferenceDate)
			require.JSONEq(t, `{"iban":"DE08 7005 0000 0000 0012 34","accountName":"Giro","accountType":"Checking","accountCurrency":"eur","balance":1234.500,"balanceDate":"2026-03-03","colour":"red"}`, string(a.Raw))
			b := s.Accounts()[1]
			require.Equal(t, []any{"4711", bankfeed.AccountCard, "EUR"}, []any{b.Identifier(bankfeed.IdentBBAN), b.Type, b.Currency})

			require.Len(t, list, 2)
			x := list[0]
			require.Equal(t, []any{"17", "-12.50", "EUR", bankfeed.Date("2026-03-01"), bankfeed.Date("2026-03-02"), "E2E"},
				[]any{x.BankID, x.Money.Amount.String(), x.Money.Currency, x.BookingDate, x.ValueDate, x.EndToEndID})
			require.Equal(t, bankfeed.Party{Name: "Landlord", Account: bankfeed.Identifier{Type: bankfeed.IdentIBAN, Value: "DE89370400440532013000"}}, x.Creditor)
			require.Contains(t, string(x.Raw), `"primanota": "123"`, "what the hub has no place for is kept")
			require.Equal(t, "1000.0", list[1].Money.Amount.String())
			require.Equal(t, "USD", list[1].Money.Currency)
			require.Equal(t, bankfeed.Identifier{Type: bankfeed.IdentBBAN, Value: "4711"}, list[1].Debtor.Account)
		})
	}
}

func TestEveryFaultIsNamedWithItsPlace(t *testing.T) {
	account := func(more string) string { return `{"accounts":[{"iban":"DE08700500000000001234"` + more + `}]}` }
	for body, want := range map[string][]string{
		``:                  {"body: is not valid JSON at byte 0"},
		`[]`:                {"body: must be an object"},
		`{"accounts":[`:     {"accounts: is not valid JSON at byte 13"},
		`{}`:                {"accounts: is missing"},
		`{"accounts":[]}`:   {"accounts: is missing"},
		`{"accounts":{}}`:   {"accounts: must be an array"},
		`{"accounts":[1]}`:  {"accounts[0]: must be an object"},
		`{"accounts":[{}]}`: {"accounts[0].iban: is missing: an account needs an iban or an accountNumber"},
		account("") + `x`:   {"body: has something after the document"},
		account("") + `{}`:  {"body: has something after the document"},
		account(`,"iban":"DE15700500000000001234"`): {"accounts[0].iban: was given twice", "accounts[0].iban: must be a valid IBAN"},
		account(`,"accountType":"x","accountCurrency":"EURO","balance":"1,5","balanceDate":"1.2.2026"`): {
			"accounts[0].accountCurrency: must be a currency of three letters (ISO 4217)", "accounts[0].accountType: must be one of CHECKING, SAVINGS, CREDIT_CARD, LOAN",
			"accounts[0].balanceDate: must be a date of the form YYYY-MM-DD", "accounts[0].balance: must be a decimal amount"},
		account(`,"transactions":[{"amount":1,"valueDate":"2026-01-01"},{"amount":true,"bankBookingDate":"2026-02-30"},7,{"amount":null}]`): {
			"accounts[0].transactions[1].amount: must be a decimal amount", "accounts[0].transactions[1].bankBookingDate: must be a date of the form YYYY-MM-DD",
			"accounts[0].transactions[2]: must be an object", "accounts[0].transactions[3].amount: is missing"},
		account(`,"transactions":[{"amount":1}]`): {"accounts[0].transactions[0].bankBookingDate: is missing"},
		`{"bic":"X","accounts":[{"accountNumber":"1"},{"accountNumber":"2"},{"accountNumber":" 1"}],"name":[]}`: {
			"accounts[2]: is the account of accounts[0]", "name: must be a text in UTF-8", "bic: must be a BIC of 8 or 11 characters"},
		`{"accounts":[{"iban":"DE08700500000000001234","accountNumber":"1"},{"accountNumber":"1"}]}`: {"accounts[1]: is the account of accounts[0]"},
		`{"accounts":[{"accountNumber":"1"},{"accountNumber":"1","accountCurrency":"USD"},{"iban":"DE08700500000000001234","accountNumber":"0 1"},{"iban":"DE89370400440532013000","accountNumber":"1"}]}`: {
			"accounts[3]: is the account of accounts[0]"},
		account(`,"transactions":[{"amount":1,"valueDate":"2026-01-01","amount":-1},{"AMOUNT":1,"valueDate":"2026-01-01"},{"\u0061mount":1,"amount":2,"valueDate":"2026-01-01"}]`): {
			"accounts[0].transactions[0].amount: was given twice", "accounts[0].transactions[1].amount: is missing", "accounts[0].transactions[2].amount: was given twice"},
		account(`,"accountName":"M` + "\xfc" + `ller","transactions":[{"amount":1,"valueDate":"2026-01-01","purpose":"M` + "\xfc" + `ller"}]`): {
			"accounts[0].transactions[0].purpose: must be a text in UTF-8", "accounts[0].accountName: must be a text in UTF-8"},
		`{"callbackHandle":"x` + strings.Repeat(" ", 512) + `","accounts":[{"accountNumber":"1"}]}`: {"callbackHandle: has more than 512 characters"},
		`{"callbackHandle":"` + strings.Repeat("x", 513) + `","accounts":[{"accountNumber":"1"}]}`:  {"callbackHandle: has more than 512 characters"},
	} {
		_, _, err := read(t, JSON{}, body)
		var got []string
		var faults bankfeed.Faults
		require.ErrorAs(t, err, &faults, body)
		for _, f := range faults {
			require.Equal(t, bankfeed.Invalid, f.Kind)
			got = append(got, f.Error())
		}
		require.Equal(t, want, got, body)
	}
}

// A second list of accounts would mix up whose transactions are whose, and a
// second balance would be taken silently, also behind many other members.
func TestNothingIsGivenTwiceBehindManyMembers(t *testing.T) {
	var many strings.Builder
	for i := range 100 {
		fmt.Fprintf(&many, `"x%d":1,`, i)
	}
	for body, want := range map[string]string{
		`{` + many.String() + `"accounts":[{"accountNumber":"1"}],"accounts":[{"accountNumber":"2"}]}`:  "accounts: was given twice",
		`{"accounts":[{"accountNumber":"1",` + many.String() + `"balance":1,"balance":2}]}`:             "accounts[0].balance: was given twice",
		`{"accounts":[{"accountNumber":"1",` + many.String() + `"transactions":[],"transactions":[]}]}`: "accounts[0].transactions: was given twice",
		`{"accounts":[{` + many.String() + `"accountNumber":"1","accountNumber":"2"}]}`:                 "accounts[0].accountNumber: was given twice",
	} {
		_, _, err := read(t, JSON{}, body)
		require.EqualError(t, err, want)
	}
}

// Two banks may have the same number.
func TestOneNumberOfTwoIBANs(t *testing.T) {
	s, _, err := read(t, JSON{}, `{"accounts":[{"iban":"DE08700500000000001234","accountNumber":"1"},{"iban":"DE89370400440532013000","accountNumber":"1"}]}`)
	require.NoError(t, err)
	require.Len(t, s.Accounts(), 2)
}

func TestFaultsAreBounded(t *testing.T) {
	_, _, err := read(t, JSON{}, `{"accounts":[{"accountNumber":"1","transactions":[`+strings.Repeat(`{},`, 1000)+`{}]}]}`)
	var faults bankfeed.Faults
	require.ErrorAs(t, err, &faults)
	require.Len(t, faults, maxFaults)
}

func TestAnIDGivenTwiceIsTold(t *testing.T) {
	body := `{"accounts":[{"accountNumber":"1","transactions":[{"id":"a","amount":1,"valueDate":"2026-01-01"},{"id":"a","amount":1,"valueDate":"2026-01-01"}]}]}`
	seen := map[string]bool{}
	_, err := JSON{}.Read(context.Background(), strings.NewReader(body), func(_ int, x *bankfeed.Transaction) bool {
		was := seen[x.BankID]
		seen[x.BankID] = true
		return !was
	})
	require.EqualError(t, err, "accounts[0].transactions[1].id: was given before in this account")
}

func TestBoundsOfADocument(t *testing.T) {
	one := `{"amount":1,"valueDate":"2026-01-01","purpose":"` + strings.Repeat("p", 100) + `"}`
	many := func(n int) string {
		return `{"accounts":[{"accountNumber":"1","transactions":[` + strings.Repeat(one+",", n-1) + one + `]}]}`
	}
	_, list, err := read(t, JSON{Limits: Limits{Transactions: 10}}, many(10))
	require.NoError(t, err)
	require.Len(t, list, 10)
	_, _, err = read(t, JSON{Limits: Limits{Transactions: 10}}, many(11))
	require.EqualError(t, err, "accounts[0].transactions[10]: is beyond the 10 transactions of one request")

	_, _, err = read(t, JSON{Limits: Limits{Bytes: 1000}}, many(11))
	require.Equal(t, bankfeed.TooLarge, bankfeed.ErrorKindOf(err))

	_, _, err = read(t, JSON{Limits: Limits{Accounts: 1}}, `{"accounts":[{"accountNumber":1},{"accountNumber":2}]}`)
	require.EqualError(t, err, "accounts: has more than 1 entries")

	for name, body := range map[string]string{
		"a transaction": `{"accounts":[{"accountNumber":1,"transactions":[{"amount":1,"x":"` + strings.Repeat("x", 16<<20) + `"}]}]}`,
		"a member":      `{"x":"` + strings.Repeat("x", 16<<20) + `"}`,
		"a name":        `{"` + strings.Repeat("x", 16<<20) + `":1}`,
		"blanks":        `{` + strings.Repeat(" ", 16<<20) + `}`,
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _, err = read(t, JSON{}, body)
		runtime.ReadMemStats(&after)
		require.Equal(t, bankfeed.Invalid, bankfeed.ErrorKindOf(err), name)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(8<<20), name)
	}
}

func TestASenderThatGivesUp(t *testing.T) {
	broken := errors.New("broken")
	_, err := JSON{}.Read(context.Background(), io.MultiReader(strings.NewReader(whole[:400]), iotestErr{broken}), func(int, *bankfeed.Transaction) bool { return true })
	require.ErrorIs(t, err, broken)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = JSON{}.Read(ctx, strings.NewReader(whole), func(int, *bankfeed.Transaction) bool { return true })
	require.ErrorIs(t, err, context.Canceled)
}

type iotestErr struct{ err error }

func (e iotestErr) Read([]byte) (int, error) { return 0, e.err }

func TestALargeDocumentWaitsEncryptedInAFileWithoutAName(t *testing.T) {
	dir := t.TempDir()
	body := large(8000)
	require.Greater(t, len(body), 2*inMemory)
	s, list, err := read(t, JSON{Dir: dir}, body)
	require.NoError(t, err)
	require.Len(t, list, 8000)
	require.Equal(t, "-7999.25", list[7999].Money.Amount.String())
	names, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, names)

	_, err = s.spool.file.Seek(0, io.SeekStart)
	require.NoError(t, err)
	stored, err := io.ReadAll(s.spool.file)
	require.NoError(t, err)
	require.Len(t, stored, len(body))
	require.NotContains(t, string(stored), "purpose")

	again := 0
	require.NoError(t, s.Transactions(context.Background(), func(int, bankfeed.Transaction) error { again++; return nil }), "it can be read any number of times")
	require.Equal(t, 8000, again)
}

// large makes a document of n transactions in one account.
func large(n int) string {
	var b strings.Builder
	b.WriteString(`{"bankName":"Big","accounts":[{"iban":"DE08700500000000001234","transactions":[`)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"id":"t%d","amount":-%d.25,"bankBookingDate":"2026-01-%02d","purpose":"%s","counterpartName":"Counterparty number %d","counterpartIban":"DE89370400440532013000"}`, i, i, i%28+1, strings.Repeat("text ", 40), i)
	}
	b.WriteString(`]}]}`)
	return b.String()
}

// FuzzMembersOf: it finds what the library finds.
func FuzzMembersOf(f *testing.F) {
	for _, s := range []string{`{}`, `{ }`, whole, `{"a":1 ,"b" : [1,{"c":"]}\"\\"}],"d":"\\","e":-1.5e3,"f":null,"g":{},"h":[ ]}`, `{"a":{"a":[[]]}, "":"","\u0061b":true }`, "{\n\t\"a\"\r:\n7\n}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		body = bytes.TrimSpace(body)
		var want map[string]json.RawMessage
		if len(body) == 0 || body[0] != '{' || !utf8.Valid(body) || json.Unmarshal(body, &want) != nil {
			t.Skip()
		}
		got := map[string]json.RawMessage{}
		for name, v := range membersOf(body) {
			got[name] = v
		}
		require.Equal(t, want, got)
	})
}

// FuzzJSON: whatever is sent is either read, the same way twice, or refused with
// faults that have a place and repeat nothing.
func FuzzJSON(f *testing.F) {
	f.Add([]byte(whole))
	f.Add([]byte(large(2)))
	f.Add([]byte(`{"accounts":[{"accountNumber":"1","transactions":[{"amount":"1e3","valueDate":"2026-01-01"}]}],"accounts":null}`))
	f.Add([]byte(`{"accounts":[{"transactions":[{"AMOUNT":1,"amount":"\ud800"}],"transactions":[]}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		first := 0
		s, err := JSON{}.Read(context.Background(), bytes.NewReader(body), func(_ int, x *bankfeed.Transaction) bool {
			first++
			require.True(t, json.Valid(x.Raw))
			require.NotEmpty(t, x.Day())
			return true
		})
		if err != nil {
			var faults bankfeed.Faults
			require.ErrorAs(t, err, &faults)
			require.LessOrEqual(t, len(faults), maxFaults+1)
			for _, x := range faults {
				require.NotEmpty(t, x.Field)
				require.Less(t, len(x.Field), 200)
			}
			return
		}
		require.NotEmpty(t, s.Accounts())
		second := 0
		require.NoError(t, s.Transactions(context.Background(), func(account int, x bankfeed.Transaction) error {
			second++
			require.Less(t, account, len(s.Accounts()))
			_, err := bankfeed.ParseAmount(x.Money.Amount.String())
			return err
		}))
		require.Equal(t, first, second)
		require.NoError(t, s.Close())
	})
}

func BenchmarkJSON(b *testing.B) {
	body := large(10_000)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		s, err := JSON{}.Read(context.Background(), strings.NewReader(body), func(int, *bankfeed.Transaction) bool { return true })
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Transactions(context.Background(), func(int, bankfeed.Transaction) error { return nil }); err != nil {
			b.Fatal(err)
		}
		_ = s.Close()
	}
}
