package lease_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/lease"
)

// rows is a lease.Store in memory, as simple as the rules allow.
type rows struct {
	mu      sync.Mutex
	rows    map[int64]*row
	err     error
	looks   int
	renewed int
}

type row struct {
	claim   lease.Claim
	readyAt time.Time
	owner   string
	until   time.Time
}

func newRows(ids ...int64) *rows {
	r := &rows{rows: map[int64]*row{}}
	for _, id := range ids {
		r.put(id)
	}
	return r
}

func (r *rows) put(id int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rows[id] = &row{claim: lease.Claim{Fence: bankfeed.Fence{Kind: bankfeed.WorkSession, Tenant: 1, ID: id, Number: 1}, Group: "b"}, readyAt: time.Now()}
}

func (r *rows) left() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.rows)
}

func (r *rows) get(id int64) row {
	r.mu.Lock()
	defer r.mu.Unlock()
	return *r.rows[id]
}

func (r *rows) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}

func (r *rows) counts() (looks, renewed int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.looks, r.renewed
}

// done is what a change with Release.Done does.
func (r *rows) done(c lease.Claim) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if w := r.rows[c.ID]; w == nil || w.owner == "" || w.claim.Number != c.Number {
		return bankfeed.ErrFenced
	}
	delete(r.rows, c.ID)
	return nil
}

// steal is what a takeover by another node does.
func (r *rows) steal(id int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	w := r.rows[id]
	w.owner, w.until = "thief", time.Now().Add(time.Hour)
	w.claim.Number++
}

func (r *rows) NextWork(context.Context, bankfeed.WorkKind) (next time.Time, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.looks++
	for _, w := range r.rows {
		t := w.readyAt
		if w.owner != "" {
			t = w.until
		}
		if next.IsZero() || t.Before(next) {
			next = t
		}
	}
	return next, r.err
}

func (r *rows) ClaimWork(_ context.Context, q lease.Request) (claims []lease.Claim, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range r.rows {
		ready := w.owner == "" && !w.readyAt.After(q.Now) || w.owner != "" && w.until.Before(q.Now)
		if ready && len(claims) < q.Limit {
			w.owner, w.until = q.Owner, q.Until
			w.claim.Number++
			claims = append(claims, w.claim)
		}
	}
	return claims, r.err
}

func (r *rows) each(owner string, claims []lease.Claim, f func(*row)) (held []lease.Claim) {
	for _, c := range claims {
		if w := r.rows[c.ID]; w != nil && w.owner == owner && w.claim.Number == c.Number {
			f(w)
			held = append(held, c)
		}
	}
	return held
}

func (r *rows) RenewWork(_ context.Context, owner string, claims []lease.Claim, until time.Time) ([]lease.Claim, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.renewed++
	if r.err != nil {
		return nil, r.err
	}
	return r.each(owner, claims, func(w *row) { w.until = until }), nil
}

func (r *rows) ReleaseWork(_ context.Context, owner string, claims []lease.Claim, readyAt time.Time) ([]lease.Claim, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return nil, r.err
	}
	return r.each(owner, claims, func(w *row) { w.owner, w.readyAt = "", readyAt }), nil
}

// times notes when something happened.
type times struct {
	mu sync.Mutex
	at []time.Time
}

func (s *times) add() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = append(s.at, time.Now())
	return len(s.at)
}

func (s *times) take() []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.at
	s.at = nil
	return at
}

// pass lets fake time pass: its callers are in a synctest bubble.
func pass(d time.Duration) { time.Sleep(d) } //nolint:forbidigo // fake time

// start runs an engine inside a bubble; stop ends it.
func start(c lease.Config) (e *lease.Engine, stop func()) {
	c.Kind, c.Node = bankfeed.WorkSession, "n1"
	if c.Slots == 0 {
		c.Slots = 4
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(context.Background())
	e = lease.New(c)
	ended := make(chan error)
	go func() { ended <- e.Run(ctx) }()
	return e, func() {
		cancel()
		if err := <-ended; err != nil {
			panic(err)
		}
	}
}

func TestEngineRunsWorkAndWaitsCheaply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, ran := newRows(1), make(chan lease.Claim, 10)
		e, stop := start(lease.Config{Store: r, Run: func(_ context.Context, c lease.Claim) error {
			ran <- c
			return r.done(c)
		}})
		require.Equal(t, int64(1), (<-ran).ID)
		synctest.Wait()
		before, _ := r.counts()
		pass(10*time.Second + time.Millisecond)
		after, renewed := r.counts()
		require.Equal(t, 10, after-before, "one look a second without work")
		require.Zero(t, renewed)

		r.put(2)
		e.Kick()
		synctest.Wait()
		require.Equal(t, int64(2), (<-ran).ID, "at once, told of it")
		r.put(3)
		began := time.Now()
		require.Equal(t, int64(3), (<-ran).ID)
		require.LessOrEqual(t, time.Since(began), time.Second, "nobody told of it")
		stop()
	})
}

func TestEngineTakesNoMoreThanItsSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, release := newRows(1, 2, 3, 4, 5), make(chan struct{})
		e, stop := start(lease.Config{Store: r, Slots: 2, Run: func(_ context.Context, c lease.Claim) error {
			<-release
			return r.done(c)
		}})
		synctest.Wait()
		require.Equal(t, 2, e.Running())
		looks, _ := r.counts()
		pass(10 * time.Second)
		now, renewed := r.counts()
		require.Equal(t, looks, now, "nothing is asked while there is no slot")
		require.NotZero(t, renewed)
		for range 5 {
			release <- struct{}{}
			synctest.Wait()
		}
		require.Zero(t, e.Running())
		require.Zero(t, r.left())
		stop()
	})
}

func TestEngineKeepsItsClaimsAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, release := newRows(1), make(chan struct{})
		_, stop := start(lease.Config{Store: r, Run: func(ctx context.Context, c lease.Claim) error {
			<-release
			require.NoError(t, ctx.Err())
			return r.done(c)
		}})
		for range 60 {
			pass(time.Second)
			require.True(t, r.get(1).until.After(time.Now().Add(lease.TTL-lease.Heartbeat-time.Second)))
		}
		close(release)
		synctest.Wait()
		require.Zero(t, r.left())
		stop()
	})
}

func TestEngineEndsARunThatWasTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, cause := newRows(1), make(chan error, 1)
		e, stop := start(lease.Config{Store: r, Run: func(ctx context.Context, c lease.Claim) error {
			<-ctx.Done()
			cause <- context.Cause(ctx)
			return r.done(c)
		}})
		synctest.Wait()
		r.steal(1)
		pass(lease.Heartbeat)
		require.ErrorIs(t, <-cause, lease.ErrLost)
		synctest.Wait()
		require.Zero(t, e.Running())
		require.Equal(t, "thief", r.get(1).owner)
		stop()
		require.Equal(t, "thief", r.get(1).owner, "nothing of another node is released")
	})
}

// While the database is away a run goes on as long as nobody can have taken it
// over, and not longer; afterwards everything goes on without help.
func TestEngineOutlivesAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		r, causes := newRows(1), make(chan error, 2)
		var runs times
		e, stop := start(lease.Config{Store: r, Log: slog.New(slog.NewTextHandler(&log, nil)), Run: func(ctx context.Context, c lease.Claim) error {
			if runs.add() == 2 {
				return r.done(c)
			}
			<-ctx.Done()
			causes <- context.Cause(ctx)
			return ctx.Err()
		}})
		synctest.Wait()
		r.fail(errors.New("connection refused"))
		pass(lease.TTL - time.Second)
		require.Empty(t, causes)
		pass(lease.Heartbeat + time.Second)
		require.ErrorIs(t, <-causes, lease.ErrLost)
		synctest.Wait()
		require.Zero(t, e.Running())
		pass(time.Minute)
		require.LessOrEqual(t, bytes.Count(log.Bytes(), []byte("level=WARN")), 3, "an outage is one line, not one a second:\n%s", log.String())

		r.fail(nil)
		pass(2 * time.Second)
		require.Zero(t, r.left(), "it was claimed again and done")
		stop()
	})
}

func TestEngineReleasesWhatARunLeaves(t *testing.T) {
	for name, leave := range map[string]func() error{
		"an error": func() error { return errors.New("nonsense from the bank") },
		"a panic":  func() error { panic("nonsense from the bank") },
		"nothing":  func() error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				r := newRows(1)
				var starts times
				_, stop := start(lease.Config{Store: r, Log: slog.New(slog.NewTextHandler(&log, nil)), Run: func(_ context.Context, c lease.Claim) error {
					if starts.add() == 12 {
						return r.done(c)
					}
					return leave()
				}})
				pass(time.Hour)
				at := starts.take()
				require.Len(t, at, 12)
				require.Equal(t, time.Second, at[1].Sub(at[0]))
				require.Equal(t, 2*time.Second, at[2].Sub(at[1]))
				require.Equal(t, 5*time.Minute, at[11].Sub(at[10]))
				require.Equal(t, 11, bytes.Count(log.Bytes(), []byte("work ended without a result")))
				if name != "nothing" {
					require.Contains(t, log.String(), "nonsense from the bank")
				}
				r.put(1) // after a success, counting begins anew
				pass(5 * time.Second)
				require.Len(t, starts.take(), 3)
				stop()
			})
		})
	}
}

func TestEngineStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, stuck := newRows(1, 2, 3), make(chan struct{})
		e, stop := start(lease.Config{Store: r, Run: func(ctx context.Context, c lease.Claim) error {
			switch c.ID {
			case 1: // commits what it has
				<-ctx.Done()
				return r.done(c)
			case 2:
				<-ctx.Done()
				return ctx.Err()
			}
			<-stuck // hangs in a call that knows no context
			return nil
		}})
		synctest.Wait()
		require.Equal(t, 3, e.Running())
		began := time.Now()
		stop()
		require.Equal(t, lease.StopAfter, time.Since(began), "it waits, but not for ever")
		require.Equal(t, 2, r.left())
		for _, id := range []int64{2, 3} {
			w := r.get(id)
			require.Empty(t, w.owner)
			require.False(t, w.readyAt.After(time.Now()), "ready for another node at once")
		}
		close(stuck)
	})
}
