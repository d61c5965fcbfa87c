package app

import (
	"context"
	"errors"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/delivery/stream"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

// openReplays lets this node do replays, if it knows a stream.
func (a *App) openReplays() {
	if len(a.cfg.Streams) == 0 {
		return
	}
	c := stream.ReplayRunnerConfig{Store: a.data.Store, Log: a.data.Store, Worlds: a.data.Store, Node: a.node, Build: a.build, Now: a.now, Logger: a.log}
	for _, s := range a.cfg.Streams {
		c.Streams = append(c.Streams, streamSettings(s))
	}
	a.claims(bankfeed.WorkReplay, stream.ReplaysAtOnce, nil, stream.NewReplayRunner(c).Run)
}

// Replays takes orders for replays; a node that runs carries them out.
func (d *Data) Replays(now func() time.Time) *stream.Replays {
	return stream.NewReplays(stream.ReplaysConfig{
		Store: d.Store, Log: d.Store, Worlds: d.Store, Epoch: d.Store.Installation().Epoch, Now: now,
	})
}

// Replay is a replay and how far it has come.
type Replay = stream.Replay

// ReplayCount is what a replay would send.
type ReplayCount = stream.ReplayCount

// ReplayText is an order for a replay as an operator types it.
type ReplayText struct {
	Tenant, Stream, Queue, Event                string
	User, Connection, Account, Session, Consent string
	Messages                                    []string
	// From and To are positions or times; a bare date is its midnight in UTC. A
	// position is inclusive, a time is so in From only.
	From, To string
	World    string // live or sandbox; empty: both
}

// ReplayOrder reads an order.
func (d *Data) ReplayOrder(ctx context.Context, t ReplayText) (o stream.ReplayOrder, err error) {
	o = stream.ReplayOrder{Stream: t.Stream, Queue: t.Queue}
	if o.Tenant, err = d.TenantNamed(ctx, t.Tenant); err != nil {
		return o, err
	}
	if t.Event != "" {
		if o.Event, err = bankfeed.ParseUUID(t.Event); err != nil || o.Event == (bankfeed.UUID{}) {
			return o, bankfeed.InvalidField("event", "expected the UUID of an event or message")
		}
	}
	f := &o.Filter
	for _, named := range []struct {
		kind  bankfeed.Kind
		field string
		text  string
		set   func(int64)
	}{
		{bankfeed.KindUser, "user", t.User, func(n int64) { f.User = bankfeed.UserID(n) }},
		{bankfeed.KindConnection, "connection", t.Connection, func(n int64) { f.Connection = bankfeed.ConnectionID(n) }},
		{bankfeed.KindAccount, "account", t.Account, func(n int64) { f.Account = bankfeed.AccountID(n) }},
		{bankfeed.KindSession, "session", t.Session, func(n int64) { f.Session = bankfeed.SessionID(n) }},
		{bankfeed.KindConsent, "consent", t.Consent, func(n int64) { f.Consent = bankfeed.ConsentID(n) }},
	} {
		if named.text == "" {
			continue
		}
		n, ok := d.Store.Installation().ParseID(named.text, named.kind, o.Tenant)
		if !ok {
			return o, bankfeed.InvalidField(named.field, "expected a number, or a UUID of this installation and tenant")
		}
		named.set(n)
	}
	for _, k := range t.Messages {
		f.Messages = append(f.Messages, banqup.Kind(k))
	}
	if f.First, f.From, err = positionOrTime("from", t.From); err != nil {
		return o, err
	}
	if f.Last, f.To, err = positionOrTime("to", t.To); err != nil {
		return o, err
	}
	switch f.World = stream.World(t.World); f.World {
	case "", stream.Live, stream.Sandbox:
	default:
		return o, bankfeed.InvalidField("world", "expected %s or %s", stream.Live, stream.Sandbox)
	}
	return o, nil
}

func positionOrTime(field, s string) (bankfeed.Position, time.Time, error) {
	if s == "" {
		return 0, time.Time{}, nil
	}
	if n, ok := bankfeed.ParseNumber(s); ok {
		return bankfeed.Position(n), time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return 0, t.UTC(), nil
		}
	}
	return 0, time.Time{}, bankfeed.InvalidField(field, "expected a position, a date, or a time such as 2026-03-01T12:00:00Z")
}

// TenantNamed finds a tenant by its name; the only one if there is no name.
func (d *Data) TenantNamed(ctx context.Context, name string) (bankfeed.TenantID, error) {
	id, count, err := d.tenant(ctx, name)
	switch {
	case err != nil:
		return 0, err
	case count > 1:
		return 0, bankfeed.InvalidField("tenant", "there are %d: name one", count)
	case count == 0:
		return 0, errors.New("there is no such tenant: see bankfeed client list")
	}
	return id, nil
}

// tenant finds a tenant by its name, or any if there is no name, and counts how
// many there are to choose from.
func (d *Data) tenant(ctx context.Context, name string) (id bankfeed.TenantID, count int, err error) {
	clients, err := d.Access().ListClients(ctx)
	found := map[bankfeed.TenantID]bool{}
	for _, c := range clients {
		if name == "" || c.Tenant == name {
			id = c.Client.Tenant
			found[id] = true
		}
	}
	return id, len(found), err
}
