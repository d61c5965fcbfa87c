package app

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/access"
	"github.com/bankfeed/bankfeed/internal/backing/backingtest"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

// A node relays events and sends them again on request: to one queue, under new
// ids that name the first ones, with the same message byte for byte.
func TestReplayOverTheAPI(t *testing.T) {
	defer http.DefaultClient.CloseIdleConnections()
	address := backingtest.AMQPURL(t)
	conn, err := amqp.Dial(address)
	require.NoError(t, err)
	defer conn.Close()
	ch, err := conn.Channel()
	require.NoError(t, err)
	for _, name := range []string{"consumer", "again"} {
		_, err := ch.QueueDeclare(name, true, false, false, false, nil)
		require.NoError(t, err)
	}
	for _, k := range banqup.Kinds {
		require.NoError(t, ch.ExchangeDeclare(k.Exchange(), amqp.ExchangeFanout, true, false, false, false, nil))
		require.NoError(t, ch.QueueBind("consumer", "", k.Exchange(), false, nil))
	}
	messages := map[string]map[string]json.RawMessage{"consumer": {}, "again": {}} // by the event's id
	take := func(queue string) int {
		for {
			d, ok, err := ch.Get(queue, true)
			require.NoError(t, err)
			if !ok {
				return len(messages[queue])
			}
			var envelope struct {
				Message json.RawMessage `json:"message"`
			}
			require.NoError(t, json.Unmarshal(d.Body, &envelope))
			id := d.MessageId
			if original, replayed := d.Headers[banqup.HeaderOriginalID].(string); replayed {
				require.NotEqual(t, original, id)
				id = original
			}
			messages[queue][id] = envelope.Message
		}
	}

	a, _ := start(t, settings(t, "--amqp-url="+address), io.Discard)
	made, err := a.Access().CreateClient(t.Context(), "", "client", false)
	require.NoError(t, err)
	client, err := a.Access().AuthenticateClient(t.Context(), made.ID, string(made.Secret))
	require.NoError(t, err)
	user, err := a.Access().CreateUser(t.Context(), bankfeed.Caller{Client: client}, access.NewUser{ExternalID: "customer-1"})
	require.NoError(t, err)
	c := &bankfeed.Change{Tenant: client.Tenant, User: user.ID}
	const transactions = 20
	for i := range transactions {
		c.Events = append(c.Events, bankfeed.Draft{Type: bankfeed.EventTransactionCreated, At: time.Now(), Connection: 5, Account: 4, Session: 3, Snapshot: &bankfeed.Snapshot{
			Schema: 1, Initiator: bankfeed.ByUser, Build: "20260302.1", Node: "0123456789ab", User: bankfeed.UserRef{ID: user.ID, BusinessContext: bankfeed.Individual},
			Account:     &bankfeed.Account{ID: 4, Currency: "PLN", Identifiers: []bankfeed.Identifier{{Type: bankfeed.IdentIBAN, Value: "PL27114020040000300201355387"}}},
			Transaction: &bankfeed.Transaction{ID: bankfeed.TransactionID(i + 1), Status: bankfeed.TransactionBooked, Money: bankfeed.Money{Amount: bankfeed.MustAmount("-1.150"), Currency: "PLN"}},
		}})
	}
	_, err = a.data.Store.Apply(t.Context(), c)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return take("consumer") == transactions }, 30*time.Second, 50*time.Millisecond)

	var token struct {
		Access string `json:"access_token"`
	}
	require.Equal(t, 200, call(t, "POST", a.URL()+"/oauth/token", "", url.Values{"grant_type": {"client_credentials"}, "client_id": {made.ID},
		"client_secret": {string(made.Secret)}}.Encode(), &token))
	var answer struct {
		Replay struct{ ID string }   `json:"replay"`
		Count  struct{ Total int64 } `json:"count"`
	}
	require.Equal(t, 200, call(t, "POST", a.URL()+"/v1/replays", token.Access, `{"account":"4","dry_run":true}`, &answer))
	require.EqualValues(t, transactions, answer.Count.Total)
	require.Equal(t, 202, call(t, "POST", a.URL()+"/v1/replays", token.Access, `{"account":"4","queue":"again"}`, &answer))
	require.Eventually(t, func() bool {
		var now struct{ Status string }
		require.Equal(t, 200, call(t, "GET", a.URL()+"/v1/replays/"+answer.Replay.ID, token.Access, "", &now))
		return now.Status == "done"
	}, 30*time.Second, 50*time.Millisecond)
	require.Equal(t, transactions, take("again"))
	require.Equal(t, messages["consumer"], messages["again"])
}

// call sends a form or, with a token, JSON, and reads the answer.
func call(t *testing.T, method, address, token, body string, answer any) (status int) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if token != "" {
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.NoError(t, json.NewDecoder(resp.Body).Decode(answer))
	return resp.StatusCode
}
