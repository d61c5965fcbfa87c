package stream_test

import (
	"context"
	"encoding/binary"
	"slices"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/delivery/stream"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

// records is a Store, a log and an index in memory. Users from 20 on are of the
// sandbox; those from 90 on never were.
type records struct {
	stream.Store
	record   stream.Record
	events   []bankfeed.Event
	floor    bankfeed.Position
	budget   bankfeed.Position // how far one Select looks; 0: to the end
	marks    []stream.Mark
	facts    map[bankfeed.Position]stream.Facts
	gaps     []stream.Gap
	faults   []stream.Fault
	replays  []stream.Replay
	acks     []stream.Acknowledgement
	redriven []banqup.Kind
	owners   map[int64]bankfeed.UserID // of connections, accounts, consents and sessions alike; their connection is 100
	sessions map[string][]bankfeed.SessionID
	sought   time.Time
	seek     bankfeed.Position
	looked   []stream.LogQuery
}

func (f *records) Streams(_ context.Context, tenant bankfeed.TenantID) ([]stream.Record, error) {
	if tenant != key.Tenant {
		return nil, nil
	}
	return []stream.Record{f.record}, nil
}

func (f *records) Stream(_ context.Context, k stream.Key) (stream.Record, error) {
	if k != key {
		return stream.Record{}, bankfeed.ErrNotFound
	}
	return f.record, nil
}

func (f *records) Facts(_ context.Context, _ stream.Key, positions []bankfeed.Position) (map[bankfeed.Position]stream.Facts, error) {
	found := map[bankfeed.Position]stream.Facts{}
	for _, p := range positions {
		found[p] = f.facts[p]
	}
	return found, nil
}

func (f *records) Gaps(_ context.Context, _ stream.Key, open bool, before bankfeed.Position, limit int) ([]stream.Gap, error) {
	var list []stream.Gap
	for _, g := range f.gaps {
		if (!open || g.ResolvedAt.IsZero()) && (before == 0 || g.First < before) && len(list) < limit {
			list = append(list, g)
		}
	}
	return list, nil
}

func (f *records) Faults(_ context.Context, _ stream.Key, position, before bankfeed.Position, limit int) ([]stream.Fault, error) {
	var list []stream.Fault
	for _, x := range f.faults {
		same := len(list) > 0 && list[len(list)-1].Position == x.Position // whole events, as the store has it
		if (position == 0 || x.Position == position) && (before == 0 || x.Position < before) && (len(list) < limit || same) {
			list = append(list, x)
		}
	}
	return list, nil
}

func (f *records) Replay(_ context.Context, tenant bankfeed.TenantID, id int64) (stream.Replay, error) {
	for _, r := range f.replays {
		if r.ID == id && tenant == r.Stream.Tenant {
			return r, nil
		}
	}
	return stream.Replay{}, bankfeed.ErrNotFound
}

func (f *records) Replays(context.Context, bankfeed.TenantID, int64, int) ([]stream.Replay, error) {
	return slices.Clone(f.replays), nil
}

func (f *records) Acknowledge(_ context.Context, _ stream.Key, list []stream.Acknowledgement) (int, error) {
	f.acks = append(f.acks, list...)
	return len(list), nil
}

func (f *records) RedriveStream(_ context.Context, _ stream.Key, kinds []banqup.Kind, _ time.Time) error {
	f.redriven = kinds
	return nil
}

func (f *records) SeekTime(_ context.Context, _ bankfeed.TenantID, _ int, at time.Time) (bankfeed.Position, error) {
	f.sought = at
	return f.seek, nil
}

func (f *records) Bounds(context.Context, bankfeed.TenantID, int) (floor, head bankfeed.Position, err error) {
	if n := len(f.events); n > 0 {
		head = f.events[n-1].Position
	}
	return f.floor, head, nil
}

func (f *records) Select(_ context.Context, q stream.LogQuery) (found []bankfeed.Event, next bankfeed.Position, err error) {
	f.looked = append(f.looked, q)
	next = q.After
	for _, e := range f.events {
		if e.Tenant != q.Tenant || e.Position <= q.After || f.budget > 0 && e.Position > q.After+f.budget {
			continue
		}
		next = e.Position
		if (q.User == 0 || e.User == q.User) && (q.Connection == 0 || e.Connection == q.Connection) && (q.Account == 0 || e.Account == q.Account) &&
			(q.Session == 0 || e.Session == q.Session) && (len(q.Types) == 0 || slices.Contains(q.Types, e.Type)) {
			if found = append(found, e); len(found) == q.Limit {
				break
			}
		}
	}
	return found, next, nil
}

func (f *records) StreamEventsAt(_ context.Context, tenant bankfeed.TenantID, _ int, positions []bankfeed.Position) (found []bankfeed.Event, err error) {
	for _, e := range f.events {
		if e.Tenant == tenant && slices.Contains(positions, e.Position) {
			found = append(found, e)
		}
	}
	return found, nil
}

func (f *records) StreamMark(_ context.Context, _ stream.Key, at time.Time) (stream.Mark, error) {
	if len(f.marks) == 0 {
		return stream.Mark{}, bankfeed.ErrNotFound
	}
	m := f.marks[0]
	for _, n := range f.marks {
		if !n.At.After(at) {
			m = n
		}
	}
	return m, nil
}

func (f *records) StreamOwner(_ context.Context, _ bankfeed.TenantID, _ bankfeed.Kind, number int64) (bankfeed.UserID, bankfeed.ConnectionID, error) {
	user, ok := f.owners[number]
	if !ok {
		return 0, 0, bankfeed.ErrNotFound
	}
	return user, 100, nil
}

func (f *records) StreamSessions(_ context.Context, _ bankfeed.TenantID, externalID string, _ int) ([]bankfeed.SessionID, error) {
	return f.sessions[externalID], nil
}

func (f *records) SandboxUser(_ context.Context, _ bankfeed.TenantID, user bankfeed.UserID) (bool, error) {
	if user >= 90 {
		return false, bankfeed.ErrNotFound
	}
	return user >= 20, nil
}

// append adds an event; the n-th is n minutes after noon.
func (f *records) append(typ bankfeed.EventType, user bankfeed.UserID, fill func(*bankfeed.Event)) bankfeed.Event {
	p := bankfeed.Position(len(f.events) + 1)
	e := bankfeed.Event{Epoch: hub.Epoch, Tenant: 1, Position: p, Type: typ, At: at(int(p)), User: user, Connection: 100, Snapshot: &bankfeed.Snapshot{}}
	if fill != nil {
		fill(&e)
	}
	f.events = append(f.events, e)
	return e
}

// at is so many minutes after noon.
func at(minutes int) time.Time { return noon.Add(time.Duration(minutes) * time.Minute) }

func newRecords() (*records, *stream.Inspector) {
	f := &records{
		record: stream.Record{
			Key: key, Enabled: true, Target: "broker:5672/hub", CreatedAt: noon, Term: 3, Leader: "node-a", LedAt: noon, Epoch: hub.Epoch, SavedAt: at(60),
			Settings: stream.Settings{Name: "main", URL: "amqp://u:hunter2@broker/hub"},
			Progress: stream.Progress{Exchanges: map[banqup.Kind]stream.Exchange{
				banqup.Account: {Routed: true, LastRouted: true, Published: 4}, banqup.Transaction: {Routed: true, LastRouted: true, Published: 9},
			}},
		},
		facts: map[bankfeed.Position]stream.Facts{}, owners: map[int64]bankfeed.UserID{}, sessions: map[string][]bankfeed.SessionID{},
	}
	return f, stream.NewInspector(stream.InspectorConfig{
		Store: f, Log: f, Index: f, Worlds: f, Installation: hub, Now: func() time.Time { return at(60) },
	})
}

func states(steps []stream.StoryStep) (list []stream.StoryState) {
	for _, s := range steps {
		list = append(list, s.State)
	}
	return list
}

// v7 is a UUID of version 7 made at a time.
func v7(t time.Time) (u bankfeed.UUID) {
	binary.BigEndian.PutUint64(u[:8], uint64(t.UnixMilli())<<16|0x7abc)
	u[8], u[15] = 0x80, 7
	return u
}
