package callback_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/delivery/callback"
)

// life is a run of the engine on a node.
type life struct {
	*node
	engine *callback.Engine
	cancel context.CancelFunc
	ended  chan error
}

func (w *world) config(n *node) callback.Config {
	return callback.Config{
		Store: n, Log: n, Worlds: n, Transport: n, Subscribe: w.subscribe, Epoch: epoch, Node: "n1", Now: time.Now,
		Render: func(e *bankfeed.Event, _ *callback.Target) ([]byte, error) {
			return fmt.Appendf(nil, `{"n":%d}`, e.Position), nil
		},
	}
}

// lead claims the work, and takes it over if it is claimed.
func (w *world) lead(change ...func(*callback.Config)) *life {
	w.mu.Lock()
	w.lastFence++
	w.fence, w.readyAt = w.lastFence, time.Time{}
	n := &node{world: w, fence: w.fence}
	f := bankfeed.Fence{Kind: bankfeed.WorkSubscription, Tenant: key.Tenant, ID: int64(key.ID), Number: w.fence}
	if w.target.Subscription == nil {
		f.Kind = bankfeed.WorkTarget
	}
	w.mu.Unlock()
	c := w.config(n)
	for _, f := range change {
		f(&c)
	}
	l := &life{node: n, engine: callback.New(c), ended: make(chan error, 1)}
	var ctx context.Context
	ctx, l.cancel = context.WithCancel(context.Background())
	go func() {
		watched := make(chan struct{})
		watching, stop := context.WithCancel(ctx)
		if w.unwatched {
			stop()
		}
		go func() { _ = l.engine.Watch(watching); close(watched) }()
		err := l.engine.Run(ctx, f)
		stop()
		<-watched
		l.ended <- err
	}()
	return l
}

// stop ends it as a node does that is asked to.
func (l *life) stop() error {
	l.cancel()
	return <-l.ended
}

// kill ends it as kill -9 does: nothing that it does from now on reaches the
// database.
func (l *life) kill() {
	l.mu.Lock()
	l.dead = true
	l.mu.Unlock()
	l.cancel()
	<-l.ended
}

// serve works on the target of requests whenever it is ready, until the end.
func (w *world) serve(t *testing.T, change ...func(*callback.Config)) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			w.mu.Lock()
			at := w.readyAt
			w.mu.Unlock()
			if !at.IsZero() && !at.After(time.Now()) {
				l := w.lead(change...)
				select {
				case err := <-l.ended:
					if err != nil {
						t.Errorf("the run ended with %v", err)
					}
				case <-done:
					_ = l.stop()
					return
				}
				l.cancel()
				continue
			}
			if at.IsZero() {
				at = time.Now().Add(time.Hour)
			}
			select {
			case <-done:
				return
			case <-w.ready:
			case <-time.After(time.Until(at)):
			}
		}
	}()
	return func() { close(done); <-ended }
}

// order makes a request's callback wait, as the store does.
func (w *world) order(u bankfeed.UserID, once bool) callback.DeliveryID {
	w.happen(1, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	d := callback.Delivery{Tenant: 1, Target: key.ID, Type: bankfeed.EventRequestFinished, User: u, Connection: 1, Epoch: epoch, Position: bankfeed.Position(len(w.events)),
		URL: bankfeed.Secret(fmt.Sprintf("https://receiver.test/%d", u)), Once: once, State: callback.Waiting, CreatedAt: now, NextAt: now.Add(500 * time.Millisecond)}
	w.add(&d)
	if w.readyAt.IsZero() || d.NextAt.Before(w.readyAt) {
		w.readyAt = d.NextAt
		w.kick()
	}
	return d.ID
}

func (w *world) kick() {
	select {
	case w.ready <- struct{}{}:
	default:
	}
}

// change does what a client does through the API.
func (w *world) change(f func(*callback.Target)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(&w.target)
	w.target.Version++
	if w.target.Subscription == nil {
		w.readyAt = time.Now()
		w.kick()
	}
}

// redrive makes everything that was given up or skipped wait again.
func (w *world) redrive() {
	w.change(func(*callback.Target) {
		for _, d := range w.deliveries {
			if d.State == callback.GivenUp || d.State == callback.Skipped {
				d.State, d.Reason, d.Step, d.NextAt, d.EndedAt = callback.Waiting, "", 0, time.Now(), time.Time{}
				w.open[d.ID] = d
			}
		}
	})
}

func (w *world) states() map[callback.State]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := map[callback.State]int{}
	for _, d := range w.deliveries {
		m[d.State]++
	}
	return m
}

func (w *world) delivery(p bankfeed.Position) callback.Delivery {
	w.mu.Lock()
	defer w.mu.Unlock()
	if d := w.deliveries[w.places[[2]int64{int64(p), 0}]]; d != nil {
		return *d
	}
	return callback.Delivery{}
}

func (w *world) health() callback.Health {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.target.Health
}

func (w *world) cursor() bankfeed.Position {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.target.Cursors[0].Position
}

// arrivals are those at the receiver since the last call.
func (w *world) arrivals() []arrival {
	w.mu.Lock()
	defer w.mu.Unlock()
	got := w.got
	w.got = nil
	return got
}

// pauses are those between messages.
func pauses(list []arrival) (p []time.Duration) {
	for i := 1; i < len(list); i++ {
		p = append(p, list[i].at.Sub(list[i-1].at).Round(time.Second))
	}
	return p
}

// pass lets fake time pass.
func pass(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // fake time
	synctest.Wait()
}

// inBubble runs a test with a world in fake time.
func inBubble(t *testing.T, s *callback.Settings, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, newWorld(t, s)) })
}

func stopped(t *testing.T, l *life) {
	t.Helper()
	require.NoError(t, l.stop())
}
