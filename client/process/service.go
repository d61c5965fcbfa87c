package process

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"strings"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/client"
)

// Options say what the service works with. API, Store, Sealer and Scenarios are
// needed.
type Options struct {
	API    *client.DataIntelligence
	Store  Store
	Sealer Sealer
	// Scenarios by name: what follows a synchronization.
	Scenarios map[string]Scenario
	// CallbackURL is the address under which the server reaches the callback
	// handlers; the path of the scenario is added to it. Empty: no callbacks are
	// asked for, and everything is found by polling.
	CallbackURL string
	// Webhook verifies callbacks; nil where the server signs none. What it refuses is
	// answered with 401 and changes nothing.
	Webhook *client.Webhook
	// Token gives another access token for a process whose own was refused with
	// 401. Nil, or an error: the process fails with TOKEN_EXPIRED, unless the
	// error is ErrLater, or an answer that may pass such as 503 (client.Error).
	Token func(ctx context.Context, p Process) (bankfeed.Secret, error)

	Poll Polling
	// AnswerWithin is how long a synchronization whose request got no answer at
	// all is requested again; 0 is 5 minutes.
	AnswerWithin time.Duration
	// ContinueWithin is how long a scenario that meets passing faults is tried; 0
	// is 24 hours.
	ContinueWithin time.Duration
	// Workers is how many processes are worked on at once; 0 is 8.
	Workers int
	// KeepChanges is how long the stream of changes reaches back; 0 is 7 days.
	// KeepEnded is how long ended processes stay; 0 is for good.
	KeepChanges, KeepEnded time.Duration

	Now func() time.Time // nil is time.Now
	Log *slog.Logger     // nil is silence
}

// Polling is how a service asks for what no callback told it.
type Polling struct {
	// After is how long a callback is waited for before the first question; 0 is
	// 15 s, and not at all if no callback was asked for.
	After time.Duration
	// Every is the pause between two questions about a process; 0 is 1 s, and less
	// than 200 ms is refused.
	Every time.Duration
	// SlowAfter is how long that goes on; 0 is 5 minutes, which is also the most.
	// Then the pause is Slow; 0 is a minute.
	SlowAfter, Slow time.Duration
	// GiveUp is when a process fails with TIMEOUT; 0 is 24 hours.
	GiveUp time.Duration
}

// minPause is what servers ask for between two questions.
const minPause = 200 * time.Millisecond

const (
	lease           = 45 * time.Second // renewed with every step
	stepTimeout     = 30 * time.Second // of everything between two commits
	scenarioTimeout = 5 * time.Minute  // of a scenario until it is called again
	idle            = time.Second      // a look into the store for what another program put there
	longestWait     = time.Minute      // between two tries of a call that failed
	maxParam        = 4096             // bytes of a parameter, or of a name
)

// ErrLater says that a step cannot be done yet. It is tried again after the
// pause of Polling.
var ErrLater = errors.New("process: not yet")

// Service runs processes. It is made by New. Start, Run and the handlers may be
// used at once, and by several programs on one store.
type Service struct {
	o      Options
	wake   chan struct{} // something may be due
	stream *broadcast    // something was told
}

// New checks the options. An error names the field.
func New(o Options) (*Service, error) {
	switch {
	case o.API == nil:
		return nil, bankfeed.InvalidField("API", "is needed")
	case o.Store == nil:
		return nil, bankfeed.InvalidField("Store", "is needed")
	case o.Sealer == nil:
		return nil, bankfeed.InvalidField("Sealer", "is needed: access tokens are not stored in clear")
	case len(o.Scenarios) == 0:
		return nil, bankfeed.InvalidField("Scenarios", "needs at least one")
	case o.Poll.Every != 0 && o.Poll.Every < minPause:
		return nil, bankfeed.InvalidField("Poll.Every", "must be %s at least", minPause)
	case o.Poll.Slow != 0 && o.Poll.Slow < minPause:
		return nil, bankfeed.InvalidField("Poll.Slow", "must be %s at least", minPause)
	case o.Poll.SlowAfter > 5*time.Minute:
		return nil, bankfeed.InvalidField("Poll.SlowAfter", "must be 5m at most")
	case o.Poll.After < 0 || o.Poll.SlowAfter < 0 || o.Poll.GiveUp < 0 || o.AnswerWithin < 0 || o.ContinueWithin < 0 || o.KeepChanges < 0 || o.KeepEnded < 0:
		return nil, bankfeed.InvalidField("Options", "has a negative duration")
	case o.Workers < 0:
		return nil, bankfeed.InvalidField("Workers", "must not be negative")
	}
	if o.CallbackURL != "" {
		u, err := url.Parse(o.CallbackURL)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.Fragment != "" {
			return nil, bankfeed.InvalidField("CallbackURL", "must be an http(s) URL without query")
		}
		o.CallbackURL = strings.TrimRight(o.CallbackURL, "/")
	}
	for name, sc := range o.Scenarios {
		if sc.Continue == nil {
			return nil, bankfeed.InvalidField("Scenarios", "%s has no Continue", name)
		}
		if !strings.HasPrefix(sc.Path, "/") || strings.ContainsAny(sc.Path, "?#{} ") {
			return nil, bankfeed.InvalidField("Scenarios", "the path of %s must begin with / and be a plain path", name)
		}
	}
	orElse(&o.Poll.After, 15*time.Second)
	orElse(&o.Poll.Every, time.Second)
	orElse(&o.Poll.SlowAfter, 5*time.Minute)
	orElse(&o.Poll.Slow, time.Minute)
	orElse(&o.Poll.GiveUp, 24*time.Hour)
	orElse(&o.AnswerWithin, 5*time.Minute)
	orElse(&o.ContinueWithin, 24*time.Hour)
	orElse(&o.KeepChanges, 7*24*time.Hour)
	if o.Workers == 0 {
		o.Workers = 8
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Service{o: o, wake: make(chan struct{}, 1), stream: newBroadcast()}, nil
}

func orElse(d *time.Duration, value time.Duration) {
	if *d == 0 {
		*d = value
	}
}

// now has the precision of a store.
func (s *Service) now() time.Time { return s.o.Now().UTC().Truncate(time.Millisecond) }

// Get reads a process. ErrNotFound: there is none.
func (s *Service) Get(ctx context.Context, id string) (Process, error) {
	r, err := s.o.Store.Get(ctx, id)
	return r.Process, err
}

// Delete removes a process with its results and its changes, whatever its state.
func (s *Service) Delete(ctx context.Context, id string) error { return s.o.Store.Delete(ctx, id) }

// nudge makes Run look into the store.
func (s *Service) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// errTaken: another worker has claimed the process since.
var errTaken = errors.New("process: another worker goes on with it")

// errUnchanged makes change store nothing.
var errUnchanged = errors.New("process: nothing to change")

// change reads a process, lets edit change it and stores it, as often as
// somebody else is faster. fence is that of the worker's claim; 0 is for those who do not
// work on the process. What a frontend sees differently is told.
func (s *Service) change(ctx context.Context, id string, fence int64, edit func(*Record) error) (Record, error) {
	for {
		was, err := s.o.Store.Get(ctx, id)
		if err != nil {
			return was, err
		}
		if fence != 0 && was.Fence != fence {
			return was, errTaken
		}
		r := was.clone()
		if err := edit(&r); errors.Is(err, errUnchanged) {
			return was, nil
		} else if err != nil {
			return was, err
		}
		tell := visible(&was, &r)
		if tell {
			r.UpdatedAt = s.now()
		}
		r, err = s.o.Store.Save(ctx, r, tell)
		if errors.Is(err, ErrConflict) && ctx.Err() == nil {
			continue
		}
		if err != nil {
			return was, err
		}
		if tell {
			s.stream.signal()
		}
		if r.Status != was.Status {
			s.o.Log.InfoContext(ctx, "process: it moved", "process", r.ID, "scenario", r.Scenario, "from", was.Status, "to", r.Status, "reason", r.Reason.text())
		}
		return r, nil
	}
}

// visible reports whether a frontend would see a difference.
func visible(a, b *Record) bool {
	if a.Status != b.Status || len(a.Results) != len(b.Results) || len(a.Sources) != len(b.Sources) {
		return true
	}
	for i := range a.Sources {
		if a.Sources[i] != b.Sources[i] {
			return true
		}
	}
	return false
}

func (r *Reason) text() string {
	if r == nil {
		return ""
	}
	return r.Code
}

// jitter adds up to a tenth, so that many processes that began together do not
// ask together.
func jitter(d time.Duration) time.Duration {
	return d + time.Duration(rand.Int64N(int64(d)/10+1)) //nolint:gosec // it spreads load, it keeps no secret
}

// nextPoll is when the status should be asked for again without a callback.
func (s *Service) nextPoll(r *Record, now time.Time) time.Time {
	begun := r.StartedAt
	if begun.IsZero() {
		begun = r.CreatedAt
	}
	if wait := begun.Add(s.o.Poll.After).Sub(now); s.o.CallbackURL != "" && wait > 0 {
		return now.Add(jitter(wait))
	}
	if now.Sub(begun) < s.o.Poll.SlowAfter {
		return now.Add(jitter(s.o.Poll.Every))
	}
	return now.Add(jitter(s.o.Poll.Slow))
}

// backoff is how long a call that failed is left alone: 1 s, 2 s, 4 s … a minute.
func backoff(failures int) time.Duration {
	return jitter(min(time.Second<<min(failures, 6), longestWait))
}
