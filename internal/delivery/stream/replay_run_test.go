package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/backing/backingtest"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

// replayBroker is a real one, with a consumer's queue.
type replayBroker struct {
	t       *testing.T
	address bankfeed.Secret
	ch      *amqp.Channel
}

func newReplayBroker(t *testing.T) *replayBroker {
	t.Helper()
	b := &replayBroker{t: t, address: bankfeed.Secret(backingtest.AMQPURL(t))}
	conn, err := amqp.Dial(string(b.address))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	b.ch, err = conn.Channel()
	require.NoError(t, err)
	return b
}

func (b *replayBroker) queue(name string, kinds ...banqup.Kind) {
	b.t.Helper()
	_, err := b.ch.QueueDeclare(name, true, false, false, false, nil)
	require.NoError(b.t, err)
	for _, k := range kinds {
		require.NoError(b.t, b.ch.ExchangeDeclare(k.Exchange(), amqp.ExchangeFanout, true, false, false, false, nil))
		require.NoError(b.t, b.ch.QueueBind(name, "", k.Exchange(), false, nil))
	}
}

// take empties a queue.
func (b *replayBroker) take(name string) (list []amqp.Delivery) {
	b.t.Helper()
	for {
		d, ok, err := b.ch.Get(name, true)
		require.NoError(b.t, err)
		if !ok {
			return list
		}
		list = append(list, d)
	}
}

// replayPositions are those of messages, by their ids.
func replayPositions(t *testing.T, list []amqp.Delivery) (ps []bankfeed.Position) {
	t.Helper()
	for _, d := range list {
		id, err := bankfeed.ParseUUID(d.MessageId)
		require.NoError(t, err)
		_, _, _, p, ok := bankfeed.ParseEventID(id)
		require.True(t, ok)
		ps = append(ps, p)
	}
	return ps
}

// runner is a node that can do the replays of a world.
func (w *replayWorld) runner(address bankfeed.Secret, node string) *ReplayRunner {
	target, err := Target(address)
	if err != nil {
		panic(err)
	}
	w.shelf.streams[0].Target = target
	return NewReplayRunner(ReplayRunnerConfig{
		Store: w.shelf, Log: w.lane, Worlds: w.lane, Streams: []Settings{{Name: "other", URL: address}, {Name: "main", URL: address}}, Node: node,
		Build: "20260302.1", Now: func() time.Time { return w.now }, Logger: slog.New(slog.DiscardHandler),
	})
}

func (w *replayWorld) start(t *testing.T, o ReplayOrder) (id int64, f bankfeed.Fence) {
	t.Helper()
	r, _, err := w.Start(t.Context(), o)
	require.NoError(t, err)
	return r.ID, bankfeed.Fence{Kind: bankfeed.WorkReplay, Tenant: 1, ID: r.ID, Number: w.shelf.fence}
}

func (w *replayWorld) get(t *testing.T, id int64) Replay {
	t.Helper()
	r, err := w.Replay(t.Context(), 1, id)
	require.NoError(t, err)
	return r
}

func TestReplayToTheExchanges(t *testing.T) {
	b := newReplayBroker(t)
	b.queue("consumer", banqup.Transaction, banqup.Session, banqup.Account)
	w := newReplayWorld(Settings{}, "")
	w.session(4, 700)
	w.session(5, 3)
	w.lane.erase(10)
	w.lane.change(11, func(e *bankfeed.Event) { e.User = 8 })
	id, f := w.start(t, replayOrder(ReplayFilter{World: Live}))
	w.session(6, 5) // after the request
	w.now = w.now.Add(time.Minute)
	require.NoError(t, w.runner(b.address, "0123456789ab").Run(t.Context(), f))

	r := w.get(t, id)
	require.Equal(t, ReplayDone, r.Status)
	require.EqualValues(t, 701+2+2, r.Published) // transactions, accounts, ends of sessions
	require.EqualValues(t, 2, r.Unrouted)        // nobody has bound the bank calls
	require.EqualValues(t, 1, r.Erased)
	require.Equal(t, r.Total, r.Published+r.Unrouted)
	require.Equal(t, r.Until, r.Position)
	require.Equal(t, w.now, r.EndedAt)
	require.Equal(t, w.now, r.StartedAt)
	require.Empty(t, r.Text)
	require.Equal(t, &bankfeed.Release{Done: true}, w.shelf.release)

	got := b.take("consumer")
	require.Len(t, got, int(r.Published))
	require.IsIncreasing(t, replayPositions(t, got))
	for i, p := range replayPositions(t, got) {
		e := w.lane.events[p-1]
		k, _ := banqup.KindOf(e.Type)
		d := got[i]
		require.Equal(t, k.Exchange(), d.Exchange)
		require.Equal(t, r.MessageID(p).String(), d.MessageId)
		require.NotEqual(t, e.ID().String(), d.MessageId)
		require.Equal(t, amqp.Table{banqup.HeaderOriginalID: e.ID().String(), banqup.HeaderReplay: "true"}, d.Headers)
		require.Equal(t, banqup.ContentType, d.ContentType)
		require.Equal(t, amqp.Persistent, d.DeliveryMode)

		var envelope struct {
			MessageID   string            `json:"messageId"`
			Message     json.RawMessage   `json:"message"`
			MessageType []string          `json:"messageType"`
			Headers     map[string]string `json:"headers"`
			SentTime    time.Time         `json:"sentTime"`
		}
		require.NoError(t, json.Unmarshal(d.Body, &envelope))
		first, err := banqup.AppendMessage(nil, &e, banqup.Settings{})
		require.NoError(t, err)
		require.Equal(t, string(first), string(envelope.Message), "the message is that of the first delivery, byte for byte")
		require.Equal(t, d.MessageId, envelope.MessageID)
		require.Equal(t, []string{k.URN()}, envelope.MessageType)
		require.Equal(t, e.ID().String(), envelope.Headers[banqup.HeaderOriginalID])
		require.Equal(t, "true", envelope.Headers[banqup.HeaderReplay])
		require.True(t, envelope.SentTime.Equal(r.CreatedAt()))
	}
}

func TestReplayToOneQueue(t *testing.T) {
	b := newReplayBroker(t)
	b.queue("consumer", banqup.Kinds...)
	b.queue("catching up")
	w := newReplayWorld(Settings{Face: banqup.Settings{OmitNulls: true, DecimalsAsText: true}}, "")
	w.session(4, 20)
	o := replayOrder(ReplayFilter{Messages: []banqup.Kind{banqup.Transaction}, First: 5, Last: 8})
	o.Queue = "catching up"
	id, f := w.start(t, o)
	require.NoError(t, w.runner(b.address, "0123456789ab").Run(t.Context(), f))
	require.EqualValues(t, 4, w.get(t, id).Published)
	require.Empty(t, b.take("consumer"))
	got := b.take("catching up")
	require.Equal(t, []bankfeed.Position{5, 6, 7, 8}, replayPositions(t, got))
	require.Contains(t, string(got[0].Body), `/catching%20up"`)
	require.NotContains(t, string(got[0].Body), "null")
}

// A node is killed after the broker has confirmed and before that is stored;
// another takes over. Nothing is missing, what comes twice has the same id and
// the same message, and the last copies are in order.
func TestReplayIsTakenOverInTheMiddle(t *testing.T) {
	b := newReplayBroker(t)
	b.queue("consumer", banqup.Kinds...)
	w := newReplayWorld(Settings{}, "")
	w.session(4, 1800)
	id, f := w.start(t, replayOrder(ReplayFilter{}))

	killed := errors.New("killed")
	w.shelf.onSave = func(n int, _ Replay) error {
		if n == 3 { // the start, two pages
			return killed
		}
		return nil
	}
	require.ErrorIs(t, w.runner(b.address, "000000000001").Run(t.Context(), f), killed)
	half := w.get(t, id)
	require.Equal(t, ReplayRunning, half.Status)
	require.Positive(t, half.Position)
	require.Less(t, half.Position, half.Until)

	w.shelf.onSave = nil
	w.shelf.fence++
	require.ErrorIs(t, w.runner(b.address, "000000000001").Run(t.Context(), f), bankfeed.ErrFenced, "the first owner wakes up")
	f.Number = w.shelf.fence
	require.NoError(t, w.runner(b.address, "000000000002").Run(t.Context(), f))

	r := w.get(t, id)
	require.Equal(t, ReplayDone, r.Status)
	require.Equal(t, r.Total, r.Published)
	require.Equal(t, half.StartedAt, r.StartedAt)
	got := b.take("consumer")
	last, repeated := map[bankfeed.Position]int{}, 0
	bodies := map[string]string{}
	for i, p := range replayPositions(t, got) {
		require.Equal(t, r.MessageID(p).String(), got[i].MessageId)
		var envelope struct {
			Message json.RawMessage `json:"message"`
		}
		require.NoError(t, json.Unmarshal(got[i].Body, &envelope))
		if before, ok := bodies[got[i].MessageId]; ok {
			require.Equal(t, before, string(envelope.Message))
			repeated++
		}
		bodies[got[i].MessageId] = string(envelope.Message)
		last[p] = i
	}
	require.Len(t, last, int(r.Total), "none is lost")
	require.Positive(t, repeated)
	require.LessOrEqual(t, repeated, replayPage)
	at := -1
	for p := bankfeed.Position(1); p <= r.Until; p++ {
		if i, sent := last[p]; sent {
			require.Greater(t, i, at, "position %d", p)
			at = i
		}
	}
	t.Logf("%d messages, lost 0, repeated %d under the same id, out of order 0", len(last), repeated)
}

func TestReplayIsCancelled(t *testing.T) {
	b := newReplayBroker(t)
	b.queue("consumer", banqup.Kinds...)
	w := newReplayWorld(Settings{}, "")
	w.session(4, 3000)
	id, f := w.start(t, replayOrder(ReplayFilter{}))
	w.shelf.onSave = func(n int, r Replay) error {
		if n == 2 {
			_, err := w.Cancel(t.Context(), 1, r.ID)
			require.NoError(t, err)
		}
		return nil
	}
	require.NoError(t, w.runner(b.address, "0123456789ab").Run(t.Context(), f))
	require.Equal(t, ReplayCancelled, w.get(t, id).Status)
	sent := len(b.take("consumer"))
	require.Less(t, sent, 3*replayPage)

	require.NoError(t, w.runner(b.address, "0123456789ab").Run(t.Context(), f), "claimed once more")
	require.Empty(t, b.take("consumer"))

	// While it waits for a broker, too.
	id, f = w.start(t, replayOrder(ReplayFilter{}))
	w.shelf.onSave = func(_ int, r Replay) error {
		if r.Text != "" {
			_, err := w.Cancel(t.Context(), 1, r.ID)
			require.NoError(t, err)
		}
		return nil
	}
	require.NoError(t, w.runner(noBroker(t), "0123456789ab").Run(t.Context(), f))
	require.Equal(t, ReplayCancelled, w.get(t, id).Status)
}

// noBroker is the address of a broker that is not there.
func noBroker(t *testing.T) bankfeed.Secret {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return bankfeed.Secret(fmt.Sprintf("amqp://guest:hunter2@%s/", l.Addr()))
}

func TestReplayToAQueueThatIsMissing(t *testing.T) {
	b := newReplayBroker(t)
	w := newReplayWorld(Settings{}, "")
	w.session(4, 1200)
	o := replayOrder(ReplayFilter{})
	o.Queue = "typo"
	id, f := w.start(t, o)
	require.NoError(t, w.runner(b.address, "0123456789ab").Run(t.Context(), f))
	r := w.get(t, id)
	require.Equal(t, ReplayFailed, r.Status)
	require.Equal(t, `the queue "typo" does not exist`, r.Text)
	require.Equal(t, w.now, r.EndedAt)
	require.Equal(t, &bankfeed.Release{Done: true}, w.shelf.release)

	// It goes away in the middle: what was stored before counts as sent.
	b.queue("short-lived")
	o.Queue = "short-lived"
	id, f = w.start(t, o)
	before := len(w.shelf.saved)
	w.shelf.onSave = func(n int, _ Replay) error {
		if n == before+2 {
			_, err := b.ch.QueueDelete("short-lived", false, false, false)
			require.NoError(t, err)
		}
		return nil
	}
	require.NoError(t, w.runner(b.address, "0123456789ab").Run(t.Context(), f))
	r = w.get(t, id)
	require.Equal(t, ReplayFailed, r.Status)
	require.Equal(t, `the queue "short-lived" does not exist any more`, r.Text)
	require.Positive(t, r.Published)
	require.Zero(t, r.Unrouted)
	require.Less(t, r.Position, r.Until)
}

// An outage of the broker postpones a replay, for longer each time, and never
// ends it.
func TestReplayOutlivesAnOutage(t *testing.T) {
	b := newReplayBroker(t)
	b.queue("consumer", banqup.Kinds...)
	w := newReplayWorld(Settings{}, "")
	w.session(4, 1200)
	id, f := w.start(t, replayOrder(ReplayFilter{}))
	address := noBroker(t)
	p := w.runner(address, "0123456789ab")
	for _, seconds := range []int{1, 2, 4, 8, 16, 32, 60, 60} {
		require.NoError(t, p.Run(t.Context(), f))
		require.Equal(t, &bankfeed.Release{ReadyAt: w.now.Add(time.Duration(seconds) * time.Second)}, w.shelf.release)
	}
	r := w.get(t, id)
	require.Equal(t, ReplayRunning, r.Status)
	require.Regexp(t, `^waiting: connecting to the broker: .*refused$`, r.Text)
	require.NotContains(t, r.Text, "hunter2")

	// It is back, and goes away in the middle.
	p = w.runner(b.address, "0123456789ab")
	broken := len(w.shelf.saved) + 2
	w.shelf.onSave = func(n int, r Replay) error {
		if n == broken {
			require.Empty(t, r.Text)
			w.shelf.streams[0].Settings.Face.OmitNulls = false
			require.NoError(t, b.ch.ExchangeDelete(banqup.Transaction.Exchange(), false, false))
		}
		return nil
	}
	require.NoError(t, p.Run(t.Context(), f))
	require.Equal(t, &bankfeed.Release{ReadyAt: w.now.Add(time.Second)}, w.shelf.release)
	r = w.get(t, id)
	require.True(t, strings.HasPrefix(r.Text, waiting), r.Text)
	require.Contains(t, r.Text, "NOT_FOUND")

	w.shelf.onSave = nil
	b.queue("consumer", banqup.Kinds...) // its consumer is back first
	require.NoError(t, p.Run(t.Context(), f))
	r = w.get(t, id)
	require.Equal(t, ReplayDone, r.Status)
	require.Empty(t, r.Text)
	require.Equal(t, r.Total, r.Published)
	sent := map[bankfeed.Position]bool{}
	for _, p := range replayPositions(t, b.take("consumer")) {
		sent[p] = true
	}
	require.Len(t, sent, int(r.Total))
}

func TestReplayOfAStreamThatIsGone(t *testing.T) {
	w := newReplayWorld(Settings{}, "")
	w.session(4, 3)
	id, f := w.start(t, replayOrder(ReplayFilter{}))
	p := w.runner("amqp://127.0.0.1:1/", "0123456789ab")

	w.shelf.streams[0].Target = "elsewhere:5672/"
	require.NoError(t, p.Run(t.Context(), f))
	require.Equal(t, ReplayPending, w.get(t, id).Status)
	require.Equal(t, "waiting: the settings of node 0123456789ab do not name the stream", w.get(t, id).Text)

	w.shelf.streams[0].Enabled, w.shelf.streams[0].Reason = false, "no settings name it"
	require.NoError(t, p.Run(t.Context(), f))
	require.Equal(t, ReplayFailed, w.get(t, id).Status)
	require.Equal(t, "the stream is not enabled: no settings name it", w.get(t, id).Text)
}

// Retention is faster than the replay: that is said, and the rest is sent.
func TestReplaySaysWhatRetentionTook(t *testing.T) {
	b := newReplayBroker(t)
	b.queue("consumer", banqup.Kinds...)
	w := newReplayWorld(Settings{}, "")
	w.session(4, 20)
	id, f := w.start(t, replayOrder(ReplayFilter{}))
	w.lane.floor = 8
	require.NoError(t, w.runner(b.address, "0123456789ab").Run(t.Context(), f))
	r := w.get(t, id)
	require.Equal(t, ReplayDone, r.Status)
	require.Equal(t, "events 1 to 8 were removed by retention before they were sent", r.Text)
	require.EqualValues(t, 16, r.Published)
	require.Less(t, r.Published, r.Total)
}

func TestReplayCountsFirstIfNobodyHas(t *testing.T) {
	b := newReplayBroker(t)
	w := newReplayWorld(Settings{}, "")
	w.session(4, 2000)
	id, f := w.start(t, replayOrder(ReplayFilter{}))
	w.shelf.replays[0].Total = TotalUnknown
	require.NoError(t, w.runner(b.address, "0123456789ab").Run(t.Context(), f))
	r := w.get(t, id)
	require.EqualValues(t, 2003, r.Total)
	require.EqualValues(t, 2003, r.Unrouted, "nobody has bound anything")
	require.EqualValues(t, 2003, w.shelf.saved[0].Total)
}

// What cannot be written as a message is named, and stops nothing.
func TestReplayNamesWhatItCannotWrite(t *testing.T) {
	b := newReplayBroker(t)
	w := newReplayWorld(Settings{}, "")
	w.session(4, 5)
	w.lane.change(6, func(e *bankfeed.Event) { e.Snapshot = &bankfeed.Snapshot{} })
	id, f := w.start(t, replayOrder(ReplayFilter{}))
	require.NoError(t, w.runner(b.address, "0123456789ab").Run(t.Context(), f))
	r := w.get(t, id)
	require.Equal(t, ReplayDone, r.Status)
	require.Equal(t, "event "+bankfeed.EventID(testEpoch, 1, 0, 6).String()+" could not be written as a message", r.Text)
}

func TestReplayStopsWithItsNode(t *testing.T) {
	b := newReplayBroker(t)
	w := newReplayWorld(Settings{}, "")
	w.session(4, 1200)
	id, f := w.start(t, replayOrder(ReplayFilter{}))
	ctx, stop := context.WithCancel(t.Context())
	w.shelf.onSave = func(n int, _ Replay) error {
		if n == 1 {
			stop()
		}
		return nil
	}
	require.ErrorIs(t, w.runner(b.address, "0123456789ab").Run(ctx, f), context.Canceled)
	require.Equal(t, ReplayRunning, w.get(t, id).Status)
	require.Empty(t, w.get(t, id).Text)
}
