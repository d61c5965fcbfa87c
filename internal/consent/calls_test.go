package consent_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/connector/berlingroup"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
)

// counting counts the calls that go out to a bank.
type counting struct{ n atomic.Int64 }

func (c *counting) RoundTrip(r *http.Request) (*http.Response, error) {
	c.n.Add(1)
	return http.DefaultTransport.RoundTrip(r)
}

// calls lists the calls that came into the log since the last time.
func (w *world) calls() (list []bankfeed.Event) {
	w.t.Helper()
	for _, e := range w.events() {
		if e.Type == bankfeed.EventBankCalled {
			list = append(list, e)
		}
	}
	return list
}

func TestEveryCallOfALinkIsAnEvent(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		for name, do := range map[string]func(w *world, l bankfeed.Linked){
			"opened too often": func(w *world, l bankfeed.Linked) {
				for range 12 {
					w.get(l.Steps[0].RedirectURL)
				}
			},
			"two ways back at once": func(w *world, l bankfeed.Linked) {
				back := w.atBank(w.sent(w.get(l.Steps[0].RedirectURL)), "fine")
				done := make(chan struct{}, 2)
				for range 2 {
					go func() {
						defer func() { done <- struct{}{} }()
						if res, err := w.browser.Get(back); err == nil {
							_ = res.Body.Close()
						}
					}()
				}
				<-done
				<-done
			},
			"refused": func(w *world, l bankfeed.Linked) { w.get(w.refuse(w.sent(w.get(l.Steps[0].RedirectURL)))) },
			"the bank is down": func(w *world, l bankfeed.Linked) {
				w.whole(`{"event":"bank_down"}`)
				w.get(l.Steps[0].RedirectURL)
			},
			"no answer": func(w *world, l bankfeed.Linked) {
				w.whole(`{"event":"bank_down","how":"close"}`)
				w.get(l.Steps[0].RedirectURL)
			},
		} {
			t.Run(name, func(t *testing.T) {
				out := &counting{}
				w := newWorld(t, s, berlingroup.New(&http.Client{Transport: out}))
				in := w.linking(redirect)
				in.SessionExternalID = "mine-7"
				do(w, w.link(in))
				calls := w.calls()
				require.NotZero(t, out.n.Load())
				require.Len(t, calls, int(out.n.Load()))
				for _, e := range calls {
					require.Equal(t, bankfeed.ByUser, e.Snapshot.Initiator)
					require.Equal(t, "mine-7", e.Snapshot.Session.ExternalID)
					c := e.Snapshot.Call
					if c.Status != 201 && c.Status != 200 {
						require.NotEmpty(t, c.ErrorBody+c.Exception)
					}
					require.False(t, strings.Contains(c.URL, "consents/") && !strings.Contains(c.URL, "consents/***"), c.URL)
				}
			})
		}
	})
}

// whole is an event of the whole bank.
func (w *world) whole(event string) {
	w.t.Helper()
	res, err := http.Post(w.bankURL+"/sandbox/events", "application/json", strings.NewReader(event))
	require.NoError(w.t, err)
	require.NoError(w.t, res.Body.Close())
	require.Equal(w.t, http.StatusOK, res.StatusCode)
}

func TestARemovalIsPartOfNoSession(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newWorld(t, s)
		id := w.both()
		in := w.linking(redirect)
		in.Renew = id
		w.link(in) // waits for its user meanwhile
		w.events()
		st := w.state(id)
		require.NoError(t, w.consent.DeleteConsent(t.Context(), w.tenant, w.user.ID, st.Confirmed(bankfeed.Embedded).ID))
		w.work()
		found := map[bankfeed.EventType]bool{}
		for _, e := range w.events() {
			if e.Snapshot == nil {
				continue
			}
			require.Nil(t, e.Snapshot.Session, e.Type)
			require.Equal(t, bankfeed.ByUser, e.Snapshot.Initiator)
			found[e.Type] = true
		}
		require.True(t, found[bankfeed.EventConsentDeleted])
		require.NotNil(t, w.state(id).Session, "which goes on")
	})
}
