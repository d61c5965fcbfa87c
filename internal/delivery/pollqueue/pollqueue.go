// Package pollqueue lets clients follow a user's connections by polling: the
// queues of the Oxlin dialect, without their HTTP.
//
// A queue is a cursor in the event log, and nothing else: it holds no events, so
// any number of queues of a user each get every event, and a queue that nobody
// polls costs a row and neither goroutine nor timer. All state is in the
// database; nodes share queues without knowing of each other.
//
// What a client can rely on:
//
//   - Every event of the topic from the queue's creation on is delivered at
//     least once, in order.
//   - A poll without After answers with what follows the cursor. The cursor
//     moves when that answer has been written without an error (Batch.Answered),
//     otherwise the next poll repeats it. So does a crash between the answer and
//     the commit of the cursor: the events come again, with the same ids. A poll
//     that arrives while the answer before it is still being written waits for
//     its end, for 2 seconds at most.
//   - Pollers of one queue share the cursor. Two that poll at the same time may
//     get the same events; none is lost, because an answer moves the cursor only
//     if it still stands within what was answered.
//   - A poll with After sets the cursor to that position, forwards or backwards,
//     which is how a client repeats or confirms explicitly. A stream moves
//     nothing.
//   - A queue ends 15 minutes after the end of the last answer, or up to 90
//     seconds later: the stored time is written with a reserve, so that an idle
//     poller writes at most once a minute and a crash never shortens the 15
//     minutes. An open poll or stream keeps it alive.
//   - A queue that is unknown, expired, somebody else's or from before a restore
//     is bankfeed.ErrNotFound, the same in every case.
package pollqueue

import (
	"context"
	"crypto/rand"
	"errors"
	"regexp"
	"time"

	"github.com/bankfeed/bankfeed"
)

// TopicConnections is the only topic there is.
const TopicConnections = "connections"

// Bounds of a poll.
const (
	MaxLimit = 500
	MaxWait  = 30 * time.Second
)

// Lifetimes.
const (
	expiry = 15 * time.Minute // after the end of the last answer
	// reserve is how much later the stored expiry is, and so how often it is
	// written.
	reserve = time.Minute
	// patience is how long a poll waits for the end of the answer before it.
	patience = 2 * time.Second
	// writeTimeout bounds the commit of a cursor, which outlives its request.
	writeTimeout = 5 * time.Second
)

// Owner is whose queue it is.
type Owner struct {
	Tenant bankfeed.TenantID
	User   bankfeed.UserID
}

// Queue is a queue as it is stored.
type Queue struct {
	ID string
	Owner
	Topics    []string
	Epoch     bankfeed.Epoch
	Cursor    bankfeed.Position // everything up to here has been answered
	CreatedAt time.Time
	ExpiresAt time.Time
}

// Answer is what an answer changes about a queue.
type Answer struct {
	ID string
	// From and To: the cursor moves to To if it is not before From and not
	// beyond To. Equal when the answer had no events.
	From, To  bankfeed.Position
	ExpiresAt time.Time // never brought forward
}

// Store holds the queues and reads the log for them.
type Store interface {
	// CreateQueue stores a queue whose cursor is the head of its user's lane.
	CreateQueue(ctx context.Context, q Queue) error
	// Queue finds a queue by its id; ErrNotFound if there is none.
	Queue(ctx context.Context, id string) (Queue, error)
	// SeekQueue sets the cursor and moves the expiry, never forward.
	SeekQueue(ctx context.Context, id string, to bankfeed.Position, expires time.Time) error
	// AnswerQueues commits answers, all at once. Queues that are gone are left
	// out.
	AnswerQueues(ctx context.Context, answers []Answer) error
	DeleteQueue(ctx context.Context, id string) error
	// SweepQueues removes queues that expired before a time, at most limit.
	SweepQueues(ctx context.Context, before time.Time, limit int) (removed int, err error)
	// QueueEvents reads up to limit events of the topic connections after a
	// position.
	QueueEvents(ctx context.Context, o Owner, after bankfeed.Position, limit int) ([]bankfeed.Event, error)
	// UserLane finds the floor and the head of the user's lane.
	UserLane(ctx context.Context, o Owner) (floor, head bankfeed.Position, err error)
}

// Waker tells of commits: the channel gets a value after each that may matter.
type Waker interface {
	Subscribe(tenant bankfeed.TenantID, user bankfeed.UserID, topics ...bankfeed.Topic) (wake <-chan struct{}, stop func())
}

// Queues serves polls. Safe for concurrent use.
type Queues struct {
	store Store
	waker Waker
	epoch bankfeed.Epoch
	now   func() time.Time
	commits
	answering
}

// New returns the queues of the log's present epoch.
func New(store Store, waker Waker, epoch bankfeed.Epoch, now func() time.Time) *Queues {
	return &Queues{store: store, waker: waker, epoch: epoch, now: now, commits: commits{store: store},
		answering: answering{open: map[string]*answer{}, patience: patience}}
}

// idForm is what rand.Text makes.
var idForm = regexp.MustCompile(`^[A-Z2-7]{26,64}$`)

// Create subscribes a new queue. Its id is random (130 bits) and safe in a URL.
func (s *Queues) Create(ctx context.Context, o Owner, topics []string) (id string, err error) {
	if len(topics) == 0 {
		return "", bankfeed.InvalidField("topics", "is missing")
	}
	for _, t := range topics {
		if t != TopicConnections {
			return "", bankfeed.InvalidField("topics", "unknown topic; there is %q", TopicConnections)
		}
	}
	now := s.now()
	q := Queue{ID: rand.Text(), Owner: o, Topics: []string{TopicConnections}, Epoch: s.epoch, CreatedAt: now, ExpiresAt: now.Add(expiry + reserve)}
	return q.ID, s.store.CreateQueue(ctx, q)
}

// Delete ends a queue.
func (s *Queues) Delete(ctx context.Context, id string, o Owner) error {
	if _, err := s.find(ctx, id, o); err != nil {
		return err
	}
	return s.store.DeleteQueue(ctx, id)
}

// find is the one place that says who may see a queue.
func (s *Queues) find(ctx context.Context, id string, o Owner) (Queue, error) {
	if !idForm.MatchString(id) {
		return Queue{}, bankfeed.ErrNotFound // not every text can be asked for in SQL
	}
	q, err := s.store.Queue(ctx, id)
	if err != nil && !errors.Is(err, bankfeed.ErrNotFound) {
		return Queue{}, err
	}
	if err != nil || q.Owner != o || q.Epoch != s.epoch || !q.ExpiresAt.After(s.now()) {
		return Queue{}, bankfeed.ErrNotFound
	}
	return q, nil
}

// start says where a reader begins: at the cursor, or after a position that it
// names.
func (s *Queues) start(ctx context.Context, q Queue, after *bankfeed.Position) (bankfeed.Position, error) {
	if after == nil {
		return q.Cursor, nil
	}
	floor, head, err := s.store.UserLane(ctx, q.Owner)
	switch {
	case err != nil:
		return 0, err
	case *after < 0 || *after > head:
		return 0, bankfeed.InvalidField("after", "not the id of an event of this queue")
	case *after < floor:
		return 0, bankfeed.Errorf(bankfeed.Gone, "events up to %d were removed by retention", floor)
	}
	return *after, nil
}

// keepUntil is the expiry to store so that the queue lives until at least
// 15 minutes after end; the present one if that is late enough.
func keepUntil(q Queue, end time.Time) time.Time {
	if need := end.Add(expiry); q.ExpiresAt.Before(need) {
		return need.Add(reserve)
	}
	return q.ExpiresAt
}

// Options of a poll.
type Options struct {
	After *bankfeed.Position // nil: the queue's cursor
	Limit int                // 1 to MaxLimit; 0 is MaxLimit
	Wait  time.Duration      // how long to wait for an event, up to MaxWait
}

// Batch is the answer to a poll.
type Batch struct {
	Events []bankfeed.Event

	queues *Queues
	queue  Queue
	from   bankfeed.Position
	answer *answer
	done   bool
}

// Read polls a queue. Whoever writes the answer must call Answered afterwards.
func (s *Queues) Read(ctx context.Context, id string, o Owner, opts Options) (*Batch, error) {
	b, err := s.read(ctx, id, o, opts)
	if err == nil && len(b.Events) > 0 {
		b.answer = s.begin(id)
	}
	return b, err
}

func (s *Queues) read(ctx context.Context, id string, o Owner, opts Options) (*Batch, error) {
	switch {
	case opts.Limit < 0 || opts.Limit > MaxLimit:
		return nil, bankfeed.InvalidField("limit", "must be between 1 and %d", MaxLimit)
	case opts.Wait < 0 || opts.Wait > MaxWait:
		return nil, bankfeed.InvalidField("wait", "must be between 0 and %d seconds", int(MaxWait.Seconds()))
	case opts.Limit == 0:
		opts.Limit = MaxLimit
	}
	if err := s.previous(ctx, id); err != nil {
		return nil, err
	}
	q, err := s.find(ctx, id, o)
	if err != nil {
		return nil, err
	}
	from, err := s.start(ctx, q, opts.After)
	if err != nil {
		return nil, err
	}
	// Kept alive to the end of the wait before it begins.
	expires := keepUntil(q, s.now().Add(opts.Wait))
	switch {
	case from != q.Cursor:
		err = s.store.SeekQueue(ctx, id, from, expires)
	case expires != q.ExpiresAt:
		err = s.commit(ctx, Answer{ID: id, From: from, To: from, ExpiresAt: expires})
	}
	if err != nil {
		return nil, err
	}
	q.Cursor, q.ExpiresAt = from, expires

	b := &Batch{queues: s, queue: q, from: from}
	if opts.Wait == 0 {
		b.Events, err = s.events(ctx, q, from, opts.Limit)
		return b, err
	}
	// Registered first, so that what commits during the read is not missed.
	wake, stop := s.waker.Subscribe(o.Tenant, o.User, bankfeed.TopicConnections)
	defer stop()
	if b.Events, err = s.events(ctx, q, from, opts.Limit); err != nil || len(b.Events) > 0 {
		return b, err
	}
	timeout := time.NewTimer(opts.Wait)
	defer timeout.Stop()
	for over := false; len(b.Events) == 0 && !over; {
		select {
		case <-wake:
		case <-timeout.C:
			over = true
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if b.Events, err = s.events(ctx, q, from, opts.Limit); err != nil {
			return nil, err
		}
	}
	// It may have been deleted meanwhile. The cursor is not read again: if a
	// poller whose client is gone has moved it, this client still gets it all.
	if _, err = s.find(ctx, id, o); err != nil {
		return nil, err
	}
	return b, nil
}

// events reads on past events whose user was erased: there is nothing left to
// tell of them.
func (s *Queues) events(ctx context.Context, q Queue, after bankfeed.Position, limit int) ([]bankfeed.Event, error) {
	for {
		found, err := s.store.QueueEvents(ctx, q.Owner, after, limit)
		if err != nil {
			return nil, err
		}
		events := make([]bankfeed.Event, 0, len(found))
		for _, e := range found {
			if e.Snapshot != nil {
				events = append(events, e)
			}
		}
		if len(events) > 0 || len(found) < limit {
			return events, nil
		}
		after = found[len(found)-1].Position
	}
}

// Answered says how writing the answer ended. Without an error it moves the
// cursor behind the batch, durably when it returns. Call it after the answer was
// flushed, and before the client can know that it is complete (over HTTP, before
// the handler returns from an answer without Content-Length): then a client that
// polls again at another node finds the cursor moved. An error from Answered is
// for the log: the batch may come again. A second call does nothing.
func (b *Batch) Answered(ctx context.Context, err error) error {
	if b.done {
		return nil
	}
	b.done = true
	if b.answer != nil {
		defer b.queues.end(b.queue.ID, b.answer)
	}
	if err != nil {
		return nil // the batch is repeated
	}
	expires := keepUntil(b.queue, b.queues.now())
	a := Answer{ID: b.queue.ID, From: b.from, To: b.from, ExpiresAt: expires}
	if n := len(b.Events); n > 0 {
		a.To = b.Events[n-1].Position
	} else if expires.Equal(b.queue.ExpiresAt) {
		return nil // nothing to write
	}
	return b.queues.commit(ctx, a)
}
