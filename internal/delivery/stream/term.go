package stream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

// term is one try to lead a stream: the life of one connection. Its fields belong
// to the goroutine of run.
type term struct {
	*Relay
	key Key

	broker *broker
	out    *outlet
	number int64 // of the term; 0 while another node leads
	saved  bool  // something was stored: the term got on

	progress Progress
	gaps     gaps
	retry    map[banqup.Kind]time.Time // when a waiting exchange is tried again
	flowing  map[banqup.Kind]bool      // held, and catching up
	saver    saver
	blocked  string // why the broker takes nothing
	unread   string // why the log cannot be read
	wake     <-chan struct{}
	safe     atomic.Int64 // progress.Position, for the watcher
	news     chan news    // from the watcher
	asked    bool         // for a redrive
	blind    string       // of the watcher: what it has told last
}

const (
	// applyEvery is how often a node that does not lead asks again.
	applyEvery = time.Second
	// retryEvery is how often an exchange without a binding is tried.
	retryEvery = 2 * time.Second
	// turn is how long live messages and those that catch up take turns.
	turn = time.Second
	// drainPatience is how long a stop waits for confirms.
	drainPatience = 2 * time.Second
	// confirmPatience is how long the broker may confirm nothing without saying
	// that it blocks.
	confirmPatience = 30 * time.Second
)

// run leads until the connection or ctx ends.
func (t *term) run(ctx context.Context) (err error) {
	b, err := dial(ctx, t.c.Settings.URL, fmt.Sprintf("bankfeed %s stream %s", t.c.Node, t.key.Name))
	if err != nil {
		return err
	}
	t.broker = b
	defer b.close()
	// A publish that the broker does not read cannot be interrupted otherwise.
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(drainPatience+time.Second, func() { _ = b.raw.Close() }) })
	defer stop()
	if err := b.declareExchanges(); err != nil {
		return err
	}
	if ok, err := t.apply(ctx); !ok || err != nil {
		return err
	}
	if err := t.mayLead(ctx); err != nil {
		return err
	}
	record, err := t.c.Store.LeadStream(ctx, t.key, t.c.Node, t.c.Now())
	if err != nil {
		return fmt.Errorf("beginning a term: %w", err)
	}
	t.begin(record)
	if err := t.expire(ctx); err != nil {
		return err
	}
	_ = b.declareFaults(t.key.Name) // the watcher says why not
	if t.out, err = b.outlet(t.c.Window); err != nil {
		return err
	}
	t.set("", true)
	t.log.InfoContext(ctx, "leading the stream", "term", t.number, "position", t.progress.Position)
	var stopWake func()
	t.wake, stopWake = t.c.Subscribe(t.key.Tenant)
	defer stopWake()
	var watching sync.WaitGroup
	watch, stopWatch := context.WithCancel(ctx)
	watching.Go(func() { t.watch(watch) })
	defer watching.Wait()
	defer stopWatch()

	err = t.lead(ctx)
	if errSave := t.saveNow(ctx); err == nil && errSave != nil {
		err = errSave
	}
	return err
}

// apply waits for the leadership. ok is false when ctx ended first.
func (t *term) apply(ctx context.Context) (ok bool, err error) {
	var looked time.Time
	trouble := ""
	for {
		err := t.broker.apply()
		if !errors.Is(err, errLed) {
			return err == nil, err
		}
		if now := t.c.Now(); now.Sub(looked) >= aliveEvery {
			looked, trouble = now, t.stranger(ctx, now)
		}
		t.set(trouble, false)
		timer := time.NewTimer(applyEvery)
		select {
		case <-timer.C:
		case e, ok := <-t.broker.closed:
			timer.Stop()
			return false, lost(e, ok)
		case <-ctx.Done():
			timer.Stop()
			return false, nil
		}
	}
}

// stranger says so when somebody leads on this virtual host who is no node of
// this database.
func (t *term) stranger(ctx context.Context, now time.Time) string {
	r, err := t.c.Store.Stream(ctx, t.key)
	if err != nil || now.Sub(r.LedAt) < 3*aliveEvery || now.Sub(r.SavedAt) < 3*aliveEvery || now.Sub(r.CreatedAt) < 3*aliveEvery {
		return ""
	}
	return fmt.Sprintf("another connection holds the queue %s, but no node of this database leads: another hub publishes on this virtual host, or its leader stands still",
		leaderQueue)
}

// mayLead fails when a node that started later has another broker for the
// stream: two leaders in turn would leave each broker with a part. One that has
// no stream has disabled it.
func (t *term) mayLead(ctx context.Context) error {
	r, err := t.c.Store.Stream(ctx, t.key)
	if err != nil {
		return fmt.Errorf("beginning a term: %w", err)
	}
	if target, err := Target(t.c.Settings.URL); err != nil || target != r.Target {
		return fmt.Errorf("a node that started later publishes this stream to %s: the configurations of the nodes differ", r.Target)
	}
	if !r.Enabled {
		return t.c.Store.EnableStream(ctx, t.key, t.c.Settings, r.Target, 0, t.c.Now())
	}
	return nil
}

// say tells, and stores, why the leader does not get on.
func (t *term) say() {
	t.progress.Trouble, t.saver.dirty = cmp.Or(t.blocked, t.unread), true
	t.set(cmp.Or(t.progress.Trouble, t.saver.trouble), true)
}

// begin takes over what the leader before has stored.
func (t *term) begin(r Record) {
	t.number, t.progress = r.Term, r.Progress
	t.progress.Trouble, t.progress.Blind = "", ""
	if t.progress.Holds == nil {
		t.progress.Holds = map[banqup.Kind]Hold{}
	}
	if t.progress.Exchanges == nil {
		t.progress.Exchanges = map[banqup.Kind]Exchange{}
	}
	if t.progress.Queues == nil {
		t.progress.Queues = map[string]Queue{}
	}
	maps.DeleteFunc(t.progress.Queues, func(name string, _ Queue) bool { return !slices.Contains(t.c.Settings.Queues, name) })
	maps.DeleteFunc(t.progress.Holds, func(k banqup.Kind, _ Hold) bool { return !slices.Contains(t.c.Settings.Messages, k) })
	t.retry, t.flowing = map[banqup.Kind]time.Time{}, map[banqup.Kind]bool{}
	for k, h := range t.progress.Holds {
		t.flowing[k] = h.Redrive || t.mode(k) != UnroutedHold // what a hold of other settings kept goes out
	}
	t.news = make(chan news, 16)
	t.saver = saver{done: make(chan error, 1), dirty: true}
	t.join()
}

// lead alternates: what waited for a binding and catches up, and what is new.
func (t *term) lead(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := t.takeRedrives(ctx); err != nil {
			return err
		}
		if err := t.catchUp(ctx); err != nil {
			return err
		}
		f := t.flow(t.progress.Position)
		f.live = true
		if next := t.nextRetry(); !next.IsZero() {
			f.yieldAt = next
		}
		if len(t.catching()) > 0 {
			f.yieldAt, f.yieldIdle = t.c.Now().Add(turn), true
		}
		if err := f.run(ctx); err != nil {
			return err
		}
	}
	return nil
}

// news is what the watcher has found.
type news struct {
	queues map[string]Queue
	faults map[banqup.Kind]int64
	asked  bool    // for a redrive
	blind  *string // why nothing else is found; empty: it is
}

// hear takes news in, and reports whether the flow should yield for it.
func (t *term) hear(n news) (yield bool) {
	for name, q := range n.queues {
		old := t.progress.Queues[name]
		if q.DrainedAt.IsZero() {
			q.Drained, q.DrainedAt = old.Drained, old.DrainedAt
		}
		q.Drained = min(q.Drained, bankfeed.Position(t.safe.Load())) // a hold may have begun meanwhile
		t.progress.Queues[name] = q
		t.saver.dirty = true
	}
	for k, count := range n.faults {
		x := t.progress.Exchanges[k]
		x.Faults += count
		t.progress.Exchanges[k] = x
		t.saver.dirty = true
	}
	if n.blind != nil {
		t.progress.Blind, t.saver.dirty = *n.blind, true
	}
	t.asked = t.asked || n.asked
	return n.asked
}

// ended is why the connection, or the channel, ended. The library tells at about
// the time when it fails everything else.
func (t *term) ended() error {
	select {
	case e, ok := <-t.broker.closed:
		return lost(e, ok)
	case e, ok := <-t.out.closed:
		return t.lostChannel(e, ok)
	case <-time.After(closePatience):
		return errors.New("the channel to the broker was closed")
	}
}

func (t *term) lostChannel(e *amqp.Error, ok bool) error {
	if ok && e != nil && e.Code == amqp.NotFound {
		return fmt.Errorf("an exchange was deleted; it is declared again, its consumers must bind again: %w", e)
	}
	return lost(e, ok)
}
