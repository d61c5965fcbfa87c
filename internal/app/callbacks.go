package app

import (
	"context"
	"encoding/json"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/config"
	"github.com/bankfeed/bankfeed/internal/delivery/callback"
	"github.com/bankfeed/bankfeed/internal/eventlog"
	"github.com/bankfeed/bankfeed/wire/finapi"
	"github.com/bankfeed/bankfeed/wire/native"
)

// What one node leads at the same time. A subscription keeps its place as long as
// it lives and costs little while nothing happens; the receivers of requests'
// callbacks come and go.
const (
	subscriptionsAtOnce = 10_000
	targetsAtOnce       = 4096
)

// openCallbacks prepares sending, and leads targets if the node has the role.
func (a *App) openCallbacks() {
	c := a.cfg.Callbacks
	s := a.data.Store.Callbacks()
	a.sender = callback.NewSender(callback.SenderConfig{Allow: c.Allow, Timeout: c.Timeout, Build: a.build, Now: a.now})
	a.opened.push("connections to receivers", func(context.Context) error { a.sender.Close(); return nil })
	a.callbacks = &callback.Service{Store: s, URLs: a.sender, Now: a.now}
	a.secrets = &callback.Secrets{Store: s, Now: a.now}
	if !a.cfg.Does(config.RoleDeliver) {
		return
	}
	engine := callback.New(callback.Config{
		Store: s, Log: s, Worlds: a.data.Store, Transport: a.sender, Render: renderCallback(a.data.Store.Installation()),
		Subscribe: func(t bankfeed.TenantID) (<-chan struct{}, func()) {
			return a.hub.Subscribe(t, 0, bankfeed.TopicData, bankfeed.TopicConnections)
		},
		Epoch: a.data.Store.Installation().Epoch, Node: a.node, Lanes: eventlog.Lanes, Jitter: c.Jitter, Schedule: c.Schedule, Timeout: c.Timeout,
		Now: a.now, Logger: a.log,
		Observe: func(o callback.Observation) {
			a.metrics.CalledBack(o.Subscription, string(o.State), string(o.Result.Cause), o.Result.Duration, o.Age, o.First)
		},
	})
	a.callbacks.Changed = engine.Changed
	a.claims(bankfeed.WorkSubscription, subscriptionsAtOnce, nil, engine.Run)
	a.claims(bankfeed.WorkTarget, targetsAtOnce, nil, engine.Run)
	a.calledBack = engine.Kick
	a.workers = append(a.workers, named{engine.Name(), engine.Watch},
		a.sweep("callbacks", time.Hour, func(ctx context.Context, now time.Time) (int, error) {
			return a.data.Store.SweepCallbacks(ctx, now.Add(-a.cfg.Retention), now)
		}))
}

// renderCallback writes what receivers get: a request's caller the words of its
// own dialect, a subscription the event as GET /v1/events shows it.
func renderCallback(in bankfeed.Installation) func(*bankfeed.Event, *callback.Target) ([]byte, error) {
	return func(e *bankfeed.Event, t *callback.Target) ([]byte, error) {
		if t.Subscription == nil {
			return finapi.RenderCallback(*e)
		}
		return json.Marshal(native.Renderer{Installation: in, Tenant: e.Tenant}.Event(*e))
	}
}
