package bench

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/delivery/callback"
)

// callbackWaiting: what many deliveries that wait for a receiver in outage cost
// the others, and how much memory. The rate is that of a drain with them, the
// baseline rate that of the same without them. Each round is measured beside a
// bare client, and the ratio is of those two ratios: what a database writes in the
// background after a million rows slows the whole machine. Growth is that of the
// heap.
func (r *run) callbackWaiting(ctx context.Context, p place, l callbackLoad) (err error) {
	if l.waiting == 0 {
		return nil
	}
	h, err := openCallbackHub(ctx, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	if err := h.fill(ctx, l.backlog/2); err != nil {
		return err
	}
	bodies, err := h.bodies(ctx)
	if err != nil {
		return err
	}
	measure := func() (rate, ratio, heap float64, err error) {
		var rates, ratios []float64
		for range l.rounds {
			d, err := h.drain(ctx, bodies)
			if err != nil {
				return 0, 0, 0, err
			}
			rates, ratios = append(rates, d.rate), append(ratios, d.rate/d.baseline)
		}
		runtime.GC()
		runtime.GC() // pools give back what they hold at the second
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		runtime.KeepAlive(bodies)
		return median(rates), median(ratios), float64(m.HeapAlloc), nil
	}
	r.Progress(fmt.Sprintf("callback waiting, %s: without", p.engine))
	before, ratioBefore, heapBefore, err := measure()
	if err != nil {
		return err
	}
	r.Progress(fmt.Sprintf("callback waiting, %s: %d deliveries begin to wait", p.engine, l.waiting))
	if err := h.wait(ctx, l.waiting); err != nil {
		return err
	}
	r.Progress(fmt.Sprintf("callback waiting, %s: with", p.engine))
	after, ratioAfter, heapAfter, err := measure()
	if err != nil {
		return err
	}
	return r.emit(Row{Bench: "callback", Case: "waiting", Engine: string(p.engine), N: l.waiting, Rate: rounded(after), BaselineRate: rounded(before),
		Ratio: rounded(ratioAfter / ratioBefore), Growth: rounded(heapAfter / heapBefore)})
}

// wait makes deliveries wait for a receiver in outage, which is led like any
// other.
func (c *callbackHub) wait(ctx context.Context, n int) error {
	gone, err := openReceiver(ctx, func(string) {})
	if err != nil {
		return err
	}
	gone.close() // nobody listens there any more
	_, head, err := c.store.Bounds(ctx, c.tenant, 0)
	if err != nil {
		return err
	}
	t, f, err := c.claim(ctx, gone.url, head)
	if err != nil {
		return err
	}
	now := time.Now()
	const atOnce = 1000
	for done := 0; done < n; done += atOnce {
		m := callback.Commit{Fence: f, Key: t.Key, Now: now,
			Health: &callback.Health{Failures: n, Different: 3, Silent: 3, Since: now, LastFailureAt: now, LastCause: callback.CauseRefused, OutageSince: now, Probes: 1, ProbeAt: now.Add(5 * time.Minute)}}
		for i := range min(atOnce, n-done) {
			m.New = append(m.New, callback.Row{Delivery: callback.Delivery{Tenant: c.tenant, Target: t.ID, User: c.user, State: callback.Waiting, Type: bankfeed.EventTransactionCreated,
				Position: head + bankfeed.Position(done+i+1), Attempts: 1, CreatedAt: now, FirstAt: now, LastAt: now, NextAt: now.Add(time.Hour)}})
		}
		if _, _, err := c.store.Callbacks().Commit(ctx, m); err != nil {
			return err
		}
	}
	c.lead(ctx, f)
	return nil
}
