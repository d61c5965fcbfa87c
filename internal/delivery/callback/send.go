package callback

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"time"

	"github.com/bankfeed/bankfeed"
)

// outcome is what came of an attempt.
type outcome struct {
	result Result
	at     time.Time
}

// never is far enough for a timer.
const never = time.Minute

// probeBatch is how many events are read to find one that probes.
const probeBatch = 20

// sendAll begins as many attempts as may be under way, and returns when there may
// be more without anything else happening.
func (l *lead) sendAll(now time.Time) time.Time {
	for {
		ok, at := l.may(now)
		if !ok {
			return at
		}
		if !l.t.Health.OutageSince.IsZero() {
			l.probe()
			return now.Add(never)
		}
		i := l.pick(now)
		if i == nil {
			return now.Add(never)
		}
		if !l.over(i, now) {
			l.start(i, now)
		}
	}
}

// may reports whether an attempt may begin, and when it may if time is all it
// takes.
func (l *lead) may(now time.Time) (ok bool, at time.Time) {
	h := &l.t.Health
	idle := len(l.rows)+len(l.fresh)+len(l.order.ready) == 0
	switch {
	case l.t.Status != Active, l.probing: // a full window does not hinder: it may be full of what waits for this
		return false, now.Add(never)
	case h.NotBefore.After(now):
		return false, h.NotBefore
	case !h.OutageSince.IsZero() && (l.inflight > 0 || l.nothing || l.reading):
		return false, now.Add(never)
	case !h.OutageSince.IsZero():
		if h.ProbeAt.After(now) {
			return false, h.ProbeAt
		}
		return l.signs(now), now.Add(never)
	case idle || l.inflight >= l.concurrent():
		return false, now.Add(never)
	case h.Failures >= suspectAfter && l.inflight > 0:
		return false, now.Add(never)
	case h.Failures >= suspectAfter && l.lastStart.Add(suspectPause).After(now):
		return false, l.lastStart.Add(suspectPause)
	}
	if !l.signs(now) {
		return false, now.Add(never)
	}
	if l.limiter != nil {
		r := l.limiter.ReserveN(now, 1)
		if d := r.DelayFrom(now); d > 0 {
			r.CancelAt(now)
			return false, now.Add(d)
		}
	}
	return true, now
}

// pick takes the next that is to be sent: what is due and what is new in turn, so
// that neither waits for all of the other.
func (l *lead) pick(now time.Time) *item {
	for len(l.order.ready) > 0 {
		i := l.order.ready[0]
		l.order.ready = l.order.ready[1:]
		if now.Sub(i.read) <= readTrust {
			return i
		}
		l.putBack(i, now)
		for _, next := range l.order.block(i.Connection) {
			l.putBack(next, now)
		}
		l.order.ended(i.Connection)
	}
	for len(l.rows)+len(l.fresh) > 0 {
		from := &l.fresh
		if len(l.fresh) == 0 || l.byRow && len(l.rows) > 0 {
			from = &l.rows
		}
		l.byRow = from == &l.fresh
		i := (*from)[0]
		(*from)[0] = nil
		*from = (*from)[1:]
		switch {
		case i.entry != nil && l.order.on && l.order.blocked[i.Connection] && i.Connection != 0:
			l.behind(i)
		case now.Sub(i.read) > readTrust:
			l.putBack(i, now)
		case !l.order.waits(i):
			return i
		}
	}
	return nil
}

// over ends a delivery of which there is nothing to send.
func (l *lead) over(i *item, now time.Time) bool {
	switch {
	case i.event == nil:
		i.State, i.Reason = Expired, ReasonExpired
	case i.event.Snapshot == nil:
		i.State, i.Reason = Erased, ReasonErased
	default:
		return false
	}
	i.NextAt, i.EndedAt = time.Time{}, now
	l.record(i, nil)
	l.order.ended(i.Connection)
	return true
}

// behind stores an item behind one of its connection that waits.
func (l *lead) behind(i *item) {
	i.State, i.Behind, i.NextAt = Waiting, true, time.Time{}
	l.record(i, nil)
}

// probe sends one delivery to a target in outage: by turns the one that has waited
// longest, and the newest, in case it is the oldest that is at fault.
func (l *lead) probe() {
	newest := l.t.Health.Probes%2 == 1
	l.probing = true
	var queries []laneQuery
	for _, a := range l.lanes {
		q := l.query(a)
		q.Limit = min(q.Limit, probeBatch)
		queries = append(queries, q)
	}
	l.background(func(ctx context.Context) func() {
		var next batch
		d, err := l.c.Store.Probe(ctx, l.key, newest)
		for _, q := range queries {
			if err == nil && len(next.events) == 0 && (newest || d == nil) {
				next, err = l.readOnce(ctx, q, map[bankfeed.UserID]bool{})
			}
		}
		var blocked []bankfeed.ConnectionID
		if err == nil && l.sub && len(next.events) > 0 && next.events[0].Connection != 0 {
			blocked, err = l.c.Store.Blocked(ctx, l.key, []bankfeed.ConnectionID{next.events[0].Connection})
		}
		return func() {
			l.probing = false
			if err != nil {
				l.failedQuery("looking for a probe", err)
				return
			}
			l.queryDone()
			l.probeWith(d, next, blocked)
			l.forget()
		}
	})
}

// probeWith sends the probe: the first event of the batch if there is one that
// waits for nothing, else the delivery that has a row.
func (l *lead) probeWith(d *Due, next batch, blocked []bankfeed.ConnectionID) {
	h, now := &l.t.Health, l.c.Now()
	if l.leaving || l.t.Status != Active || h.OutageSince.IsZero() {
		return // changed meanwhile
	}
	var i *item
	if len(next.events) > 0 && !(l.order.on && len(blocked) > 0) {
		next.events, next.next = next.events[:1], next.events[0].Position
		l.accept(next, nil)
		i, l.fresh = l.fresh[len(l.fresh)-1], l.fresh[:len(l.fresh)-1]
	} else if d != nil && l.known[d.ID] == nil {
		i = &item{Delivery: d.Delivery, event: d.Event, read: now}
		l.known[i.ID] = i
	}
	switch {
	case i != nil && !l.over(i, now):
		i.probe = true
		l.start(i, now)
	case i == nil && d != nil: // being stored
		h.ProbeAt = now.Add(commitEvery)
	case i == nil && next.next != 0 && next.next > l.lanes[next.lane].handed: // none of its business
		l.accept(next, nil)
	case i == nil && l.sub:
		h.ProbeAt = now.Add(slowRead)
	case i == nil: // whatever comes probes
		l.nothing = true
	}
}

// start begins an attempt.
func (l *lead) start(i *item, now time.Time) {
	i.flying, i.began, l.lastStart = true, now, now
	l.inflight++
	l.order.begins(i)
	if i.entry != nil {
		l.parking = append(l.parking, i)
	}
	d, e, t, secrets := i.Delivery, i.event, l.t, l.signing.secrets
	l.working.Go(func() {
		r := l.attempt(l.ctx, &d, e, &t, secrets)
		l.news <- func() { l.settle(i, r) }
	})
}

// attempt renders and sends.
func (e *Engine) attempt(ctx context.Context, d *Delivery, event *bankfeed.Event, t *Target, secrets []bankfeed.Secret) (r Result) {
	defer func() {
		if p := recover(); p != nil {
			r = Result{Cause: CauseRender, Text: fmt.Sprintf("panic: %v", p)}
			e.log.ErrorContext(ctx, "callback panicked", "tenant", d.Tenant, "event", d.EventID(), "panic", p, "stack", string(debug.Stack()))
		}
	}()
	body, err := e.c.Render(event, t)
	if err != nil {
		return Result{Cause: CauseRender, Text: err.Error()}
	}
	m := Message{
		ID: d.MessageID(), Type: d.Type, Sequence: d.Position, URL: d.URL, Secrets: secrets, Body: body, Attempt: d.Attempts + 1,
	}
	if d.Replay != 0 {
		m.Original = d.EventID()
	}
	if t.Subscription != nil {
		m.URL, m.Headers = t.URL, t.Subscription.Headers
	}
	return e.c.Transport.Send(ctx, m)
}

// settle takes in the end of an attempt.
func (l *lead) settle(i *item, r Result) {
	l.inflight--
	i.flying = false
	if !r.Delivered() && l.ctx.Err() != nil {
		return // it was cut off: nothing is known
	}
	o := outcome{r, l.c.Now()}
	if i.parked && i.entry == nil && i.ID == 0 {
		i.outcome = &o // its row is just being stored
		return
	}
	l.finish(i, o)
}

// finish decides what becomes of a delivery after an attempt.
func (l *lead) finish(i *item, o outcome) {
	d, h, r := &i.Delivery, &l.t.Health, o.result
	first := d.Attempts == 0
	d.Attempts++
	d.LastAt = i.began
	if d.FirstAt.IsZero() {
		d.FirstAt = i.began
	}
	attempt := &Attempt{Delivery: d.ID, Number: d.Attempts, At: i.began, Node: l.c.Node, Result: r}
	outage := false
	if r.Delivered() {
		d.State, d.Reason, d.Behind, d.NextAt, d.EndedAt = Delivered, "", false, time.Time{}, o.at
		l.failing = l.failing[:0]
		l.allowed = min(max(2*l.allowed, 2), l.most())
		if since := h.succeeded(o.at); !since.IsZero() {
			l.store.recovered = earlier(l.store.recovered, since)
			l.log.LogAttrs(l.ctx, slog.LevelInfo, "the receiver accepts callbacks again", slog.Time("since", since))
		}
	} else {
		if r.Cause.Sent() && r.Cause != CauseGone {
			outage = h.failed(r, i.began, o.at, l.different(d))
			if i.probe && !h.OutageSince.IsZero() {
				h.probed(&l.policy, o.at)
			}
			if h.Failures >= suspectAfter {
				l.allowed = 1
			}
		}
		if i.probe && !r.Cause.Sent() {
			h.ProbeAt = o.at.Add(firstProbe)
		}
		was := h.OutageSince
		l.policy.decide(d, h, r, !h.OutageSince.IsZero(), o.at)
		outage = outage || was.IsZero() && !h.OutageSince.IsZero()
		if r.Cause == CauseGone && l.sub && l.t.Status == Active {
			l.t.Status, l.t.Reason, l.store.disable = Disabled, ReasonGone, ReasonGone
			l.log.LogAttrs(l.ctx, slog.LevelWarn, "the receiver wants no more callbacks: its subscription is disabled")
		}
		l.tellFailure(i, &r)
	}
	i.probe = false
	l.store.health = true
	l.record(i, attempt)
	l.order.ended(d.Connection)
	if outage {
		l.log.LogAttrs(l.ctx, slog.LevelWarn, "the receiver accepts no callbacks: they wait, one of them probes",
			slog.Time("since", h.Since), slog.String("cause", string(h.LastCause)), slog.Time("next", h.ProbeAt))
	}
	seen := Observation{Subscription: l.sub, Result: r, State: d.State, First: first}
	if i.event != nil {
		seen.Age = o.at.Sub(i.event.At)
	}
	l.c.Observe(seen)
}

// different counts the deliveries that failed since the last success, this one
// included: those that this lead has seen, and every first attempt. One that is
// tried again and again, by one lead after the other, is one.
func (l *lead) different(d *Delivery) int {
	if id := d.MessageID(); len(l.failing) < outageDifferent && !slices.Contains(l.failing, id) {
		l.failing = append(l.failing, id)
	}
	if d.Attempts == 1 {
		return l.t.Health.Different + 1
	}
	return max(l.t.Health.Different, len(l.failing))
}

// tellFailure writes the one full line of a failed attempt. What the receiver
// said may hold data of the user: it is not in it.
func (l *lead) tellFailure(i *item, r *Result) {
	d := &i.Delivery
	attrs := []slog.Attr{
		slog.String("event", d.EventID().String()), slog.String("message", d.MessageID().String()), slog.String("type", string(d.Type)),
		slog.Int64("user", int64(d.User)), slog.Int64("connection", int64(d.Connection)),
		slog.Int("attempt", d.Attempts), slog.String("cause", string(r.Cause)), slog.Int("status", r.Status), slog.Duration("took", r.Duration),
		slog.String("decision", string(d.State)), slog.Bool("probe", i.probe),
	}
	if d.ID != 0 {
		attrs = append(attrs, slog.Int64("delivery", int64(d.ID)))
	}
	if d.State == Waiting {
		attrs = append(attrs, slog.Time("next", d.NextAt), slog.Int("step", d.Step))
	} else {
		attrs = append(attrs, slog.String("reason", d.Reason))
	}
	level := slog.LevelInfo
	if r.Cause == CauseRender {
		level = slog.LevelError
		attrs = append(attrs, slog.String("error", r.Text)) // the hub's own
	}
	l.log.LogAttrs(l.ctx, level, "callback failed", attrs...)
}

// record hands a delivery to the next commit.
func (l *lead) record(i *item, a *Attempt) {
	l.store.rows = true
	if i.entry != nil {
		i.entry.row, i.entry.done, i.entry.parked = Row{i.Delivery, a}, true, nil
	} else {
		l.store.changed = append(l.store.changed, Row{i.Delivery, a})
	}
	if i.State != Waiting || i.Behind || a == nil {
		return
	}
	for _, next := range l.order.block(i.Connection) {
		l.behind(next)
	}
}

// park lets the cursor pass attempts that take long: their deliveries become rows,
// which wait for the case that their leader dies.
func (l *lead) park(now time.Time) (wake time.Time) {
	for len(l.parking) > 0 {
		i := l.parking[0]
		if i.flying && i.entry != nil && !i.parked {
			if at := i.began.Add(parkAfter); at.After(now) {
				return at
			}
			row := i.Delivery
			row.NextAt = i.began.Add(l.c.Timeout + parkMargin)
			i.parked = true
			i.entry.row, i.entry.done, i.entry.parked = Row{row, nil}, true, i
			l.store.rows = true
			for _, next := range l.order.block(i.Connection) {
				l.behind(next)
			}
		}
		l.parking[0] = nil
		l.parking = l.parking[1:]
	}
	return now.Add(never)
}
