//go:build unix

package test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// fact is what the audit looks at in an event.
type fact struct {
	ID       string `json:"id"`
	Position int64  `json:"position"`
	Type     string `json:"type"`
	User     string `json:"user"`
	Account  string `json:"account"`
	Session  string `json:"session"`
	Data     struct {
		Node        string `json:"node"`
		Transaction struct {
			ID     string `json:"id"`
			BankID string `json:"bank_id"`
		} `json:"transaction"`
	} `json:"data"`
}

// ends reports whether a fact is the end of a session.
func (f fact) ends() bool { return f.Type == "sync.succeeded" || f.Type == "sync.failed" }

type eventPage struct {
	Items []fact `json:"items"`
	Next  string `json:"next"`
}

// history reads the whole log.
func (c *company) history() (all []fact) {
	c.t.Helper()
	for after := ""; ; {
		var page eventPage
		c.must(http.MethodGet, "/v1/events?limit=1000&after="+after, nil, &page)
		if len(page.Items) == 0 {
			return all
		}
		all, after = append(all, page.Items...), page.Next
	}
}

// lively are all types but transaction.*, which are most of the work to read.
// Each page of transactions is one commit with the bank.called that brought it,
// so a reader of these notices a page that it misses.
var lively = []string{"connection.*", "sync.*", "channel.*", "consent.*", "account.*", "session.*", "bank.called"}

// reader follows the log over all that happens to the node that it asks: when
// there is no answer, or only half of one, it asks again from where it stands.
type reader struct {
	types []string // none: all

	mu      sync.Mutex
	facts   []fact
	refused []string // answers that would have made a client give up
	broken  int      // answers that did not come
}

// follow starts a reader of some types that ends with the test.
func (c *company) follow(types ...string) *reader {
	r := &reader{types: types}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		again := time.NewTicker(20 * time.Millisecond)
		defer again.Stop()
		for after := ""; ctx.Err() == nil; {
			var page eventPage
			status, err := c.do(ctx, http.MethodGet, "/v1/events?limit=1000&wait=5&types="+strings.Join(types, ",")+"&after="+after, nil, &page)
			if r.add(page.Items, status, err) {
				after = page.Next
				continue
			}
			select {
			case <-again.C:
			case <-ctx.Done():
			}
		}
	})
	c.t.Cleanup(func() {
		stop()
		running.Wait()
	})
	return r
}

func (r *reader) add(facts []fact, status int, err error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err == nil:
		r.facts = append(r.facts, facts...)
		return true
	case status >= 400 && status < 500:
		r.refused = append(r.refused, err.Error())
	default:
		r.broken++
	}
	return false
}

// read is what it has got so far, and how often it got no answer.
func (r *reader) read() (facts []fact, broken int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.facts), r.broken
}

// wants reports whether the reader asks for the type of a fact.
func (r *reader) wants(f fact) bool {
	return len(r.types) == 0 || slices.ContainsFunc(r.types, func(t string) bool {
		group, isGroup := strings.CutSuffix(t, "*")
		return f.Type == t || isGroup && strings.HasPrefix(f.Type, group)
	})
}

// ended counts the sessions that it has seen end.
func (r *reader) ended() int { return r.count(fact.ends) }

func (r *reader) count(f func(fact) bool) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, x := range r.facts {
		if f(x) {
			n++
		}
	}
	return n
}

// wholeSync is what a link of a `big` login leaves in the log, calls of the
// bank aside: each once, in this order, transaction.created for each entry.
var wholeSync = []string{
	"connection.created", "sync.started", "channel.auth_started", "channel.action_required", "channel.auth_succeeded",
	"channel.accounts_list_started", "channel.provider_connected", "account.created", "consent.created", "channel.accounts_list_succeeded",
	"channel.transactions_list_started", "transaction.created", "session.account_finished",
	"channel.transactions_list_succeeded", "sync.succeeded",
}

// audit counts what went wrong.
type audit struct {
	lost, repeated, disordered int
	notes                      []string
}

func (a *audit) note(n *int, by int, format string, args ...any) {
	if by <= 0 {
		return
	}
	*n += by
	if a.notes = append(a.notes, fmt.Sprintf(format, args...)); len(a.notes) > 20 {
		a.notes = a.notes[:20]
	}
}

// String is what tests print.
func (a *audit) String() string {
	return fmt.Sprintf("lost %d, repeated %d, out of order %d", a.lost, a.repeated, a.disordered)
}

func (a *audit) require(t *testing.T) {
	t.Helper()
	require.Zero(t, a.lost+a.repeated+a.disordered, "%s\n%s", a, strings.Join(a.notes, "\n"))
}

// lane checks a list of everything: positions are 1, 2, 3 …
func (a *audit) lane(facts []fact) {
	seen := make(map[string]bool, len(facts))
	last := int64(0)
	for _, f := range facts {
		switch {
		case seen[f.ID]:
			a.note(&a.repeated, 1, "event %s at %d", f.ID, f.Position)
		case f.Position <= last:
			a.note(&a.disordered, 1, "%d after %d", f.Position, last)
		default:
			a.note(&a.lost, int(f.Position-last-1), "positions between %d and %d", last, f.Position)
		}
		seen[f.ID], last = true, max(last, f.Position)
	}
}

// followed compares what a reader got on the way with what the log has.
func (a *audit) followed(got, all []fact) {
	for i, f := range all {
		if i >= len(got) {
			a.note(&a.lost, len(all)-i, "the reader got %d of %d events", len(got), len(all))
			break
		}
		if got[i].ID != f.ID || got[i].Type != f.Type {
			a.note(&a.disordered, 1, "the reader got %s %s as number %d, the log has %s %s there", got[i].Type, got[i].ID, i+1, f.Type, f.ID)
		}
	}
	a.note(&a.repeated, len(got)-len(all), "the reader got %d events more than there are", len(got)-len(all))
}

// sessions checks that each session has one end, and nothing after it.
func (a *audit) sessions(facts []fact) {
	end := map[string]fact{}
	seen := map[string]bool{}
	for _, f := range facts {
		if f.Session == "" {
			continue
		}
		seen[f.Session] = true
		if e, over := end[f.Session]; over {
			a.note(&a.disordered, 1, "%s at %d after %s of session %s at %d", f.Type, f.Position, e.Type, f.Session, e.Position)
		}
		if f.ends() {
			end[f.Session] = f
		}
	}
	for s := range seen {
		if _, over := end[s]; !over {
			a.note(&a.lost, 1, "the end of session %s", s)
		}
	}
}

// story checks that a link's events are those of one undisturbed session.
func (a *audit) story(l link, facts []fact) {
	var got []string
	count := map[string]int{}
	for _, f := range facts {
		if f.User != l.user || f.Type == "bank.called" {
			continue
		}
		if f.Type == "transaction.created" && len(got) > 0 && got[len(got)-1] == f.Type {
			continue // counted one by one elsewhere
		}
		got = append(got, f.Type)
		count[f.Type]++
	}
	for _, t := range wholeSync {
		a.note(&a.lost, 1-count[t], "%s of %s", t, l.login)
	}
	for t, n := range count {
		once := 0
		if slices.Contains(wholeSync, t) {
			once = 1
		}
		a.note(&a.repeated, n-once, "%s of %s came %d times", t, l.login, n)
	}
	if !slices.Equal(got, wholeSync) {
		a.note(&a.disordered, 1, "%s has %v", l.login, got)
	}
}

// transactions checks that each entry of the bank made one event and is stored
// once, under the same number. The bank lists the newest first and its ids end
// in day and number, so the order can be seen.
func (a *audit) transactions(c *company, l link, facts []fact) {
	c.t.Helper()
	number := map[string]string{} // of the hub, by the bank's id
	events, last := 0, ""
	for _, f := range facts {
		if f.User != l.user || f.Type != "transaction.created" {
			continue
		}
		events++
		t := f.Data.Transaction
		number[t.BankID] = t.ID
		_, place, ok := strings.Cut(t.BankID, "-")
		require.True(c.t, ok, "the bank's ids look different: %s", t.BankID)
		if last != "" && place >= last {
			a.note(&a.disordered, 1, "%s after …-%s", t.BankID, last)
		}
		last = place
	}
	a.note(&a.lost, l.entries-len(number), "events of %s: %d entries, not %d", l.login, len(number), l.entries)
	a.note(&a.repeated, events-len(number), "%d events of %s for %d entries", events, l.login, len(number))
	a.note(&a.repeated, len(number)-l.entries, "events of %s: %d entries, not %d", l.login, len(number), l.entries)

	stored := 0
	q := url.Values{"user": {l.user}, "limit": {"500"}}
	for {
		var page struct {
			Items []struct {
				ID     string `json:"id"`
				BankID string `json:"bank_id"`
			} `json:"items"`
			Next string `json:"next"`
		}
		c.must(http.MethodGet, "/v1/transactions?"+q.Encode(), nil, &page)
		for _, t := range page.Items {
			stored++
			if number[t.BankID] != t.ID {
				a.note(&a.repeated, 1, "%s is stored as %s, its event says %q", t.BankID, t.ID, number[t.BankID])
			}
			delete(number, t.BankID)
		}
		if page.Next == "" {
			break
		}
		q.Set("after", page.Next)
	}
	a.note(&a.lost, len(number), "%d entries of %s have an event and are not stored", len(number), l.login)
	a.note(&a.repeated, stored-l.entries, "%d transactions of %s are stored, not %d", stored, l.login, l.entries)
}

// settle audits links whose first session went through whatever happened, and
// readers who watched; facts is the whole log.
func settle(c *company, links []link, readers ...*reader) (a *audit, facts []fact) {
	c.t.Helper()
	facts = c.history()
	a = &audit{}
	a.lane(facts)
	a.sessions(facts)
	for _, l := range links {
		a.story(l, facts)
		a.transactions(c, l, facts)
	}
	for _, r := range readers {
		var all []fact
		for _, f := range facts {
			if r.wants(f) {
				all = append(all, f)
			}
		}
		eventually(c.t, time.Minute, "a reader has read everything", func() bool { return r.count(func(fact) bool { return true }) >= len(all) })
		got, _ := r.read()
		a.followed(got, all)
		require.Empty(c.t, r.refused, "a reader was refused")
	}
	return a, facts
}
