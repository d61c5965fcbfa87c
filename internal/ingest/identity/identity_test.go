package identity

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/bankfeed/bankfeed"
)

func full() bankfeed.Transaction {
	after := bankfeed.Money{Amount: bankfeed.MustAmount("99.90"), Currency: "EUR"}
	return bankfeed.Transaction{
		Status: bankfeed.TransactionBooked, Money: bankfeed.Money{Amount: bankfeed.MustAmount("-10.00"), Currency: "EUR"},
		BookingDate: "2024-02-29", ValueDate: "2024-03-01", TransactionDate: "2024-02-28",
		BankID: "T1", EntryReference: "E1", EndToEndID: "X1", MandateID: "M1", CreditorID: "DE98ZZZ09999999999", CheckID: "C1",
		Creditor:         bankfeed.Party{Name: "Shop", Address: "Street 1", Agent: "COBADEFF", Account: bankfeed.Identifier{Type: bankfeed.IdentIBAN, Value: "DE38760700240320465700"}},
		Debtor:           bankfeed.Party{Name: "Me", Agent: "XBANDECG", Account: bankfeed.Identifier{Type: bankfeed.IdentBBAN, Value: "123456"}},
		UltimateCreditor: "UC", UltimateDebtor: "UD", Remittance: []string{"line one", "two"}, Structured: []string{"RF18"},
		AdditionalInfo: "more", PurposeCode: "SALA", BankCode: "PMNT-RCDT-ESCT", ProprietaryCode: "P1", BalanceAfter: &after,
		Exchange: []bankfeed.Exchange{{SourceCurrency: "USD", TargetCurrency: "EUR", UnitCurrency: "EUR", Rate: "1.0850", Date: "2024-02-28"}},
	}
}

// TestRecipe holds what is stored in every installation. A change here needs a
// new Recipe and a way to re-key what the old one wrote.
func TestRecipe(t *testing.T) {
	x := full()
	require.Equal(t, bankfeed.Identity{Key: 0xa518454c87cebc94, Fingerprint: 0x67ae1e29b814ae3e, Content: 0xbe28ffd89b0184f6}, Of(&x))
	x = bankfeed.Transaction{Money: bankfeed.Money{Amount: bankfeed.MustAmount("1"), Currency: "PLN"}, Remittance: []string{"Zażółć\u00a0gęślą"}}
	require.Equal(t, bankfeed.Identity{Fingerprint: 0x5ae7bceb029766bb, Content: 0x3dca4ce2bd7f1890}, Of(&x))
}

// parts names which of the three differ.
func parts(a, b bankfeed.Identity) string {
	var s strings.Builder
	if a.Key != b.Key {
		s.WriteString("K")
	}
	if a.Fingerprint != b.Fingerprint {
		s.WriteString("F")
	}
	if a.Content != b.Content {
		s.WriteString("C")
	}
	return s.String()
}

func TestWhatMakesADifference(t *testing.T) {
	type tx = bankfeed.Transaction
	for name, c := range map[string]struct {
		change func(*tx)
		want   string
	}{
		"nothing":                      {func(*tx) {}, ""},
		"what is the hub's":            {func(x *tx) { x.ID, x.Account, x.User, x.Raw = 1, 2, 3, []byte("{}") }, ""},
		"booked or pending":            {func(x *tx) { x.Status = bankfeed.TransactionPending }, "C"},
		"amount":                       {func(x *tx) { x.Money.Amount = bankfeed.MustAmount("-10.01") }, "FC"},
		"scale":                        {func(x *tx) { x.Money.Amount = bankfeed.MustAmount("-10.0") }, ""},
		"currency":                     {func(x *tx) { x.Money.Currency = "USD" }, "FC"},
		"booking day":                  {func(x *tx) { x.BookingDate = "2024-03-01" }, "FC"},
		"value day":                    {func(x *tx) { x.ValueDate = "2024-03-02" }, "C"},
		"transaction day":              {func(x *tx) { x.TransactionDate = "" }, "C"},
		"id":                           {func(x *tx) { x.BankID = "T2" }, "K"},
		"id with blanks":               {func(x *tx) { x.BankID = " T1\n" }, ""},
		"id in another case":           {func(x *tx) { x.BankID = "t1" }, "K"},
		"no id":                        {func(x *tx) { x.BankID = "" }, "K"},
		"reference beside an id":       {func(x *tx) { x.EntryReference = "E2" }, ""},
		"creditor of a debit":          {func(x *tx) { x.Creditor.Name = "Other" }, "FC"},
		"creditor in capitals":         {func(x *tx) { x.Creditor.Name = "SHOP " }, "C"},
		"creditor's account":           {func(x *tx) { x.Creditor.Account.Value = "DE1" }, "FC"},
		"creditor's address":           {func(x *tx) { x.Creditor.Address = "" }, "C"},
		"creditor's bank":              {func(x *tx) { x.Creditor.Agent = "" }, "C"},
		"own side":                     {func(x *tx) { x.Debtor.Name = "Myself" }, "C"},
		"remittance in other lines":    {func(x *tx) { x.Remittance = []string{"line", "ONETWO "} }, "C"},
		"remittance":                   {func(x *tx) { x.Remittance = []string{"line three"} }, "FC"},
		"text moved between fields":    {func(x *tx) { x.Remittance, x.Structured = []string{"line one", "twoRF18"}, nil }, "FC"},
		"end-to-end id":                {func(x *tx) { x.EndToEndID = "X2" }, "FC"},
		"mandate":                      {func(x *tx) { x.MandateID = "" }, "C"},
		"creditor id":                  {func(x *tx) { x.CreditorID = "" }, "C"},
		"check":                        {func(x *tx) { x.CheckID = "" }, "C"},
		"ultimate creditor":            {func(x *tx) { x.UltimateCreditor = "" }, "C"},
		"ultimate debtor":              {func(x *tx) { x.UltimateDebtor = "" }, "C"},
		"additional information":       {func(x *tx) { x.AdditionalInfo = "" }, "C"},
		"purpose":                      {func(x *tx) { x.PurposeCode = "" }, "C"},
		"bank's code":                  {func(x *tx) { x.BankCode = "" }, "C"},
		"proprietary code":             {func(x *tx) { x.ProprietaryCode = "" }, "C"},
		"balance after":                {func(x *tx) { x.BalanceAfter = &bankfeed.Money{Currency: "EUR"} }, "C"},
		"balance after, scale":         {func(x *tx) { x.BalanceAfter = &bankfeed.Money{Amount: bankfeed.MustAmount("99.9"), Currency: "EUR"} }, ""},
		"no balance after":             {func(x *tx) { x.BalanceAfter = nil }, "C"},
		"exchange rate":                {func(x *tx) { x.Exchange = []bankfeed.Exchange{{Rate: "1"}} }, "C"},
		"no exchange":                  {func(x *tx) { x.Exchange = nil }, "C"},
		"end-to-end id NOTPROVIDED":    {func(x *tx) { x.EndToEndID = "NOTPROVIDED" }, "FC"},
		"both sides without the other": {func(x *tx) { x.Creditor = bankfeed.Party{} }, "FC"},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := full(), full()
			c.change(&b)
			require.Equal(t, c.want, parts(Of(&a), Of(&b)))
		})
	}
	t.Run("a missing end-to-end id in all its spellings", func(t *testing.T) {
		a, b := full(), full()
		a.EndToEndID, b.EndToEndID = "", "NOTPROVIDED"
		require.Equal(t, "C", parts(Of(&a), Of(&b)))
	})
	t.Run("without a booking day the next one counts", func(t *testing.T) {
		a, b := full(), full()
		a.BookingDate, b.BookingDate, b.ValueDate = "", "", "2024-03-02"
		require.Equal(t, "FC", parts(Of(&a), Of(&b)))
	})
	t.Run("the debtor of a credit", func(t *testing.T) {
		a, b := full(), full()
		a.Money.Amount, b.Money.Amount = a.Money.Amount.Abs(), b.Money.Amount.Abs()
		b.Debtor.Name = "Somebody"
		require.Equal(t, "FC", parts(Of(&a), Of(&b)))
	})
}

func TestKey(t *testing.T) {
	key := func(id, reference string) uint64 {
		return Of(&bankfeed.Transaction{BankID: id, EntryReference: reference}).Key
	}
	for _, none := range []string{"", " ", "\t\n", "NOTPROVIDED", "NotProvided", " nonref ", "NON REF", "NOT-PROVIDED", "N/A", "null", "None", "unknown", "0", "000000", "00000000000000000000000000", "-", "---", "."} {
		require.Zero(t, key(none, ""), none)
		require.Equal(t, key("", "E1"), key(none, "E1"), none)
		require.Equal(t, key("T1", ""), key("T1", none), none)
	}
	for _, some := range []string{"1", "A", "NONREF1", "NOTPROVIDEDNOTPROVIDED", "00000000000000000000000000000001", "0000000000000001", "ü", "NA1"} {
		require.NotZero(t, key(some, ""), some)
	}
	require.NotEqual(t, key("X", ""), key("", "X"), "an id and a reference are different things")
}

// TestFingerprintIgnoresLayout: however a bank breaks and pads a text, it is the
// same; any other letter makes it another.
func TestFingerprintIgnoresLayout(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOfN(rapid.StringMatching(`[a-z0-9äß€]{1,8}`), 1, 6).Draw(t, "words")
		blank := rapid.SampledFrom([]string{" ", "  ", "\t", "\n", "\u00a0", ""})
		layout := func() []string {
			lines := []string{""}
			for _, w := range words {
				if rapid.Bool().Draw(t, "upper") {
					w = strings.Map(func(r rune) rune {
						if r < 0x80 {
							return []rune(strings.ToUpper(string(r)))[0]
						}
						return r
					}, w)
				}
				lines[len(lines)-1] += w + blank.Draw(t, "blank")
				if rapid.Bool().Draw(t, "break") {
					lines = append(lines, "")
				}
			}
			return lines
		}
		a, b := bankfeed.Transaction{Remittance: layout()}, bankfeed.Transaction{Remittance: layout()}
		require.Equal(t, Of(&a).Fingerprint, Of(&b).Fingerprint)
		b.Remittance = append(b.Remittance, "x")
		require.NotEqual(t, Of(&a).Fingerprint, Of(&b).Fingerprint)
	})
}

func BenchmarkOf(b *testing.B) {
	x := full()
	b.ReportAllocs()
	for b.Loop() {
		Of(&x)
	}
}
