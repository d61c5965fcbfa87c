package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

// ReplayRunnerConfig is what replays are done with.
type ReplayRunnerConfig struct {
	Store   ReplayStore
	Log     LogReader
	Worlds  Worlds
	Streams []Settings // of this node's configuration
	Node    string
	Build   string
	Now     func() time.Time
	Logger  *slog.Logger
}

// ReplaysAtOnce is how many replays a node does at the same time.
const ReplaysAtOnce = 2

// ReplayRunner does the replays that this node has claimed. Safe for concurrent
// use.
type ReplayRunner struct {
	c ReplayRunnerConfig

	mu     sync.Mutex
	pauses map[bankfeed.Fence]time.Duration // of replays that do not get on, Number 0
}

// NewReplayRunner returns a runner; nothing happens before Run.
func NewReplayRunner(c ReplayRunnerConfig) *ReplayRunner {
	return &ReplayRunner{c: c, pauses: map[bankfeed.Fence]time.Duration{}}
}

const (
	// replayPage is how many events are read, sent and confirmed before the
	// replay's position is stored: what a takeover repeats, under the same ids.
	replayPage = 500
	// replayPatience bounds the sending of a page.
	replayPatience = time.Minute
	// How long a replay waits for its broker: first and longest.
	firstReplayPause, longestReplayPause = time.Second, time.Minute
	// waiting begins the text of a replay that waits; what stands before it stays.
	waiting = "waiting: "
)

// Run does a replay from where it was left, until it is over, has to wait (it
// gives the work back until later then) or ctx ends. A replay that was cancelled
// ends without an error.
func (p *ReplayRunner) Run(ctx context.Context, f bankfeed.Fence) error {
	r, err := p.c.Store.Replay(ctx, f.Tenant, f.ID)
	if err != nil {
		return err
	}
	run := &replayRun{ReplayRunner: p, Replay: r, fence: f, log: p.c.Logger.With("replay", r.ID, "stream", r.Stream.Name)}
	err = run.do(ctx)
	var fatal *fatalError
	var outage *outageError
	switch {
	case err == nil || errors.Is(err, ErrCancelled):
		p.forget(f)
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, bankfeed.ErrFenced):
		return err
	case errors.As(err, &fatal):
		p.forget(f)
		run.note(fatal.text)
		run.log.WarnContext(ctx, "the replay failed", "reason", fatal.text)
		return run.end(ctx, ReplayFailed)
	case errors.As(err, &outage):
		return run.postpone(ctx, outage.text)
	}
	return err // of the database, most likely; the engine tries again later
}

// fatalError ends a replay: trying again cannot help.
type fatalError struct{ text string }

func (e *fatalError) Error() string { return e.text }

// outageError makes a replay wait.
type outageError struct{ text string }

func (e *outageError) Error() string { return e.text }

func outage(err error) error { return &outageError{err.Error()} }

// replayRun is one claim of a replay.
type replayRun struct {
	*ReplayRunner
	Replay
	fence bankfeed.Fence
	log   *slog.Logger

	rec  Record
	sel  *selection
	bus  banqup.Bus
	sent *replayOutlet
}

func (r *replayRun) do(ctx context.Context) error {
	if r.Ended() {
		return r.save(ctx, &bankfeed.Release{Done: true})
	}
	address, err := r.stream(ctx)
	if err != nil {
		return err
	}
	r.bus = NewBus(address, r.rec.Settings.Face, r.c.Node, r.c.Build)
	r.sel = newSelection(r.c.Log, r.c.Worlds, &r.rec, r.Filter)
	r.sel.filter.Last = r.Replay.end()
	if r.Status == ReplayPending {
		r.Status, r.StartedAt = ReplayRunning, r.c.Now()
	}
	if r.Total == TotalUnknown {
		n, err := r.sel.count(ctx, func() bool { return ctx.Err() == nil })
		if err != nil || !n.Complete {
			return errors.Join(err, ctx.Err())
		}
		r.Total = n.Total
	}
	if err := r.save(ctx, nil); err != nil {
		return err
	}
	r.sent, err = openReplay(ctx, address, fmt.Sprintf("bankfeed %s replay %d of %s", r.c.Node, r.ID, r.Stream.Name), r.Queue)
	if err != nil {
		return err
	}
	defer r.sent.close()
	for r.Position < r.sel.filter.Last {
		if err := r.page(ctx); err != nil {
			return err
		}
	}
	r.log.InfoContext(ctx, "replay done", "published", r.Published, "unrouted", r.Unrouted, "erased", r.Erased)
	return r.end(ctx, ReplayDone)
}

// stream finds the stream and where this node reaches its broker.
func (r *replayRun) stream(ctx context.Context) (address bankfeed.Secret, err error) {
	r.rec, err = r.c.Store.Stream(ctx, r.Stream)
	switch {
	case errors.Is(err, bankfeed.ErrNotFound):
		return "", &fatalError{"the stream is gone"}
	case err != nil:
		return "", err
	case !r.rec.Enabled:
		return "", &fatalError{disabled(&r.rec)}
	}
	for _, s := range r.c.Streams {
		if target, err := Target(s.URL); err == nil && target == r.rec.Target && s.Name == r.rec.Name {
			return s.URL, nil
		}
	}
	return "", &outageError{"the settings of node " + r.c.Node + " do not name the stream"}
}

// page sends the next page and stores how far that is.
func (r *replayRun) page(ctx context.Context) error {
	events, next, removed, err := r.sel.page(ctx, r.Position, replayPage)
	if err != nil {
		return err
	}
	step := r.Replay
	if removed > r.Position {
		r.note(fmt.Sprintf("events %d to %d were removed by retention before they were sent", r.Position+1, removed))
		next = max(next, removed)
	}
	sending, cancel := context.WithTimeout(ctx, replayPatience)
	defer cancel()
	unreadable, err := r.send(sending, &step, events)
	if err != nil {
		return err
	}
	for _, id := range unreadable {
		r.note("event " + id + " could not be written as a message")
	}
	text, _, _ := strings.Cut(r.Text, waiting)
	r.Published, r.Unrouted, r.Erased = step.Published, step.Unrouted, step.Erased
	r.Position, r.Text = next, strings.TrimSuffix(text, separator)
	r.forget(r.fence)
	return r.save(ctx, nil)
}

// send publishes events in their order and waits for the broker's confirms. A
// SessionFinished waits for those of its account's transactions.
func (r *replayRun) send(ctx context.Context, step *Replay, events []bankfeed.Event) (unreadable []string, err error) {
	stop := r.sent.abortAfter(ctx)
	defer stop()
	settle := func() error {
		returned, err := r.sent.settle(ctx)
		step.Published -= int64(returned)
		step.Unrouted += int64(returned)
		return err
	}
	open := map[bankfeed.AccountID]bool{} // with transactions under way
	var message, envelope []byte
	for i := range events {
		e := &events[i]
		kind, _ := banqup.KindOf(e.Type)
		message, err = banqup.AppendMessage(message[:0], e, r.rec.Settings.Face)
		switch {
		case errors.Is(err, banqup.ErrErased):
			step.Erased++
			continue
		case err != nil:
			r.log.ErrorContext(ctx, "an event cannot be written as a message", "event", e.ID(), "error", err)
			unreadable = append(unreadable, e.ID().String())
			continue
		}
		if kind == banqup.Session && open[e.Account] {
			if err := settle(); err != nil {
				return nil, err
			}
			clear(open)
		}
		open[e.Account] = open[e.Account] || kind == banqup.Transaction
		// Everything but the name of the node depends on the event and the order
		// alone, so a repeat after a takeover is the same.
		d := banqup.Delivery{MessageID: r.MessageID(e.Position), SentTime: r.CreatedAt(), Original: e.ID(), Queue: r.Queue}
		envelope = r.bus.AppendEnvelope(envelope[:0], kind, d, message)
		if err := r.sent.send(ctx, kind, d, envelope); err != nil {
			return nil, err
		}
		step.Published++
	}
	return unreadable, settle()
}

// separator stands between remarks.
const separator = "; "

// maxText bounds the remarks on a replay: beyond it none is added.
const maxText = 1000

// note adds a remark, once.
func (r *replayRun) note(text string) {
	kept, _, _ := strings.Cut(r.Text, waiting)
	kept = strings.TrimSuffix(kept, separator)
	switch {
	case kept == "":
		r.Text = text
	case !strings.Contains(kept, text) && len(kept) < maxText:
		r.Text = kept + separator + text
	default:
		r.Text = kept
	}
}

// postpone gives the replay back until later. It is never given up: a person can
// cancel it.
func (r *replayRun) postpone(ctx context.Context, text string) error {
	before := r.Text
	r.note(waiting + text)
	if r.Text != before {
		r.log.WarnContext(ctx, "the replay waits", "reason", text) // once an outage
	}
	return ended(r.save(ctx, &bankfeed.Release{ReadyAt: r.c.Now().Add(r.pause(r.fence))}))
}

func (r *replayRun) end(ctx context.Context, status ReplayStatus) error {
	r.Status, r.EndedAt = status, r.c.Now()
	return ended(r.save(ctx, &bankfeed.Release{Done: true}))
}

// ended: a cancel is not an error.
func ended(err error) error {
	if errors.Is(err, ErrCancelled) {
		return nil
	}
	return err
}

func (r *replayRun) save(ctx context.Context, release *bankfeed.Release) error {
	return r.c.Store.SaveReplay(ctx, r.fence, r.Replay, release)
}

// pause is how long a replay waits this time: longer each time that it does not
// get on.
func (p *ReplayRunner) pause(f bankfeed.Fence) time.Duration {
	f.Number = 0
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pauses[f] = min(max(2*p.pauses[f], firstReplayPause), longestReplayPause)
	return p.pauses[f]
}

func (p *ReplayRunner) forget(f bankfeed.Fence) {
	f.Number = 0
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.pauses, f)
}
