package oxlin_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/oxlin"
	"github.com/stretchr/testify/require"
)

var born = time.Date(2021, 12, 14, 23, 23, 56, 0, time.UTC) // 1639524236

func marshal(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return string(b)
}

// The full connection as recorded bodies of the vendor show it.
func TestConnectionDetail(t *testing.T) {
	expires, end := time.Unix(1647300580, 0), time.Unix(1639998109, 0)
	c := bankfeed.Connection{
		ID: 4400001, User: 3900001, ProviderID: "1022", ProviderName: "Example Bank", Status: bankfeed.ConnectionSuccess, CreatedAt: born, AutoSync: true,
		Channels: []bankfeed.Channel{{Mode: bankfeed.Redirect, Status: bankfeed.ChannelSuccess, Expires: &expires, LastSuccessAt: &end, LastEndAt: &end}},
	}
	p := bankfeed.Provider{ID: "1022", LogoURL: "https://example.org/1022.png", Channels: []bankfeed.ChannelDefinition{
		{Mode: bankfeed.Redirect, AccountTypes: []bankfeed.AccountType{bankfeed.AccountCurrent, bankfeed.AccountCard}},
		{Mode: bankfeed.Embedded, AccountTypes: []bankfeed.AccountType{bankfeed.AccountCurrent, bankfeed.AccountSavings, bankfeed.AccountLoan, bankfeed.AccountCard}},
	}}
	got := oxlin.RenderConnectionDetail(c, p, []bankfeed.Account{{Source: bankfeed.Redirect}, {Source: bankfeed.Redirect, OwnerName: "EXAMPLE OWNER"}})
	sameText(t, `{"id":"4400001","provider_id":"1022","name":"Example Bank","status":"SUCCESS","creation_date":1639524236,`+
		`"auto_sync":true,"logo_url":"https://example.org/1022.png","consent_per_account":false,"user_id":"3900001",`+
		`"owner":{"name":"EXAMPLE OWNER"},"channels":[`+
		`{"channel_definition_id":"102201","expires":1647300580,"status":"SUCCESS","last_success_date":1639998109,"last_end_date":1639998109,`+
		`"mode":"REDIRECT","credentials":[],"account_types":["CHECKINGS","CREDIT_CARD"],"channel_definition_unavailable":false},`+
		`{"channel_definition_id":"102200","status":"EMPTY","mode":"EMBEDDED","credentials":[],`+
		`"account_types":["CHECKINGS","SAVINGS","LOAN","CREDIT_CARD"],"eligible_accounts":false,"channel_definition_unavailable":false}]}`, marshal(t, got))

	// A provider that left the hub's list leaves its connections readable.
	gone := oxlin.RenderConnectionDetail(c, bankfeed.Provider{}, nil)
	require.Len(t, gone.Channels, 1)
	require.True(t, gone.Channels[0].ChannelDefinitionUnavailable)
	require.Contains(t, marshal(t, gone), `"account_types":[]`)

	require.Contains(t, marshal(t, oxlin.RenderConnectionDetail(bankfeed.Connection{Status: bankfeed.ConnectionNone}, p, nil)), `"channels":[]`)
}

func TestProviderAndUser(t *testing.T) {
	sameText(t, `{"id":"200","name":"WBX Test Bank","bic":"WBXTESTX","country":"FR","channel_definitions":[`+
		`{"id":"20001","mode":"REDIRECT","account_types":["CHECKINGS"],"credentials":[]},`+
		`{"id":"20000","mode":"EMBEDDED","account_types":["SAVINGS","LOAN"],"credentials":[{"key":"login","label":"Login","secret":false},{"key":"password","label":"Password","secret":true}]}]}`,
		marshal(t, oxlin.RenderProvider(bankfeed.Provider{ID: "200", Name: "WBX Test Bank", BIC: "WBXTESTX", Country: "FR", Channels: []bankfeed.ChannelDefinition{
			{Mode: bankfeed.Redirect, AccountTypes: []bankfeed.AccountType{bankfeed.AccountCurrent}},
			{
				Mode: bankfeed.Embedded, AccountTypes: []bankfeed.AccountType{bankfeed.AccountSavings, bankfeed.AccountLoan},
				Credentials: []bankfeed.CredentialField{{Key: "login", Label: "Login"}, {Key: "password", Label: "Password", Secret: true}},
			},
		}})))
	sameText(t, `{"id":"7","email":"a@example.org","creation_date":1639524236,"external_id":"mine","business_context":"business"}`,
		marshal(t, oxlin.RenderUser(bankfeed.User{ID: 7, Email: "a@example.org", CreatedAt: born, ExternalID: "mine", BusinessContext: bankfeed.Business})))
}

func TestAccountStatusAndUsage(t *testing.T) {
	yes, no := true, false
	for _, c := range []struct {
		account bankfeed.Account
		conn    bankfeed.ConnectionStatus
		status  oxlin.AccountStatus
		usage   oxlin.Usage
	}{
		{bankfeed.Account{Status: bankfeed.AccountOK, Usage: "PRIV"}, "SUCCESS", "ACTIVE", "PERSONAL"},
		{bankfeed.Account{Status: bankfeed.AccountReading, Usage: "ORGA"}, "RUNNING", "ACTIVE", "PROFESSIONAL"},
		{bankfeed.Account{Status: bankfeed.AccountFailed, IsBusiness: &yes}, "SUCCESS", "ERROR", "PROFESSIONAL"},
		{bankfeed.Account{Status: bankfeed.AccountGone, IsBusiness: &no}, "SUCCESS", "NOT_FOUND", "PERSONAL"},
		{bankfeed.Account{Status: bankfeed.AccountConsentPending}, "SUCCESS", "PENDING_CONSENT", ""},
		{bankfeed.Account{Status: bankfeed.AccountImported}, "NONE", "MANUAL", ""},
		{bankfeed.Account{Status: bankfeed.AccountOK, BankStatus: "deleted"}, "SUCCESS", "CLOSED", ""},
		{bankfeed.Account{Status: bankfeed.AccountFailed, BankStatus: "deleted"}, "SUCCESS", "ERROR", ""},
		{bankfeed.Account{Status: bankfeed.AccountOK}, "CLOSED", "CLOSED", ""},
	} {
		w := oxlin.RenderAccount(c.account, bankfeed.Connection{Status: c.conn})
		require.Equal(t, c.status, w.Status, "%+v", c.account)
		require.Equal(t, c.usage, w.Usage, "%+v", c.account)
	}
}

func TestMaskedIBANIsANumberAndNoIBAN(t *testing.T) {
	w := oxlin.RenderAccount(bankfeed.Account{Identifiers: []bankfeed.Identifier{{Type: bankfeed.IdentMaskedIBAN, Value: "PLxxxx1234"}}}, bankfeed.Connection{})
	require.Equal(t, "PLxxxx1234", w.AccountNumber)
	require.Empty(t, w.IBAN)
}

func TestShownBalance(t *testing.T) {
	fetched := born
	bal := func(kind, amount string, day bankfeed.Date) bankfeed.Balance {
		return bankfeed.Balance{Type: kind, Money: bankfeed.Money{Amount: bankfeed.MustAmount(amount), Currency: "EUR"}, ReferenceDate: day, FetchedAt: fetched}
	}
	for name, c := range map[string]struct {
		balances []bankfeed.Balance
		want     string
	}{
		"booked before available":            {[]bankfeed.Balance{bal("interimAvailable", "2", "2021-12-14"), bal("closingBooked", "1", "2021-12-13")}, "1"},
		"newest booked":                      {[]bankfeed.Balance{bal("closingBooked", "1", "2021-12-13"), bal("interimBooked", "2", "2021-12-14")}, "2"},
		"closing on the same day":            {[]bankfeed.Balance{bal("interimBooked", "2", "2021-12-14"), bal("closingBooked", "1", "2021-12-14")}, "1"},
		"newest of a type":                   {[]bankfeed.Balance{bal("closingBooked", "1", "2021-12-13"), bal("closingBooked", "3", "2021-12-14")}, "3"},
		"expected before available":          {[]bankfeed.Balance{bal("ITAV", "2", ""), bal("XPCD", "5", "")}, "5"},
		"opening before the bank's own word": {[]bankfeed.Balance{bal("house", "2", ""), bal("openingBooked", "4", "")}, "4"},
		"no date is the day of fetching":     {[]bankfeed.Balance{bal("closingBooked", "1", "2021-12-13"), bal("interimBooked", "9", "")}, "9"},
		"another currency does not count":    {[]bankfeed.Balance{{Type: "closingBooked", Money: bankfeed.Money{Amount: bankfeed.MustAmount("1"), Currency: "USD"}}}, ""},
		"none":                               {nil, ""},
		"scale and sign stay":                {[]bankfeed.Balance{bal("closingBooked", "-10.00", "")}, "-10.00"},
		"more digits than a float holds":     {[]bankfeed.Balance{bal("closingBooked", "12345678901234567.890", "")}, "12345678901234567.890"},
	} {
		w := oxlin.RenderAccount(bankfeed.Account{Currency: "EUR", Balances: c.balances}, bankfeed.Connection{})
		require.Equal(t, c.want, w.Balance.String(), name)
		require.Equal(t, c.want != "", w.BalanceDate != nil, name)
		if c.want != "" {
			require.Contains(t, marshal(t, w), `"balance":`+c.want+`,`, name)
		}
	}
}

func TestTransaction(t *testing.T) {
	money := func(s string) bankfeed.Money {
		return bankfeed.Money{Amount: bankfeed.MustAmount(s), Currency: "EUR"}
	}
	sameText(t, `{"id":"9","account_id":"501","amount":-12.30,"currency":"EUR","original_trx_id":"b-1","type":"DEBIT","origin":"ORIGINAL",`+
		`"date":1527724800,"import_date":1639524236,"booking_date":1527724800,"value_date":1527811200,"label":"Boulangerie",`+
		`"source":{"label":"CARTE 30/05 BOULANGERIE"},"remittance_information":["CARTE 30/05","BOULANGERIE"],"status":"BOOKED"}`,
		marshal(t, oxlin.RenderTransaction(bankfeed.Transaction{
			ID: 9, Account: 501, Status: bankfeed.TransactionBooked, Money: money("-12.30"), BankID: "b-1", BookingDate: "2018-05-31", ValueDate: "2018-06-01",
			Creditor: bankfeed.Party{Name: "Boulangerie"}, Debtor: bankfeed.Party{Name: "Camille Martin"},
			Remittance: []string{"CARTE 30/05", "BOULANGERIE"}, CreatedAt: born,
		})))
	for name, c := range map[string]struct {
		in                          bankfeed.Transaction
		label, kind, status, origin string
	}{
		"credit shows who paid":    {bankfeed.Transaction{Status: "done", Money: money("1"), Creditor: bankfeed.Party{Name: "me"}, Debtor: bankfeed.Party{Name: "you"}}, "you", "CREDIT", "BOOKED", "ORIGINAL"},
		"only the own side":        {bankfeed.Transaction{Status: "hold", Money: money("-1"), Debtor: bankfeed.Party{Name: "me"}}, "me", "DEBIT", "PENDING", "ORIGINAL"},
		"remittance":               {bankfeed.Transaction{Status: "pending", Money: money("-1"), Remittance: []string{"a", "b"}, AdditionalInfo: "c"}, "a b", "DEBIT", "PENDING", "ORIGINAL"},
		"additional information":   {bankfeed.Transaction{Status: "rejected", Money: money("0"), AdditionalInfo: "c", Structured: []string{"RF18"}}, "c", "OTHER", "REJECTED", "ORIGINAL"},
		"structured reference":     {bankfeed.Transaction{Status: "cancelled", Money: money("1"), Structured: []string{"RF18"}}, "RF18", "CREDIT", "CANCELLED", "ORIGINAL"},
		"cheque":                   {bankfeed.Transaction{Status: "booked", Money: money("-1"), CheckID: "77"}, "", "CHECK", "BOOKED", "ORIGINAL"},
		"scheduled":                {bankfeed.Transaction{Status: "scheduled", Money: money("-1")}, "", "DEBIT", "OTHER", "SCHEDULED"},
		"a bank's own other words": {bankfeed.Transaction{Status: "other", Money: money("-1")}, "", "DEBIT", "OTHER", "ORIGINAL"},
	} {
		w := oxlin.RenderTransaction(c.in)
		require.Equal(t, []string{c.label, c.kind, c.status, c.origin}, []string{w.Label, string(w.Type), string(w.Status), string(w.Origin)}, name)
		require.Contains(t, oxlin.TransactionStatus(c.status).HubStatuses(), c.in.Status, name)
		require.NotNil(t, w.RemittanceInformation, name)
	}
	require.Empty(t, oxlin.TransactionStatus("REFUNDED").HubStatuses())
	require.Equal(t, born, oxlin.SecondsOf(born).Time())
}

// sameText compares every byte: the order of members, and the digits of amounts.
func sameText(t testing.TB, want, got string, message ...any) {
	t.Helper()
	require.Equal(t, want, got, message...)
}
