package demo

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	sdk "github.com/bankfeed/bankfeed/client"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

// hub answers from memory.
type hub map[string]any // by path

func (h hub) RoundTrip(r *http.Request) (*http.Response, error) {
	answer := h[r.URL.Path]
	if r.URL.Path == "/v1/events" && r.URL.Query().Get("after") == "end" {
		answer = map[string]any{"items": []any{}, "next": "end"}
	}
	body, err := json.Marshal(answer)
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(body)), Request: r}, err
}

func id(n byte) bankfeed.UUID { return bankfeed.UUID{15: n} }

func consumed(h hub) (*Journey, *consumer) {
	c := &consumer{print: &printer{out: io.Discard}, copies: map[bankfeed.UUID]int{}}
	return &Journey{consumer: c, owner: &client{base: "http://hub", http: &http.Client{Transport: h}}, print: c.print}, c
}

func logOf(types ...bankfeed.EventType) map[string]any {
	var items []map[string]any
	for i, t := range types {
		items = append(items, map[string]any{"id": id(byte(i + 1)), "type": t})
	}
	return map[string]any{"items": items, "next": "end"}
}

func TestWhatIsMissingIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j, c := consumed(hub{
			"/v1/events":  logOf(bankfeed.EventAccountCreated, bankfeed.EventTransactionCreated, bankfeed.EventTransactionUpdated, bankfeed.EventBankCalled),
			"/v1/streams": map[string]any{"items": []any{map[string]any{"id": "main", "trouble": []string{"the broker is gone"}}}},
		})
		require.NoError(t, c.AccountMessage(t.Context(), sdk.Delivery{ID: id(1)}, &banqup.AccountMessage{}))
		require.NoError(t, c.AspspCall(t.Context(), sdk.Delivery{ID: id(3)}, &banqup.AspspCall{})) // under the id of another kind
		_, _, err := j.arrived(t.Context())
		require.EqualError(t, err, "of 4 messages these did not arrive within 2m0s: 2 TransactionMessage, 1 AspspCall; the hub says: the broker is gone")
	})
}

func TestRepeatedMessagesAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j, c := consumed(hub{"/v1/events": logOf(bankfeed.EventTransactionCreated, bankfeed.EventAccountFinished)})
		for range 3 {
			require.NoError(t, c.TransactionMessage(t.Context(), sdk.Delivery{ID: id(1)}, &banqup.TransactionMessage{}))
		}
		require.NoError(t, c.SessionFinishedMessage(t.Context(), sdk.Delivery{ID: id(2)}, &banqup.SessionFinishedMessage{}))
		list, verdict, err := j.arrived(t.Context())
		require.NoError(t, err)
		require.Len(t, list, 2)
		require.Equal(t, "2 events of the log have a message, 2 messages arrived: 0 lost, 2 repeated", verdict)
	})
}

func TestStrangeMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j, c := consumed(hub{"/v1/events": logOf(bankfeed.EventConsentCreated), "/v1/streams": map[string]any{"items": []any{}}})
		for n := range byte(3) {
			require.NoError(t, c.ConsentMessage(t.Context(), sdk.Delivery{ID: id(n + 1)}, &banqup.ConsentMessage{}))
		}
		_, _, err := j.arrived(t.Context())
		require.EqualError(t, err, "2 messages arrived that are not in the log: somebody else publishes to the same exchanges")
	})
}

// Every kind must come, not only what happens to be in the log.
func TestEveryKindMustArrive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j, c := consumed(hub{"/v1/events": logOf(bankfeed.EventAccountCreated)})
		require.NoError(t, c.AccountMessage(t.Context(), sdk.Delivery{ID: id(1)}, &banqup.AccountMessage{}))
		require.EqualError(t, j.received(t.Context()), "no TransactionMessage arrived")
	})
}

func TestAnotherHubLeads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j, _ := consumed(hub{"/token": map[string]any{"access_token": "x"}, "/v1/streams": map[string]any{"items": []any{map[string]any{"id": "main"}}}})
		j.client = j.owner
		require.ErrorContains(t, j.openStream(t.Context()), "another hub may stream into the same virtual host")
	})
}
