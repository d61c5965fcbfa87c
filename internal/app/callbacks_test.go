package app

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/client"
	"github.com/bankfeed/bankfeed/internal/access"
)

// receiver is a client's own server: it believes what is signed.
type receiver struct {
	*httptest.Server
	mu      sync.Mutex
	hook    client.Webhook
	refused error
	got     map[string]received // by webhook-id
	answer  int
}

type received struct {
	http.Header
	body string
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{got: map[string]received{}, answer: http.StatusNoContent}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, _ := io.ReadAll(q.Body)
		r.mu.Lock()
		defer r.mu.Unlock()
		if err := r.hook.Verify(q.Header, body); err != nil {
			r.refused = err
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if r.answer < 300 {
			r.got[r.hook.ID(q.Header)] = received{q.Header, string(body)}
		}
		w.WriteHeader(r.answer)
	}))
	t.Cleanup(r.Close)
	return r
}

// set changes what the receiver answers and believes.
func (r *receiver) set(answer int, secrets ...bankfeed.Secret) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer, r.hook.Secrets, r.refused = answer, secrets, nil
}

func (r *receiver) all() map[string]received {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[string]received{}
	for id, x := range r.got {
		out[id] = x
	}
	return out
}

func TestCallbacksOverTheAPI(t *testing.T) {
	for _, engine := range []string{"sqlite", "postgres"} {
		t.Run(engine, func(t *testing.T) {
			var args []string
			if engine == "postgres" {
				usePostgres(t)
				args = []string{"--migrate"}
			}
			defer http.DefaultClient.CloseIdleConnections()
			r := newReceiver(t)
			a, _ := start(t, settings(t, append(args, "--callback-allow=127.0.0.0/8", "--callback-schedule=10ms", "--callback-jitter=0")...), io.Discard)
			made, err := a.Access().CreateClient(t.Context(), "", "client", true)
			require.NoError(t, err)
			who, err := a.Access().AuthenticateClient(t.Context(), made.ID, string(made.Secret))
			require.NoError(t, err)
			user, err := a.Access().CreateUser(t.Context(), bankfeed.Caller{Client: who}, access.NewUser{ExternalID: "customer-1"})
			require.NoError(t, err)
			var token struct {
				Access string `json:"access_token"`
			}
			require.Equal(t, 200, call(t, "POST", a.URL()+"/oauth/token", "", url.Values{"grant_type": {"client_credentials"}, "client_id": {made.ID},
				"client_secret": {string(made.Secret)}}.Encode(), &token))
			ask := func(method, path, body string, want int, answer any) {
				t.Helper()
				require.Equal(t, want, call(t, method, a.URL()+path, token.Access, body, answer), path)
			}
			happen := func(n int) {
				t.Helper()
				c := &bankfeed.Change{Tenant: who.Tenant, User: user.ID}
				for range n {
					c.Events = append(c.Events, bankfeed.Draft{Type: bankfeed.EventSyncSucceeded, At: time.Now(), Connection: 5, Session: 3, Snapshot: &bankfeed.Snapshot{
						Schema: 1, Build: "20260302.1", Node: "0123456789ab", User: bankfeed.UserRef{ID: user.ID, BusinessContext: bankfeed.Individual},
					}})
				}
				_, err := a.data.Store.Apply(t.Context(), c)
				require.NoError(t, err)
			}
			arrive := func(n int) map[string]received {
				t.Helper()
				require.Eventually(t, func() bool { return len(r.all()) >= n }, time.Minute, 5*time.Millisecond, "%v", r.refused)
				require.Len(t, r.all(), n)
				return r.all()
			}

			var sub struct{ ID, Secret, Status string }
			ask("POST", "/v1/callbacks", `{"url":"`+r.URL+`/in?key=1","types":["sync.*"],"headers":{"static":{"X-Mine":"7"}}}`, 201, &sub)
			require.NotEmpty(t, sub.Secret)
			first := bankfeed.Secret(sub.Secret)
			r.set(http.StatusNoContent, first)

			// What arrives is what the log shows, under the id of the event.
			const events = 30
			happen(events)
			got := arrive(events)
			var log struct {
				Items []struct {
					ID       string
					Position int64
				}
			}
			var raw struct{ Items []json.RawMessage }
			ask("GET", "/v1/events?limit=1000", "", 200, &log)
			ask("GET", "/v1/events?limit=1000", "", 200, &raw)
			require.Len(t, log.Items, events)
			for i, e := range log.Items {
				require.Contains(t, got, e.ID)
				require.JSONEq(t, string(raw.Items[i]), got[e.ID].body)
				require.Equal(t, strconv.FormatInt(e.Position, 10), got[e.ID].Get("Bankfeed-Sequence"))
				require.Equal(t, "7", got[e.ID].Get("X-Mine"))
				require.Equal(t, "sync.succeeded", got[e.ID].Get("Bankfeed-Event"))
			}
			var deliveries struct {
				Items []struct {
					ID, Event, State string
				}
			}
			listed := func(filter string, n int) {
				t.Helper()
				require.Eventually(t, func() bool {
					ask("GET", "/v1/callbacks/"+sub.ID+"/deliveries?"+filter, "", 200, &deliveries)
					return len(deliveries.Items) == n
				}, 20*time.Second, 20*time.Millisecond, filter)
			}
			listed("states=delivered", events)

			// A replay is told from what came first.
			var count struct{ Count int }
			ask("POST", "/v1/callbacks/"+sub.ID+"/replay", `{"dry_run":true,"last":10}`, 200, &count)
			require.Equal(t, 10, count.Count)
			ask("POST", "/v1/callbacks/"+sub.ID+"/replay", `{"last":10}`, 202, &count)
			again := 0
			for id, x := range arrive(events + 10) {
				if original := x.Get("Bankfeed-Original-Id"); original != "" {
					require.NotEqual(t, id, original)
					require.Equal(t, got[original].body, x.body)
					again++
				}
			}
			require.Equal(t, 10, again)

			// What comes while it is disabled is kept, and redriven under its id. What
			// its leader has in hand in that moment still goes out.
			ask("POST", "/v1/callbacks/"+sub.ID+"/disable", "", 200, &sub)
			require.Equal(t, "disabled", sub.Status)
			total := events + 10
			require.Eventually(t, func() bool {
				happen(1)
				total++
				ask("GET", "/v1/callbacks/"+sub.ID+"/deliveries?states=skipped", "", 200, &deliveries)
				return len(deliveries.Items) > 0
			}, 20*time.Second, 20*time.Millisecond)
			require.Eventually(t, func() bool {
				ask("GET", "/v1/callbacks/"+sub.ID+"/deliveries?states=skipped", "", 200, &deliveries)
				return len(r.all())+len(deliveries.Items) == total
			}, 20*time.Second, 20*time.Millisecond, "every event is delivered or kept")
			ask("POST", "/v1/callbacks/"+sub.ID+"/enable", "", 200, &sub)
			ask("POST", "/v1/callbacks/"+sub.ID+"/redrive", "", 202, &count)
			require.Equal(t, len(deliveries.Items), count.Count)
			kept := arrive(total)
			for _, d := range deliveries.Items {
				require.Contains(t, kept, d.Event)
			}

			// A new secret signs beside the old one, without a restart. Receivers that
			// know either believe it.
			var secret struct{ ID, Secret string }
			ask("POST", "/v1/callbacks/secrets", "", 201, &secret)
			for _, known := range []bankfeed.Secret{first, bankfeed.Secret(secret.Secret)} {
				only := client.Webhook{Secrets: []bankfeed.Secret{known}}
				require.Eventually(t, func() bool {
					for id, x := range r.all() {
						if kept[id].Header == nil && only.Verify(x.Header, []byte(x.body)) == nil {
							return true
						}
					}
					happen(1)
					return false
				}, 20*time.Second, 100*time.Millisecond)
			}

			// An answer of 410 ends it, and says so.
			r.set(http.StatusGone, first)
			happen(1)
			require.Eventually(t, func() bool {
				ask("GET", "/v1/callbacks/"+sub.ID, "", 200, &sub)
				return sub.Status == "disabled"
			}, 20*time.Second, 20*time.Millisecond)
		})
	}
}
