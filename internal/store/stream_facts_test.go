package store_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/delivery/pollqueue"
	"github.com/bankfeed/bankfeed/internal/delivery/stream"
	"github.com/bankfeed/bankfeed/internal/eventlog"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

// appendTypes appends one event of user 7 for each type.
func appendTypes(t *testing.T, s *store.Store, types ...bankfeed.EventType) {
	t.Helper()
	c := page(1, 7, len(types))
	for i, typ := range types {
		c.Events[i].Type = typ
	}
	_, err := s.AppendEvents(context.Background(), c)
	require.NoError(t, err)
}

func message(n byte) bankfeed.UUID { return bankfeed.UUID{15: n} }

func TestMarks(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx, now := context.Background(), storetest.Now
		require.NoError(t, s.EnableStream(ctx, banqupKey, stream.Settings{}, "host/a", 10, now))
		r, err := s.LeadStream(ctx, banqupKey, "n1", now)
		require.NoError(t, err)
		tick := func(n int) time.Time { return now.Add(time.Duration(n) * 100 * time.Millisecond) }
		save(t, s, r, 10, now)      // nothing was sent yet
		save(t, s, r, 20, tick(1))  // a mark
		save(t, s, r, 30, tick(5))  // too soon
		save(t, s, r, 30, tick(11)) // a mark
		save(t, s, r, 30, tick(40)) // no progress
		save(t, s, r, 50, tick(41)) // a mark
		save(t, s, r, 60, tick(42)) // too soon
		by := func(p bankfeed.Position) *stream.Mark {
			t.Helper()
			facts, err := s.Facts(ctx, banqupKey, []bankfeed.Position{p, 1000})
			require.NoError(t, err)
			require.Nil(t, facts[1000].ConfirmedBy)
			return facts[p].ConfirmedBy
		}
		mark := func(p bankfeed.Position, tick int, term int64, node string) *stream.Mark {
			return &stream.Mark{Position: p, At: now.Add(time.Duration(tick) * 100 * time.Millisecond), Term: term, Leader: node}
		}
		require.Nil(t, by(10), "the stream began after it")
		require.Equal(t, mark(20, 1, 1, "n1"), by(11))
		require.Equal(t, mark(20, 1, 1, "n1"), by(20))
		require.Equal(t, mark(30, 11, 1, "n1"), by(21))
		require.Equal(t, mark(50, 41, 1, "n1"), by(31))
		require.Equal(t, mark(60, 42, 1, "n1"), by(51), "as it was saved")
		require.Nil(t, by(61))

		// The next leader claims nothing of the last one's work.
		r, err = s.LeadStream(ctx, banqupKey, "n2", tick(50))
		require.NoError(t, err)
		require.Equal(t, mark(60, 42, 1, "n1"), by(51))
		save(t, s, r, 61, tick(51))
		require.Equal(t, mark(60, 42, 1, "n1"), by(60))
		require.Equal(t, mark(61, 51, 2, "n2"), by(61))
	})
}

func TestGapOfAnEvent(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx, now := context.Background(), storetest.Now
		account, transaction := bankfeed.EventAccountUpdated, bankfeed.EventTransactionCreated
		appendTypes(t, s, account, transaction, account, bankfeed.EventSyncStarted, transaction, account, transaction)
		r := enable(t, s, banqupKey, "host/a")
		gap := func(kind banqup.Kind, reason stream.GapReason, first, last bankfeed.Position) stream.Gap {
			return stream.Gap{Kind: kind, Reason: reason, First: first, Last: last, Count: 1, Since: now, Until: now}
		}
		lost, erased := gap(banqup.Account, stream.GapUnrouted, 1, 6), gap(banqup.Transaction, stream.GapErased, 5, 5)
		inside := gap(banqup.Account, stream.GapUnrouted, 3, 3) // as confirms come in another order
		save(t, s, r, 7, now, lost, erased)
		of := func() map[bankfeed.Position]*stream.Gap {
			facts, err := s.Facts(ctx, banqupKey, []bankfeed.Position{1, 2, 3, 4, 5, 6, 7})
			require.NoError(t, err)
			gaps := map[bankfeed.Position]*stream.Gap{}
			for p, f := range facts {
				if f.Gap != nil {
					gaps[p] = f.Gap
				}
			}
			return gaps
		}
		require.Equal(t, map[bankfeed.Position]*stream.Gap{1: &lost, 3: &lost, 5: &erased, 6: &lost}, of())
		require.NoError(t, s.ResolveGaps(ctx, banqupKey, banqup.Account, 0, 6, now.Add(time.Hour)))
		lost.ResolvedAt = now.Add(time.Hour)
		save(t, s, r, 7, now, inside)
		require.Equal(t, map[bankfeed.Position]*stream.Gap{1: &lost, 3: &inside, 5: &erased, 6: &lost}, of(), "open ones go first")
		require.NoError(t, s.ResolveGaps(ctx, banqupKey, banqup.Account, 0, 6, now.Add(2*time.Hour)))
		inside.ResolvedAt = now.Add(2 * time.Hour)
		require.Equal(t, map[bankfeed.Position]*stream.Gap{1: &lost, 3: &inside, 5: &erased, 6: &lost}, of(), "then the last resolved")
	})
}

const quoted = "PL27114020040000300201355387 is not an account"

func TestFaultsAreSealed(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx, now := context.Background(), storetest.Now
		for _, user := range []bankfeed.UserID{7, 8} {
			_, err := s.AppendEvents(ctx, page(1, user, 2))
			require.NoError(t, err)
		}
		fault := func(p bankfeed.Position, n byte, replay int64) stream.Fault {
			return stream.Fault{Message: message(n), Position: p, Replay: replay, Kind: banqup.Transaction, At: now.Add(time.Duration(n) * time.Second),
				Type: "System.FormatException", Text: quoted, Host: "consumer-1"}
		}
		_, err := s.RecordFaults(ctx, banqupKey, []stream.Fault{fault(1, 1, 0)})
		require.ErrorIs(t, err, bankfeed.ErrNotFound, "no such stream")
		enable(t, s, banqupKey, "host/a")
		record := func(want map[banqup.Kind]int64, faults ...stream.Fault) {
			t.Helper()
			got, err := s.RecordFaults(ctx, banqupKey, faults)
			require.NoError(t, err)
			require.Equal(t, want, got)
		}
		unread := fault(3, 9, 0)
		unread.Kind, unread.Text = "", ""
		record(map[banqup.Kind]int64{banqup.Transaction: 3, "": 1},
			fault(3, 3, 0), fault(1, 1, 0), fault(1, 2, 99), unread, fault(0, 4, 0), fault(5, 5, 0))
		other := fault(1, 1, 0)
		other.Text, other.Host = "somebody else", "consumer-2"
		record(map[banqup.Kind]int64{}, other)
		record(map[banqup.Kind]int64{banqup.Transaction: 1}, fault(3, 3, 0), fault(4, 6, 0))

		list := func(position, before bankfeed.Position, limit int) []stream.Fault {
			faults, err := s.Faults(ctx, banqupKey, position, before, limit)
			require.NoError(t, err)
			return faults
		}
		all := []stream.Fault{fault(4, 6, 0), unread, fault(3, 3, 0), fault(1, 2, 99), fault(1, 1, 0)}
		require.Equal(t, all, list(0, 0, 10))
		require.Equal(t, all[:3], list(0, 0, 2), "an event's faults are not torn apart")
		require.Equal(t, all[3:], list(0, 3, 1))
		require.Equal(t, all[1:3], list(3, 0, 10))
		facts, err := s.Facts(ctx, banqupKey, []bankfeed.Position{1, 2, 3})
		require.NoError(t, err)
		require.Equal(t, []stream.Fault{fault(1, 1, 0), fault(1, 2, 99)}, facts[1].Faults)
		require.Empty(t, facts[2].Faults)

		n, err := s.Count(ctx, `SELECT count(*) FROM stream_faults WHERE exception IS NOT NULL`)
		require.NoError(t, err)
		require.Equal(t, 4, n)
		n, err = s.Count(ctx, `SELECT count(*) FROM stream_faults WHERE position($1 in exception) > 0`, []byte(quoted))
		if s.Engine() == store.SQLite {
			n, err = s.Count(ctx, `SELECT count(*) FROM stream_faults WHERE instr(exception, $1) > 0`, []byte(quoted))
		}
		require.NoError(t, err)
		require.Zero(t, n)

		// With the key every text is gone, and with a payload its own; a fault
		// that comes after that is noted without one.
		silent := func(f stream.Fault) stream.Fault { f.Text = ""; return f }
		require.NoError(t, s.DestroyUserKey(ctx, 1, 7))
		require.Equal(t, []stream.Fault{silent(fault(1, 2, 99)), silent(fault(1, 1, 0))}, list(1, 0, 10))
		record(map[banqup.Kind]int64{banqup.Transaction: 1}, fault(2, 7, 0))
		require.Equal(t, []stream.Fault{silent(fault(2, 7, 0))}, list(2, 0, 10))
		redact := func(user bankfeed.UserID, p eventlog.Part) {
			_, _, err := s.RedactEvents(ctx, 1, user, p, 0, 10)
			require.NoError(t, err)
		}
		redact(8, eventlog.Part{Accounts: []bankfeed.AccountID{4}})
		require.Equal(t, all[:3], list(0, 0, 3))
		redact(8, eventlog.Part{Accounts: []bankfeed.AccountID{3}})
		redact(7, eventlog.Part{})
		require.Equal(t, []stream.Fault{silent(fault(4, 6, 0)), unread, silent(fault(3, 3, 0))}, list(0, 0, 3))
		record(map[banqup.Kind]int64{banqup.Transaction: 1}, fault(4, 8, 0))
		n, err = s.Count(ctx, `SELECT count(*) FROM stream_faults WHERE exception IS NOT NULL`)
		require.NoError(t, err)
		require.Zero(t, n)
	})
}

func TestAcknowledgements(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx, now := context.Background(), storetest.Now
		_, err := s.AppendEvents(ctx, page(1, 7, 5))
		require.NoError(t, err)
		ack := func(p bankfeed.Position, replay int64, consumer string) stream.Acknowledgement {
			return stream.Acknowledgement{Position: p, Replay: replay, At: now, Consumer: consumer}
		}
		_, err = s.Acknowledge(ctx, banqupKey, []stream.Acknowledgement{ack(1, 0, "")})
		require.ErrorIs(t, err, bankfeed.ErrNotFound, "no such stream")
		enable(t, s, banqupKey, "host/a")
		say := func(want int, acks ...stream.Acknowledgement) {
			t.Helper()
			n, err := s.Acknowledge(ctx, banqupKey, acks)
			require.NoError(t, err)
			require.Equal(t, want, n)
		}
		say(0)
		say(4, ack(5, 0, "a"), ack(2, 0, ""), ack(2, 77, ""), ack(2, 0, `it's "b"`), ack(6, 0, "a"), ack(0, 0, "a"), ack(-1, 0, "a"))
		later := ack(2, 0, "")
		later.At = now.Add(time.Hour)
		say(1, later, ack(5, 0, "a"), ack(1, 0, "a"))
		trimmed, err := s.TrimEvents(ctx, 1, 0, now.Add(time.Hour), 1, 10)
		require.NoError(t, err)
		require.Equal(t, 1, trimmed)
		say(0, ack(1, 0, "too late"))

		facts, err := s.Facts(ctx, banqupKey, []bankfeed.Position{1, 2, 5})
		require.NoError(t, err)
		require.Equal(t, []stream.Acknowledgement{ack(2, 0, ""), ack(2, 0, `it's "b"`), ack(2, 77, "")}, facts[2].Acknowledgements)
		require.Equal(t, []stream.Acknowledgement{ack(5, 0, "a")}, facts[5].Acknowledgements)
		require.NotContains(t, facts, bankfeed.Position(1))
	})
}

// What is known of events goes with them, and nothing else does.
func TestTrimTakesWhatStreamsKnow(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx, now := context.Background(), storetest.Now
		_, err := s.AppendEvents(ctx, page(1, 7, 10))
		require.NoError(t, err)
		_, err = s.AppendEvents(ctx, page(2, 7, 10))
		require.NoError(t, err)
		keys := []stream.Key{banqupKey, {Tenant: 1, Name: "second"}, {Tenant: 2, Name: "banqup"}}
		for i, k := range keys {
			r := enable(t, s, k, k.Name+string(rune('a'+i)))
			for p := bankfeed.Position(2); p <= 10; p += 2 {
				gap := stream.Gap{Kind: banqup.Account, Reason: stream.GapErased, First: p - 1, Last: p, Count: 2, Since: now, Until: now}
				save(t, s, r, p, now.Add(time.Duration(p)*time.Second), gap)
				_, err := s.RecordFaults(ctx, k, []stream.Fault{{Message: message(byte(p)), Position: p, At: now, Text: quoted}})
				require.NoError(t, err)
				_, err = s.Acknowledge(ctx, k, []stream.Acknowledgement{{Position: p, At: now}})
				require.NoError(t, err)
				replay, err := s.AddReplay(ctx, stream.Replay{Stream: k, Until: p}, now)
				require.NoError(t, err)
				if p != 4 { // which is still under way
					_, err = s.CancelReplay(ctx, k.Tenant, replay.ID, now)
					require.NoError(t, err)
				}
			}
		}
		left := func(tenant int64) (n [5]int) {
			for i, table := range []string{"stream_marks", "stream_gaps", "stream_faults", "stream_acks", "replays"} {
				n[i], err = s.Count(ctx, `SELECT count(*) FROM `+table+` WHERE tenant_id = $1`, tenant)
				require.NoError(t, err)
			}
			return n
		}
		trim := func(upTo bankfeed.Position) {
			_, err := s.TrimEvents(ctx, 1, 0, now.Add(time.Hour), upTo, 100)
			require.NoError(t, err)
		}
		require.Equal(t, [5]int{10, 10, 10, 10, 10}, left(1))
		trim(5)
		require.Equal(t, [5]int{6, 6, 6, 6, 8}, left(1), "up to 4; a gap that goes beyond stays")
		trim(10)
		require.Equal(t, [5]int{0, 0, 0, 0, 2}, left(1))
		require.Equal(t, [5]int{5, 5, 5, 5, 5}, left(2), "another tenant's")
		all, err := s.Streams(ctx, 1)
		require.NoError(t, err)
		require.Len(t, all, 2)
	})
}

// However late an event is committed after its time, nothing that was committed
// from a time on lies before the position that is found for it.
func TestSeekTime(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx, now := context.Background(), storetest.Now
		none, err := s.SeekTime(ctx, 1, 0, now)
		require.NoError(t, err)
		require.Zero(t, none)
		commit := func(p int) time.Time { return now.Add(time.Duration(p) * time.Minute) }
		const n = 200
		c := page(1, 7, n)
		for i := range c.Events {
			delay := time.Duration(i*i%9) * time.Minute // 0 to 8, up and down
			c.Events[i].At = commit(i + 1).Add(-delay)
		}
		_, err = s.AppendEvents(ctx, c)
		require.NoError(t, err)
		_, err = s.TrimEvents(ctx, 1, 0, commit(1000), 20, 100)
		require.NoError(t, err)
		for p := 1; p <= n+30; p++ {
			got, err := s.SeekTime(ctx, 1, 0, commit(p))
			require.NoError(t, err)
			require.Less(t, int(got), max(p, 21), "from minute %d", p)
			require.GreaterOrEqual(t, int(got), min(max(20, p-12), n), "from minute %d", p)
		}
	})
}

// What a bank lists again without a change is for streams that ask for it.
func TestSeenIsForStreamsOnly(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		account, transaction := bankfeed.EventAccountSeen, bankfeed.EventTransactionSeen
		appendTypes(t, s, account, transaction, bankfeed.EventTransactionCreated, transaction, bankfeed.EventSyncSucceeded, transaction, transaction)
		connections, seen, data := bankfeed.TopicConnections, bankfeed.TopicSeen, bankfeed.TopicData
		for name, c := range map[string]struct {
			q    eventlog.Query
			want []bankfeed.Position
		}{
			"lane":                {eventlog.Query{}, []bankfeed.Position{3, 5}},
			"user":                {eventlog.Query{User: 7}, []bankfeed.Position{3, 5}},
			"account of the user": {eventlog.Query{User: 7, Account: 3}, []bankfeed.Position{3, 5}},
			"connection":          {eventlog.Query{Connection: 5}, []bankfeed.Position{3, 5}},
			"by type":             {eventlog.Query{Types: []bankfeed.EventType{transaction, bankfeed.EventSyncSucceeded}}, []bankfeed.Position{5}},
			"topic":               {eventlog.Query{Topic: &data}, []bankfeed.Position{3}},
			"topic of the user":   {eventlog.Query{User: 7, Topic: &connections}, []bankfeed.Position{5}},
			"that topic":          {eventlog.Query{Topic: &seen}, nil},
			"that topic, asked":   {eventlog.Query{Topic: &seen, Seen: true}, []bankfeed.Position{1, 2, 4, 6, 7}},
			"asked":               {eventlog.Query{Seen: true}, []bankfeed.Position{1, 2, 3, 4, 5, 6, 7}},
			"asked by type":       {eventlog.Query{Seen: true, Types: []bankfeed.EventType{transaction}}, []bankfeed.Position{2, 4, 6, 7}},
		} {
			c.q.Tenant = 1
			for _, limit := range []int{1, 100} {
				// A reader goes on where it was told to, and comes to the end.
				c.q.Limit, c.q.After = limit, 0
				var got []bankfeed.Position
				for c.q.After < 7 {
					events, next, err := s.ReadEvents(ctx, c.q)
					require.NoError(t, err, name)
					require.Greater(t, next, c.q.After, name)
					for _, e := range events {
						got = append(got, e.Position)
					}
					c.q.After = next
				}
				require.Equal(t, c.want, got, name)
			}
		}
		events, err := s.QueueEvents(ctx, pollqueue.Owner{Tenant: 1, User: 7}, 0, 100)
		require.NoError(t, err)
		require.Len(t, events, 1)
		require.Equal(t, bankfeed.Position(5), events[0].Position)

		// They are blanked like the rest.
		_, _, err = s.RedactEvents(ctx, 1, 7, eventlog.Part{}, 0, 100)
		require.NoError(t, err)
		n, err := s.Count(ctx, `SELECT count(*) FROM events WHERE payload IS NOT NULL`)
		require.NoError(t, err)
		require.Zero(t, n)
	})
}

// A log full of what others do not see costs a reader bounded looks, and none of
// its events.
func TestSeenDoesNotHoldReadersUp(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		const n = 45_000 // more than two looks
		require.NoError(t, s.AddRows(ctx, "lanes", []string{"tenant_id", "lane", "position", "floor"}, 1, func(int) []any {
			return []any{int64(1), int64(0), int64(n), int64(0)}
		}))
		columns := []string{"tenant_id", "lane", "position", "type", "topic", "at", "user_id", "connection_id", "account_id", "session_id"}
		require.NoError(t, s.AddRows(ctx, "events", columns, n, func(i int) []any {
			typ := bankfeed.EventTransactionSeen
			if i == n-1 {
				typ = bankfeed.EventTransactionCreated
			}
			return []any{int64(1), int64(0), int64(i + 1), string(typ), int64(typ.Topic()), int64(0), int64(7), int64(5), int64(3), int64(9)}
		}))
		for _, user := range []bankfeed.UserID{0, 7} {
			q, looks := eventlog.Query{Tenant: 1, User: user, Limit: 100}, 0
			for {
				events, next, err := s.ReadEvents(ctx, q)
				require.NoError(t, err)
				looks, q.After = looks+1, next
				if next == n {
					require.Len(t, events, 1)
					break
				}
				require.Empty(t, events)
			}
			require.Equal(t, 3, looks)
		}
	})
}
