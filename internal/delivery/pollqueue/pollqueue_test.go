package pollqueue_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/delivery/pollqueue"
	"github.com/bankfeed/bankfeed/internal/eventlog"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
)

// clock is moved by the test.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// watched counts the writes to a real store, and fails on demand.
type watched struct {
	*store.Store
	mu      sync.Mutex
	writes  int
	fail    error
	entered chan struct{} // if set, AnswerQueues says that it began …
	leave   chan struct{} // … and waits
}

func (w *watched) wrote() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writes++
	return w.fail
}

func (w *watched) count() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, w.writes = w.writes, 0
	return n
}

func (w *watched) SeekQueue(ctx context.Context, id string, to bankfeed.Position, expires time.Time) error {
	if err := w.wrote(); err != nil {
		return err
	}
	return w.Store.SeekQueue(ctx, id, to, expires)
}

func (w *watched) AnswerQueues(ctx context.Context, answers []pollqueue.Answer) error {
	if err := w.wrote(); err != nil {
		return err
	}
	if w.entered != nil {
		w.entered <- struct{}{}
		<-w.leave
	}
	return w.Store.AnswerQueues(ctx, answers)
}

type node struct {
	*pollqueue.Queues
	store *watched
	clock *clock
}

func newNode(s *store.Store, c *clock) node {
	hub := eventlog.NewHub(s, 0, slog.New(slog.DiscardHandler))
	s.OnCommit(hub.Committed)
	w := &watched{Store: s}
	q := pollqueue.New(w, hub, s.Installation().Epoch, c.Now)
	q.SetPatience(time.Millisecond) // tests leave answers open on purpose
	return node{q, w, c}
}

func each(t *testing.T, f func(t *testing.T, n node)) {
	storetest.Each(t, func(t *testing.T, s *store.Store) { f(t, newNode(s, &clock{now: storetest.Now})) })
}

var anna, bert = pollqueue.Owner{Tenant: 1, User: 7}, pollqueue.Owner{Tenant: 1, User: 8}

func commit(t testing.TB, s *store.Store, o pollqueue.Owner, types ...bankfeed.EventType) {
	t.Helper()
	c := &bankfeed.Change{Tenant: o.Tenant, User: o.User}
	for _, typ := range types {
		c.Events = append(c.Events, bankfeed.Draft{Type: typ, At: storetest.Now, Connection: 5, Snapshot: &bankfeed.Snapshot{Schema: 1, Node: "n"}})
	}
	_, err := s.Apply(context.Background(), c)
	require.NoError(t, err)
}

// sync is what a session appends: positions 1 and 3 of 3 are for queues.
func (n node) sync(t testing.TB, o pollqueue.Owner) {
	t.Helper()
	commit(t, n.store.Store, o, bankfeed.EventSyncStarted, bankfeed.EventTransactionCreated, bankfeed.EventSyncSucceeded)
}

func (n node) create(t testing.TB, o pollqueue.Owner) string {
	t.Helper()
	id, err := n.Create(context.Background(), o, []string{"connections"})
	require.NoError(t, err)
	return id
}

func (n node) read(t testing.TB, id string, o pollqueue.Owner, opts pollqueue.Options) *pollqueue.Batch {
	t.Helper()
	b, err := n.Read(context.Background(), id, o, opts)
	require.NoError(t, err)
	return b
}

// poll reads and answers.
func (n node) poll(t testing.TB, id string, o pollqueue.Owner, opts pollqueue.Options) []bankfeed.Position {
	t.Helper()
	b := n.read(t, id, o, opts)
	require.NoError(t, b.Answered(context.Background(), nil))
	return positions(b.Events)
}

func positions(events []bankfeed.Event) (p []bankfeed.Position) {
	for _, e := range events {
		p = append(p, e.Position)
	}
	return p
}

func after(p bankfeed.Position) *bankfeed.Position { return &p }

func TestQueueDeliversFromItsCreationOn(t *testing.T) {
	each(t, func(t *testing.T, n node) {
		n.sync(t, anna) // before the queue: 1 to 3
		id, second := n.create(t, anna), n.create(t, anna)
		require.Regexp(t, `^[A-Z2-7]{26}$`, id)
		require.NotEqual(t, id, second)
		require.Empty(t, n.poll(t, id, anna, pollqueue.Options{}))
		n.sync(t, bert) // 4 to 6
		n.sync(t, anna) // 7 to 9
		n.sync(t, pollqueue.Owner{Tenant: 2, User: 7})
		require.Equal(t, []bankfeed.Position{7, 9}, n.poll(t, id, anna, pollqueue.Options{}), "the user's own, of the topic, from now on")
		require.Empty(t, n.poll(t, id, anna, pollqueue.Options{}))
		require.Equal(t, []bankfeed.Position{7}, n.poll(t, second, anna, pollqueue.Options{Limit: 1}), "each queue gets every event")
		require.Equal(t, []bankfeed.Position{9}, n.poll(t, second, anna, pollqueue.Options{}))
	})
}

func TestUnansweredBatchIsRepeated(t *testing.T) {
	each(t, func(t *testing.T, n node) {
		ctx, id := context.Background(), n.create(t, anna)
		n.sync(t, anna)
		all := []bankfeed.Position{1, 3}

		require.Equal(t, all, positions(n.read(t, id, anna, pollqueue.Options{}).Events), "a crash before the answer")
		b := n.read(t, id, anna, pollqueue.Options{})
		require.NoError(t, b.Answered(ctx, io.ErrClosedPipe))
		require.NoError(t, b.Answered(ctx, nil), "the first word counts")
		require.Equal(t, all, positions(n.read(t, id, anna, pollqueue.Options{}).Events), "the answer could not be written")

		n.store.fail = errors.New("the database is away")
		b = n.read(t, id, anna, pollqueue.Options{})
		require.ErrorIs(t, b.Answered(ctx, nil), n.store.fail)
		n.store.fail = nil
		require.Equal(t, all, positions(n.read(t, id, anna, pollqueue.Options{}).Events), "the cursor could not be stored")

		canceled, cancel := context.WithCancel(ctx)
		b, err := n.Read(canceled, id, anna, pollqueue.Options{})
		require.NoError(t, err)
		cancel()
		require.NoError(t, b.Answered(canceled, nil), "the client has its answer and has hung up")
		require.Empty(t, n.poll(t, id, anna, pollqueue.Options{}))
	})
}

func TestAfterSetsTheCursor(t *testing.T) {
	each(t, func(t *testing.T, n node) {
		ctx, id := context.Background(), n.create(t, anna)
		n.sync(t, anna) // 1, 3
		n.sync(t, anna) // 4, 6
		require.Equal(t, []bankfeed.Position{4, 6}, n.poll(t, id, anna, pollqueue.Options{After: after(3)}))
		require.Empty(t, n.poll(t, id, anna, pollqueue.Options{}))
		require.Equal(t, []bankfeed.Position{1, 3, 4, 6}, n.poll(t, id, anna, pollqueue.Options{After: after(0)}), "backwards")

		// Not answered: the cursor stays where it was set.
		n.read(t, id, anna, pollqueue.Options{After: after(3), Limit: 1})
		require.Equal(t, []bankfeed.Position{4}, n.poll(t, id, anna, pollqueue.Options{Limit: 1}))

		// As a confirmation, with nothing to answer.
		require.Empty(t, n.poll(t, id, anna, pollqueue.Options{After: after(6)}))
		require.Empty(t, n.poll(t, id, anna, pollqueue.Options{}))

		for _, p := range []bankfeed.Position{-1, 7, 1 << 60} {
			_, err := n.Read(ctx, id, anna, pollqueue.Options{After: &p})
			require.Equal(t, bankfeed.Invalid, bankfeed.ErrorKindOf(err))
		}
		for _, opts := range []pollqueue.Options{{Limit: -1}, {Limit: 501}, {Wait: -1}, {Wait: 31 * time.Second}} {
			_, err := n.Read(ctx, id, anna, opts)
			require.Equal(t, bankfeed.Invalid, bankfeed.ErrorKindOf(err))
		}
		_, err := n.Create(ctx, anna, []string{"connections", "transactions"})
		require.Equal(t, bankfeed.Invalid, bankfeed.ErrorKindOf(err))
		_, err = n.Create(ctx, anna, nil)
		require.Equal(t, bankfeed.Invalid, bankfeed.ErrorKindOf(err))

		removed, err := (&eventlog.Cleaner{Store: n.store.Store}).Trim(ctx, storetest.Now.Add(100*24*time.Hour))
		require.NoError(t, err)
		require.Equal(t, 6, removed)
		_, err = n.Read(ctx, id, anna, pollqueue.Options{After: after(3)})
		require.Equal(t, bankfeed.Gone, bankfeed.ErrorKindOf(err))
	})
}

// Pollers share the cursor. Whatever they do at the same time, nothing is lost.
func TestPollersShareTheCursor(t *testing.T) {
	each(t, func(t *testing.T, n node) {
		ctx, id := context.Background(), n.create(t, anna)
		n.sync(t, anna) // 1, 3
		n.sync(t, anna) // 4, 6
		small, large := n.read(t, id, anna, pollqueue.Options{Limit: 1}), n.read(t, id, anna, pollqueue.Options{Limit: 3})
		require.NoError(t, small.Answered(ctx, nil))
		require.NoError(t, large.Answered(ctx, nil))
		require.Equal(t, []bankfeed.Position{6}, n.poll(t, id, anna, pollqueue.Options{}), "the farther one counts")

		// One sets the cursor back while the other's answer is on its way.
		n.sync(t, anna) // 7, 9
		late := n.read(t, id, anna, pollqueue.Options{})
		n.read(t, id, anna, pollqueue.Options{After: after(1)})
		require.NoError(t, late.Answered(ctx, nil))
		require.Equal(t, []bankfeed.Position{3, 4, 6, 7, 9}, n.poll(t, id, anna, pollqueue.Options{}))
	})
}

func TestQueuesThatAreNotThereLookAlike(t *testing.T) {
	each(t, func(t *testing.T, n node) {
		ctx := context.Background()
		mine := n.create(t, anna)
		deleted := n.create(t, anna)
		require.NoError(t, n.Delete(ctx, deleted, anna))
		other := pollqueue.New(n.store, nil, n.store.Installation().Epoch+1, n.clock.Now)
		restored, err := other.Create(ctx, anna, []string{"connections"})
		require.NoError(t, err)
		n.clock.add(-16*time.Minute - time.Microsecond)
		expired := n.create(t, anna)
		n.clock.add(16*time.Minute + time.Microsecond)

		for name, c := range map[string]struct {
			id string
			o  pollqueue.Owner
		}{
			"unknown": {"ABCDEFGHIJKLMNOPQRSTUVWXYZ", anna}, "empty": {"", anna}, "nonsense": {"'; --\x00\xff", anna}, "deleted": {deleted, anna},
			"expired": {expired, anna}, "of another epoch": {restored, anna}, "of another user": {mine, bert},
			"of another tenant": {mine, pollqueue.Owner{Tenant: 2, User: 7}}, "of nobody": {mine, pollqueue.Owner{Tenant: 1}},
		} {
			_, err := n.Read(ctx, c.id, c.o, pollqueue.Options{})
			require.Same(t, bankfeed.ErrNotFound, err, name)
			require.Same(t, bankfeed.ErrNotFound, n.Delete(ctx, c.id, c.o), name)
		}
		require.Empty(t, n.poll(t, mine, anna, pollqueue.Options{}), "the tries have done no harm")
	})
}

func TestExpiryIsWrittenOnceAMinuteAndNeverTooEarly(t *testing.T) {
	each(t, func(t *testing.T, n node) {
		ctx, id := context.Background(), n.create(t, anna)
		n.store.count()
		for range 600 {
			n.clock.add(time.Second)
			require.Empty(t, n.poll(t, id, anna, pollqueue.Options{}))
			q, err := n.store.Queue(ctx, id)
			require.NoError(t, err)
			require.False(t, q.ExpiresAt.Before(n.clock.Now().Add(15*time.Minute)), "a crash now leaves 15 minutes")
		}
		require.InDelta(t, 10, n.store.count(), 1, "an idle poller writes once a minute")

		n.clock.add(15*time.Minute - time.Microsecond)
		require.Empty(t, n.poll(t, id, anna, pollqueue.Options{}))
		removed, err := n.Sweep(ctx)
		require.NoError(t, err)
		require.Zero(t, removed)
		n.clock.add(16*time.Minute + 30*time.Second)
		_, err = n.Read(ctx, id, anna, pollqueue.Options{})
		require.Same(t, bankfeed.ErrNotFound, err)
		removed, err = n.Sweep(ctx)
		require.NoError(t, err)
		require.Equal(t, 1, removed)

		// An answer that takes long counts from its end.
		id = n.create(t, anna)
		b := n.read(t, id, anna, pollqueue.Options{})
		n.clock.add(10 * time.Minute)
		require.NoError(t, b.Answered(ctx, nil))
		n.clock.add(15*time.Minute - time.Microsecond)
		n.read(t, id, anna, pollqueue.Options{})
	})
}

func TestLongPoll(t *testing.T) {
	each(t, func(t *testing.T, n node) {
		ctx, id := context.Background(), n.create(t, anna)
		type result struct {
			b   *pollqueue.Batch
			err error
		}
		poll := func(ctx context.Context, wait time.Duration) <-chan result {
			c := make(chan result, 1)
			go func() {
				b, err := n.Read(ctx, id, anna, pollqueue.Options{Wait: wait})
				c <- result{b, err}
			}()
			return c
		}
		began := time.Now()
		r := <-poll(ctx, 50*time.Millisecond)
		require.NoError(t, r.err)
		require.Empty(t, r.b.Events)
		require.GreaterOrEqual(t, time.Since(began), 50*time.Millisecond)

		first, second := poll(ctx, 30*time.Second), poll(ctx, 30*time.Second)
		commit(t, n.store.Store, anna, bankfeed.EventTransactionCreated) // 1: nothing for a queue
		n.sync(t, bert)                                                  // 2 to 4
		n.sync(t, anna)                                                  // 5 to 7
		// Both before any answer, which would move the cursor for a poll that begins late.
		for _, r := range []result{<-first, <-second} {
			require.NoError(t, r.err)
			require.Equal(t, []bankfeed.Position{5, 7}, positions(r.b.Events))
			require.NoError(t, r.b.Answered(ctx, nil))
		}
		require.Empty(t, n.poll(t, id, anna, pollqueue.Options{}))

		// An open poll keeps the queue alive beyond its end.
		q, err := n.store.Queue(ctx, id)
		require.NoError(t, err)
		n.clock.add(q.ExpiresAt.Sub(n.clock.Now()) - time.Second)
		open := poll(ctx, 30*time.Second)
		require.Eventually(t, func() bool {
			q, err := n.store.Queue(ctx, id)
			return err == nil && q.ExpiresAt.After(n.clock.Now().Add(15*time.Minute+30*time.Second))
		}, 10*time.Second, time.Millisecond)
		n.sync(t, anna)
		r = <-open
		require.NoError(t, r.err)
		require.Len(t, r.b.Events, 2)

		require.NoError(t, r.b.Answered(ctx, nil))
		gone, cancel := context.WithCancel(ctx)
		open = poll(gone, 30*time.Second)
		cancel()
		require.ErrorIs(t, (<-open).err, context.Canceled)

		open = poll(ctx, 100*time.Millisecond)
		require.NoError(t, n.Delete(ctx, id, anna))
		require.Same(t, bankfeed.ErrNotFound, (<-open).err, "deleted while it waited")
	})
}

// A client can poll again before the hub knows that its answer arrived.
func TestNextPollWaitsForTheAnswer(t *testing.T) {
	each(t, func(t *testing.T, n node) {
		n.SetPatience(time.Minute)
		ctx, id := context.Background(), n.create(t, anna)
		n.sync(t, anna)
		first := n.read(t, id, anna, pollqueue.Options{Limit: 1})
		next := make(chan []bankfeed.Position, 1)
		go func() { next <- n.poll(t, id, anna, pollqueue.Options{}) }()
		other := n.create(t, anna)
		require.Empty(t, n.poll(t, other, anna, pollqueue.Options{}), "another queue does not wait")
		require.Empty(t, next)
		require.NoError(t, first.Answered(ctx, nil))
		require.Equal(t, []bankfeed.Position{3}, <-next)

		n.sync(t, anna)
		n.read(t, id, anna, pollqueue.Options{}) // its end is never heard of
		canceled, cancel := context.WithCancel(ctx)
		cancel()
		_, err := n.Read(canceled, id, anna, pollqueue.Options{})
		require.ErrorIs(t, err, context.Canceled)
		n.SetPatience(time.Millisecond)
		require.Equal(t, []bankfeed.Position{4, 6}, n.poll(t, id, anna, pollqueue.Options{}), "nobody waits for ever")
	})
}

// Two nodes serve one queue by turns, and neither repeats what the other has
// answered.
func TestNodesShareAQueue(t *testing.T) {
	c := storetest.PostgresConfig(t)
	clk := &clock{now: storetest.Now}
	a, b := newNode(storetest.Open(t, c), clk), newNode(storetest.Open(t, c), clk)
	id := a.create(t, anna)
	var got []bankfeed.Position
	for range 10 {
		a.sync(t, anna)
		got = append(got, a.poll(t, id, anna, pollqueue.Options{Limit: 1})...)
		got = append(got, b.poll(t, id, anna, pollqueue.Options{Limit: 1})...)
	}
	require.Len(t, got, 20)
	require.IsIncreasing(t, got)
}

// While one transaction is on its way, all answers that come share the next.
func TestAnswersCommitTogether(t *testing.T) {
	each(t, func(t *testing.T, n node) {
		ctx := context.Background()
		var batches []*pollqueue.Batch
		var ids []string
		for range 50 {
			ids = append(ids, n.create(t, anna))
		}
		n.sync(t, anna)
		for _, id := range ids {
			batches = append(batches, n.read(t, id, anna, pollqueue.Options{}))
		}
		n.store.count()
		n.store.entered, n.store.leave = make(chan struct{}), make(chan struct{})
		var wg sync.WaitGroup
		answer := func(b *pollqueue.Batch) {
			wg.Go(func() {
				if err := b.Answered(ctx, nil); err != nil {
					t.Error(err)
				}
			})
		}
		answer(batches[0])
		<-n.store.entered
		for _, b := range batches[1:] {
			answer(b)
		}
		require.Eventually(t, func() bool { return n.Waiting() == 49 }, 10*time.Second, time.Millisecond)
		n.store.leave <- struct{}{}
		<-n.store.entered
		n.store.leave <- struct{}{}
		wg.Wait()
		n.store.entered = nil
		require.Equal(t, 2, n.store.count())
		for _, id := range ids {
			require.Empty(t, n.poll(t, id, anna, pollqueue.Options{}))
		}
	})
}
