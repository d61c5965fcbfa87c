package finapi_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/api/finapi"
	"github.com/bankfeed/bankfeed/internal/ingest"
)

// importer keeps what it was told.
type importer struct {
	orders   []ingest.ImportOrder
	bodies   []string
	callback *bankfeed.RequestCallback
	url      bankfeed.Secret // that the document names
	done     ingest.Imported
	err      error
}

func (i *importer) Import(_ context.Context, o ingest.ImportOrder, body io.Reader) (ingest.Imported, error) {
	b, err := io.ReadAll(body)
	if err == nil && i.url != "" {
		i.callback, err = o.Callback(i.url)
	}
	o.Callback = nil
	i.orders, i.bodies = append(i.orders, o), append(i.bodies, string(b))
	return i.done, errors.Join(err, i.err)
}

const (
	transactions = "/api/v1/dataSources/transactions"
	document     = `{"accounts":[{"iban":"DE13700800000061110500","transactions":[{"id":"1","amount":-1.50,"bankBookingDate":"2026-01-02"}]}],"more":1}`
)

func newImporter(t *testing.T) (*importer, *client) {
	i := &importer{done: ingest.Imported{Connection: 123456, Request: &bankfeed.Request{ID: 92}}}
	return i, newClient(t, func(c *finapi.Config) { c.Importer = i })
}

func TestAccountsAreHandedIn(t *testing.T) {
	i, c := newImporter(t)
	i.url = "https://client.example/cb"
	c.hub.connections[0].Channels = nil
	a := c.do("user", "POST", transactions, document, "Idempotency-Key", "k-1")
	require.Equal(t, 201, a.Code, a.Body)
	require.Contains(t, a.Body, `{"dataSourceId":"`+sourceID(123456)+`",`)
	require.Contains(t, a.Body, `"bankStatus":"SUCCESSFUL"`)
	require.Contains(t, a.Body, `"iban":"DE13700800000061110500"`)
	require.Equal(t, ingest.ImportOrder{Tenant: 1, User: 7, Client: "c", Sandbox: true, Key: "k-1"}, i.orders[0])
	sameText(t, document, i.bodies[0])
	require.Equal(t, &bankfeed.RequestCallback{Moment: bankfeed.MomentFinished, URL: "https://client.example/cb"}, i.callback)
	require.Equal(t, []string{"https://client.example/cb false"}, c.hub.checked)
	require.Equal(t, []bankfeed.RequestID{92}, c.hub.answered)

	for _, id := range []string{sourceID(123456), "123456"} {
		a = c.do("user", "PUT", transactions+"/"+id, document)
		require.Equal(t, 201, a.Code, a.Body)
		require.Equal(t, bankfeed.ConnectionID(123456), i.orders[len(i.orders)-1].Connection)
		require.Empty(t, i.orders[len(i.orders)-1].Key)
	}
	i.done.Request = nil
	require.Equal(t, 201, c.do("user", "POST", transactions, document).Code)
	require.Len(t, c.hub.answered, 3, "a repetition ends no request")
}

func TestWhatIsRefusedOfADocument(t *testing.T) {
	i, c := newImporter(t)
	c.refused(c.do("client", "POST", transactions, document), 403, "FORBIDDEN")
	c.refused(c.do("user", "POST", transactions, document, "Idempotency-Key", strings.Repeat("k", 256)), 400, "ILLEGAL_FIELD_VALUE")
	c.refused(c.do("user", "POST", transactions, document, "Content-Type", "application/xml"), 415, "UNSUPPORTED_MEDIA_TYPE")
	c.refused(c.do("user", "PUT", transactions+"/nothing", document), 404, "UNKNOWN_ENTITY")
	c.refused(c.do("user", "PUT", transactions+"/"+installation.UUID(bankfeed.KindConnection, 2, 1).String(), document), 404, "UNKNOWN_ENTITY")
	c.refused(c.do("user", "PUT", transactions, document), 405, "METHOD_NOT_ALLOWED")
	require.Empty(t, i.orders)
	i.url = "http://127.0.0.1/"
	c.refused(c.do("user", "POST", transactions, document), 400, "ILLEGAL_FIELD_VALUE")
	i.url = ""

	for _, x := range []struct {
		err    error
		status int
		code   string
	}{
		{ingest.ErrKeyReused, 422, "ILLEGAL_ENTITY_STATE"}, {ingest.ErrBankConnection, 422, "ILLEGAL_ENTITY_STATE"}, {bankfeed.ErrBusy, 423, "LOCKED"},
		{bankfeed.ErrNotFound, 404, "UNKNOWN_ENTITY"}, {bankfeed.Errorf(bankfeed.TooLarge, "too large"), 413, "BAD_REQUEST"},
	} {
		i.err = x.err
		c.refused(c.do("user", "POST", transactions, document), x.status, x.code)
	}
	several := bankfeed.Faults{bankfeed.InvalidField("accounts[0].transactions[1].amount", "must be a decimal amount"), bankfeed.InvalidField("accounts[1].iban", bankfeed.TextMissing)}
	i.err = bankfeed.Faults{bankfeed.InvalidField("accounts[0]", bankfeed.TextNotJSON+" at byte %d", 13)}
	c.refused(c.do("user", "POST", transactions, document), 400, "BAD_REQUEST")
	i.err = several
	a := c.do("user", "POST", transactions, document)
	require.Equal(t, 400, a.Code)
	require.True(t, strings.HasPrefix(a.Body, `{"errors":[{"message":"accounts[0].transactions[1].amount: must be a decimal amount","code":"ILLEGAL_FIELD_VALUE","type":"BUSINESS"},`+
		`{"message":"accounts[1].iban: is missing","code":"MISSING_FIELD","type":"BUSINESS"}],"date":`), a.Body)
}

func TestPathsThatLookLikeDocuments(t *testing.T) {
	require.True(t, finapi.TakesDocuments(transactions))
	require.True(t, finapi.TakesDocuments(transactions+"/"+sourceID(1)))
	for _, path := range []string{"/api/v1/dataSources", synchronization, transactions + "/", transactions + "/a/b", "/api/v1/dataSources/1/status"} {
		require.False(t, finapi.TakesDocuments(path), path)
	}
	c := newClient(t)
	a := c.do("user", "GET", transactions+"/123456", "")
	c.refused(a, 405, "METHOD_NOT_ALLOWED")
	require.Contains(t, a.Body, `"endpoint":"GET /api/v1/dataSources/transactions/{dataSourceId}"`, "as it was called")
}
