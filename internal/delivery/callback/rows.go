package callback

import (
	"context"
	"time"
)

// due makes the leader look for due deliveries at a time.
func (l *lead) due(at time.Time) {
	l.nothing = false
	l.nextDue, l.soon = earlier(l.nextDue, at), earlier(l.soon, at)
}

// earlier is the earlier of two times; zero is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// load reads due deliveries ahead.
func (l *lead) load(now time.Time) (wake time.Time) {
	wake = now.Add(never)
	if l.loading || l.t.Status != Active || !l.t.Health.OutageSince.IsZero() || len(l.rows) >= fewLeft {
		return wake
	}
	at := l.nextDue
	if !l.sub && l.inflight > 0 && len(l.rows) == 0 { // somebody may have ordered more
		at = earlier(at, l.loadedAt.Add(lookEvery))
	}
	if at.IsZero() {
		return wake
	}
	if hold := l.t.Health.NotBefore.Add(-readTrust); hold.After(at) { // it would be put back at once
		at = hold
	}
	if at.After(now) {
		return at
	}
	if l.uncommitted() >= window {
		return wake // a commit comes first
	}
	l.loading, l.soon, l.loadedAt = true, time.Time{}, now
	limit := dueBatch + len(l.known)
	l.background(func(ctx context.Context) func() {
		due, next, err := l.c.Store.Due(ctx, l.key, now, limit)
		return func() {
			l.loading = false
			if err != nil {
				l.failedQuery("reading what is due", err)
				return
			}
			l.queryDone()
			for i := range due {
				l.addRow(&due[i], now)
			}
			l.forget()
			l.nextDue = earlier(next, l.soon)
		}
	})
	return wake
}

// addRow takes a due delivery into memory, unless it is there.
func (l *lead) addRow(d *Due, read time.Time) {
	if _, ok := l.known[d.ID]; ok || l.t.Status != Active || !l.t.Health.OutageSince.IsZero() {
		return
	}
	i := &item{Delivery: d.Delivery, event: d.Event, read: read}
	l.known[d.ID] = i
	l.rows = append(l.rows, i)
}

// unload empties the memory of what is not under way, since it may not be for long.
func (l *lead) unload(now time.Time) {
	all := append(append(l.order.clear(), l.rows...), l.fresh...)
	l.rows, l.fresh = nil, nil
	for _, i := range all {
		l.putBack(i, now)
	}
}

// putBack leaves a delivery that is not under way to the store: it is read again.
func (l *lead) putBack(i *item, now time.Time) {
	switch {
	case i.entry == nil:
		delete(l.known, i.ID)
		l.due(now)
	case l.order.on && i.Connection != 0:
		l.order.blocked[i.Connection] = true
		l.behind(i)
	default:
		i.NextAt = now
		l.record(i, nil)
	}
}

// forget lets deliveries be read again that were stored. A query that began
// before that may have read them as they were.
func (l *lead) forget() {
	if l.loading || l.probing {
		return
	}
	for _, id := range l.forgotten {
		delete(l.known, id)
	}
	l.forgotten = l.forgotten[:0]
}
