package identity

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
)

const (
	clearIBAN = "PL61109010140000071219812874"
	otherIBAN = "PL27114020040000300201355387"
)

func account(currency string, ids ...string) bankfeed.Account {
	a := bankfeed.Account{Currency: currency, Source: bankfeed.Redirect}
	for i := 0; i < len(ids); i += 2 {
		a.Identifiers = append(a.Identifiers, bankfeed.Identifier{Type: bankfeed.IdentifierType(ids[i]), Value: ids[i+1]})
	}
	return a
}

func gone(a bankfeed.Account) bankfeed.Account {
	a.RemovedAt = time.Unix(1, 0)
	return a
}

func TestMatchAccount(t *testing.T) {
	iban, bban, pan := string(bankfeed.IdentIBAN), string(bankfeed.IdentBBAN), string(bankfeed.IdentMaskedPAN)
	type list = []bankfeed.Account
	for name, c := range map[string]struct {
		existing list
		found    bankfeed.Account
		want     int // -1: new
	}{
		"nothing stored":                        {nil, account("PLN", iban, clearIBAN), -1},
		"same IBAN":                             {list{account("PLN", iban, otherIBAN), account("PLN", iban, clearIBAN)}, account("PLN", iban, clearIBAN), 1},
		"same IBAN, other currency":             {list{account("EUR", iban, clearIBAN)}, account("PLN", iban, clearIBAN), -1},
		"IBAN in groups and lower case":         {list{account("PLN", iban, clearIBAN)}, account("PLN", iban, "pl61 1090 1014 0000 0712 1981 2874"), 0},
		"sum account is its own":                {list{account("XXX", iban, clearIBAN), account("EUR", iban, clearIBAN)}, account("EUR", iban, clearIBAN), 1},
		"sum account is listed again":           {list{account("EUR", iban, clearIBAN), account("XXX", iban, clearIBAN)}, account("XXX", iban, clearIBAN), 1},
		"sum account beside an unknown one":     {list{account("", iban, clearIBAN)}, account("XXX", iban, clearIBAN), -1},
		"currency becomes known":                {list{account("", iban, clearIBAN)}, account("EUR", iban, clearIBAN), 0},
		"currency is left out":                  {list{account("EUR", iban, clearIBAN)}, account("", iban, clearIBAN), 0},
		"currency is left out, two fit":         {list{account("EUR", iban, clearIBAN), account("USD", iban, clearIBAN)}, account("", iban, clearIBAN), -1},
		"currency known, one without beside it": {list{account("", iban, clearIBAN), account("EUR", iban, clearIBAN)}, account("EUR", iban, clearIBAN), 1},
		"IBAN decides before the card":          {list{account("PLN", iban, clearIBAN, pan, "4111xxxxxxxx1111")}, account("PLN", iban, clearIBAN, pan, "4111xxxxxxxx2222"), 0},
		"IBAN differs, card is the same":        {list{account("PLN", iban, otherIBAN, pan, "4111xxxxxxxx1111")}, account("PLN", iban, clearIBAN, pan, "4111xxxxxxxx1111"), -1},
		"the BBAN joins":                        {list{account("PLN", bban, "12345678")}, account("PLN", iban, clearIBAN, bban, "12345678"), 0},
		"the BBAN is in the IBAN":               {list{account("PLN", bban, clearIBAN[4:])}, account("PLN", iban, clearIBAN), 0},
		"the IBAN is made of the BBAN":          {list{account("PLN", iban, clearIBAN)}, account("PLN", bban, clearIBAN[4:]), 0},
		"card":                                  {list{account("PLN", pan, "4111xxxxxxxx1111")}, account("PLN", pan, "4111XXXXXXXX1111"), 0},
		"card in another mask":                  {list{account("PLN", pan, "411111xxxxxx1111")}, account("PLN", pan, "************1111"), 0},
		"other card":                            {list{account("PLN", pan, "4111xxxxxxxx1111")}, account("PLN", pan, "4111xxxxxxxx1112"), -1},
		"other identifier":                      {list{account("PLN", "other", "K-1")}, account("PLN", "other", "K-1"), 0},
		"mask becomes clear":                    {list{account("PLN", iban, "PLxxxx2874")}, account("PLN", iban, clearIBAN), 0},
		"clear is listed masked":                {list{account("PLN", iban, clearIBAN)}, account("PLN", iban, "PL61************2874"), 0},
		"mask with another head":                {list{account("PLN", iban, clearIBAN)}, account("PLN", iban, "PL62************2874"), -1},
		"mask of another country":               {list{account("PLN", iban, clearIBAN)}, account("PLN", iban, "DExxxx2874"), -1},
		"mask with another tail":                {list{account("PLN", iban, "PLxxxx2875")}, account("PLN", iban, clearIBAN), -1},
		"mask that shows too little":            {list{account("PLN", iban, "PLxxxxxx74")}, account("PLN", iban, clearIBAN), -1},
		"mask longer than the number":           {list{account("PLN", pan, "123456xxxxx567")}, account("PLN", pan, "1234567"), -1},
		"mask fits two":                         {list{account("PLN", iban, clearIBAN), account("PLN", iban, "PL99109010140000071219992874")}, account("PLN", iban, "PLxxxx2874"), -1},
		"mask fits one of two by the BBAN": {list{account("PLN", iban, clearIBAN, bban, "1"), account("PLN", iban, "PL99109010140000071219992874", bban, "2")},
			account("PLN", iban, "PLxxxx2874", bban, "2"), 1},
		"a mask by its own kind becomes clear": {list{account("PLN", "maskedIban", "PLxxxx2874")}, account("PLN", iban, clearIBAN), 0},
		"clear is listed as a mask":            {list{account("PLN", iban, clearIBAN)}, account("PLN", "maskedIban", "PLxxxx2874"), 0},
		"the same mask":                        {list{account("PLN", "maskedIban", "PLxxxx2874")}, account("PLN", "maskedIban", "PLXXXX2874"), 0},
		"the same mask, another BBAN":          {list{account("PLN", "maskedIban", "PLxxxx2874", bban, "1")}, account("PLN", "maskedIban", "PLxxxx2874", bban, "2"), -1},
		"mask, currency unknown":               {list{account("PLN", iban, clearIBAN)}, account("", iban, "PLxxxx2874"), -1},
		"equal masks, another BBAN":            {list{account("PLN", iban, "PLxxxx2874", bban, "1")}, account("PLN", iban, "PLxxxx2874", bban, "2"), -1},
		"a valid IBAN with XX is not a mask":   {list{account("EUR", iban, "GB94XXXX60161331926819")}, account("EUR", iban, "GB96BARC20201530096819"), -1},
		"came back":                            {list{gone(account("PLN", iban, clearIBAN))}, account("PLN", iban, clearIBAN), 0},
		"a live one goes first":                {list{gone(account("PLN", iban, clearIBAN)), account("PLN", iban, clearIBAN)}, account("PLN", iban, clearIBAN), 1},
		"clear and removed before masked":      {list{account("PLN", iban, "PLxxxx2874"), gone(account("PLN", iban, clearIBAN))}, account("PLN", iban, clearIBAN), 1},
		"no identifier at all":                 {list{account("PLN", iban, clearIBAN), account("PLN")}, account("PLN"), 1},
		"no identifier is no wildcard":         {list{account("PLN", iban, clearIBAN)}, account("PLN"), -1},
	} {
		t.Run(name, func(t *testing.T) {
			i, ok := MatchAccount(c.existing, c.found)
			if !ok {
				i = -1
			}
			require.Equal(t, c.want, i)
		})
	}
}

func TestMergeAccount(t *testing.T) {
	iban := string(bankfeed.IdentIBAN)
	yes := true
	stored := account("PLN", iban, "PLxxxx2874")
	stored.ID, stored.Name, stored.Type, stored.BankType, stored.Status = 7, "Konto", bankfeed.AccountSavings, "SVGS", bankfeed.AccountFailed
	stored.Access = []bankfeed.AccountAccess{{Mode: bankfeed.Redirect}}

	t.Run("mask to clear", func(t *testing.T) {
		m, changed := MergeAccount(stored, account("PLN", iban, clearIBAN), bankfeed.Redirect)
		require.True(t, changed)
		require.Equal(t, clearIBAN, m.IBAN())
		require.EqualValues(t, 7, m.ID)
		require.Equal(t, bankfeed.AccountFailed, m.Status, "the hub's own fields stay")
		require.Equal(t, "PLxxxx2874", stored.IBAN(), "what was stored is not written to")
		again, changed := MergeAccount(m, account("PLN", iban, "PLxxxx2874"), bankfeed.Redirect)
		require.False(t, changed, "and never back")
		require.Equal(t, m, again)
	})
	t.Run("a mask by its own kind", func(t *testing.T) {
		masked, bban := account("PLN", "maskedIban", "PLxxxx2874", "bban", "1"), account("PLN", "bban", "1")
		m, changed := MergeAccount(bban, masked, bankfeed.Redirect)
		require.True(t, changed)
		require.Equal(t, masked.Identifiers, m.Identifiers, "in the order in which they identify")
		m, changed = MergeAccount(m, account("PLN", iban, clearIBAN), bankfeed.Redirect)
		require.True(t, changed)
		require.Equal(t, account("PLN", iban, clearIBAN, "bban", "1").Identifiers, m.Identifiers, "the IBAN takes its place")
		again, changed := MergeAccount(m, masked, bankfeed.Redirect)
		require.False(t, changed)
		require.Equal(t, m, again)
	})
	t.Run("what is left out stays", func(t *testing.T) {
		m, changed := MergeAccount(stored, bankfeed.Account{Type: bankfeed.AccountCurrent}, bankfeed.Redirect)
		require.False(t, changed)
		require.Equal(t, stored, m)
	})
	t.Run("the source's word replaces", func(t *testing.T) {
		m, changed := MergeAccount(stored, bankfeed.Account{Name: "New", Type: bankfeed.AccountCurrent, BankType: "CACC", IsBusiness: &yes, Currency: "PLN",
			Identifiers: []bankfeed.Identifier{{Type: bankfeed.IdentBBAN, Value: "1"}}}, bankfeed.Redirect)
		require.True(t, changed)
		require.Equal(t, "New", m.Name)
		require.Equal(t, bankfeed.AccountCurrent, m.Type)
		require.Equal(t, &yes, m.IsBusiness)
		require.Equal(t, []bankfeed.Identifier{{Type: bankfeed.IdentIBAN, Value: "PLxxxx2874"}, {Type: bankfeed.IdentBBAN, Value: "1"}}, m.Identifiers)
	})
	t.Run("the other channel fills gaps", func(t *testing.T) {
		found := account("PLN", iban, clearIBAN)
		found.Name, found.OwnerName, found.Balances = "Other", "Jan", []bankfeed.Balance{{Type: "expected"}}
		m, changed := MergeAccount(stored, found, bankfeed.Embedded)
		require.True(t, changed)
		require.Equal(t, bankfeed.Redirect, m.Source)
		require.Equal(t, "Konto", m.Name)
		require.Equal(t, "Jan", m.OwnerName)
		require.Equal(t, clearIBAN, m.IBAN(), "a clear identifier is one to whoever told it")
		require.Empty(t, m.Balances)
		again, changed := MergeAccount(m, found, bankfeed.Embedded)
		require.False(t, changed)
		require.Equal(t, m, again)
	})
	t.Run("source", func(t *testing.T) {
		for _, c := range []struct {
			source bankfeed.Mode
			access []bankfeed.AccountAccess
			mode   bankfeed.Mode
			want   bankfeed.Mode
		}{
			{bankfeed.Embedded, []bankfeed.AccountAccess{{Mode: bankfeed.Embedded}}, bankfeed.Redirect, bankfeed.Redirect},
			{bankfeed.Redirect, []bankfeed.AccountAccess{{Mode: bankfeed.Redirect}}, bankfeed.Embedded, bankfeed.Redirect},
			{bankfeed.Redirect, nil, bankfeed.Embedded, bankfeed.Embedded}, // REDIRECT lists it no more
			{bankfeed.Embedded, nil, bankfeed.Embedded, bankfeed.Embedded},
		} {
			m, changed := MergeAccount(bankfeed.Account{Source: c.source, Access: c.access}, bankfeed.Account{}, c.mode)
			require.Equal(t, c.want, m.Source)
			require.Equal(t, c.want != c.source, changed)
		}
	})
}

func TestMergeBalances(t *testing.T) {
	at := time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC)
	b := func(kind, amount, currency string, day bankfeed.Date) bankfeed.Balance {
		return bankfeed.Balance{Type: kind, Money: bankfeed.Money{Amount: bankfeed.MustAmount(amount), Currency: currency}, ReferenceDate: day}
	}
	stored := []bankfeed.Balance{b("expected", "1.00", "EUR", "2024-01-01"), b("closingBooked", "2", "EUR", "2024-01-01")}

	newer := b("expected", "1.0", "EUR", "2024-01-02")
	newer.FetchedAt, newer.LastChangeAt = at, &at
	m, changed := MergeBalances(stored, []bankfeed.Balance{newer})
	require.False(t, changed, "dates and scale")
	require.Equal(t, []bankfeed.Balance{newer, stored[1]}, m, "but they are kept")
	require.Equal(t, bankfeed.Date("2024-01-01"), stored[0].ReferenceDate, "what was stored is not written to")

	m, changed = MergeBalances(stored, []bankfeed.Balance{b("closingBooked", "3", "EUR", "")})
	require.True(t, changed)
	require.Equal(t, "3", m[1].Money.Amount.String())

	m, changed = MergeBalances(stored, []bankfeed.Balance{b("expected", "1.00", "USD", "")})
	require.True(t, changed, "a currency of its own")
	require.Len(t, m, 3)

	m, changed = MergeBalances(stored, []bankfeed.Balance{b("closingBooked", "9", "EUR", "2024-01-01"), b("closingBooked", "2.00", "EUR", "2024-01-03"), b("closingBooked", "8", "EUR", "2024-01-02")})
	require.False(t, changed, "the latest of several days is what was known")
	require.Equal(t, bankfeed.Date("2024-01-03"), m[1].ReferenceDate)

	_, changed = MergeBalances(stored, nil)
	require.False(t, changed)
}
