package stream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

// chaos leads a stream through terms that end in every way, on exchanges whose
// bindings come and go.
type chaos struct {
	t      *testing.T
	r      *rand.Rand
	sky    *rand.Rand // of the weather
	l      *memoryLog
	st     *memoryStore
	script *script
	config Config
	bound  map[banqup.Kind]bool
	erased map[bankfeed.Position]bool
	// blocked: the broker wants no messages.
	blocked bool

	mu     sync.Mutex
	fair   bool     // the weather
	sent   []copyOf // of all terms
	under  []int    // of sent, without a confirm
	routed map[bankfeed.Position]bool

	term *term
	stop context.CancelFunc
	done chan error
}

// copyOf is a message on its way.
type copyOf struct {
	kind     banqup.Kind
	position bankfeed.Position
	id       string
	taken    bool // by a queue
}

var chaosEvents = []bankfeed.EventType{bankfeed.EventTransactionCreated, bankfeed.EventTransactionCreated, bankfeed.EventTransactionUpdated,
	bankfeed.EventAccountFinished, bankfeed.EventAccountUpdated, bankfeed.EventBankCalled, bankfeed.EventConsentCreated, bankfeed.EventSyncStarted}

func (c *chaos) lead() {
	// Settings may differ between terms.
	c.config.Settings.Unrouted = map[banqup.Kind]Unrouted{banqup.Consent: UnroutedRecord, banqup.Account: []Unrouted{UnroutedHold, UnroutedRecord}[c.r.IntN(2)]}
	if c.r.IntN(3) == 0 {
		c.config.Settings.Unrouted[banqup.Session] = UnroutedRecord
	}
	c.script = newScript(c.t)
	c.script.out.publish = c.publish
	c.locked(func() { c.under = nil })
	record, err := c.st.LeadStream(c.t.Context(), Key{}, "node", time.Now())
	require.NoError(c.t, err)
	c.term = &term{Relay: New(c.config), broker: c.script.b, out: c.script.out}
	c.term.begin(record)
	c.term.wake, _ = c.l.Subscribe(1)
	var ctx context.Context
	ctx, c.stop = context.WithCancel(c.t.Context())
	c.done = make(chan error, 1)
	go func() { c.done <- c.term.lead(ctx) }()
	synctest.Wait()
}

func (c *chaos) locked(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

func (c *chaos) publish(exchange, _ string, _, _ bool, p amqp.Publishing) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	require.False(c.t, c.blocked, "the broker asked for patience")
	id, err := bankfeed.ParseUUID(p.MessageId)
	require.NoError(c.t, err)
	_, _, _, position, _ := bankfeed.ParseEventID(id)
	k, _ := banqup.KindOf(c.l.events[position-1].Type)
	require.Equal(c.t, k.Exchange(), exchange)
	require.False(c.t, c.erased[position] && len(p.Body) == 0)
	m := copyOf{kind: k, position: position, id: p.MessageId, taken: c.bound[k]}
	if k == banqup.Session && m.taken {
		c.finished(m)
	}
	c.under = append(c.under, len(c.sent))
	c.sent = append(c.sent, m)
	return nil
}

// finished checks that a SessionFinished leaves after its transactions.
func (c *chaos) finished(m copyOf) {
	account := c.l.events[m.position-1].Account
	for _, e := range c.l.events[:m.position-1] {
		if k, _ := banqup.KindOf(e.Type); k == banqup.Transaction && e.Account == account && !c.erased[e.Position] {
			require.True(c.t, c.routed[e.Position], "session %d leaves before transaction %d of account %d reached anybody", m.position, e.Position, account)
		}
	}
}

// confirm confirms the next n messages.
func (c *chaos) confirm(n int) {
	synctest.Wait()
	c.mu.Lock()
	for range min(n, len(c.under)) {
		m := c.sent[c.under[0]]
		c.under = c.under[1:]
		if m.taken {
			c.routed[m.position] = true
		} else {
			c.script.out.returns <- amqp.Return{MessageId: m.id}
		}
		c.script.out.confirms <- amqp.Confirmation{Ack: true}
	}
	c.mu.Unlock()
	synctest.Wait()
}

// end ends the term: killed, or by the loss of its connection, or asked to.
func (c *chaos) end() {
	way := c.r.IntN(3)
	if way == 0 {
		c.stop()
	} else {
		c.script.b.closed <- &amqp.Error{Code: 320, Reason: "CONNECTION_FORCED"}
	}
	err := <-c.done
	c.stop()
	if way < 2 {
		c.ended(err)
	}
	pass(time.Second) // what was being written is
}

// ended is what follows a term that was not killed.
func (c *chaos) ended(err error) {
	_ = c.term.saveNow(c.t.Context())
	if err != nil {
		c.term.report(c.t.Context(), err.Error())
	}
}

// weather is how long a write takes, and whether it fails.
func (c *chaos) weather() (before, after error) {
	c.mu.Lock()
	n, pause := c.sky.IntN(20), time.Duration(c.sky.IntN(300))*time.Millisecond
	if c.fair {
		n = 2
	}
	c.mu.Unlock()
	time.Sleep(pause) //nolint:forbidigo // fake time
	switch n {
	case 0:
		return errors.New("the database is away"), nil
	case 1:
		return nil, errors.New("the answer of the database is lost")
	}
	return nil, nil
}

// redrive asks for kinds again, and tells the leader as the watcher does.
func (c *chaos) redrive(kinds ...banqup.Kind) {
	if c.st.redrive(kinds) {
		select {
		case c.term.news <- news{asked: true}:
		default:
		}
	}
}

func (c *chaos) step() {
	switch n := c.r.IntN(100); {
	case n < 40:
		for range 1 + c.r.IntN(6) {
			p := c.l.add(chaosEvents[c.r.IntN(len(chaosEvents))], bankfeed.AccountID(1+c.r.IntN(3)))
			if c.r.IntN(25) == 0 {
				c.locked(func() { c.erased[p] = true })
				c.l.erase(p)
			}
		}
	case n < 70:
		c.confirm(1 + c.r.IntN(8))
	case n < 80:
		k := banqup.Kinds[c.r.IntN(len(banqup.Kinds))]
		c.locked(func() { c.bound[k] = !c.bound[k] })
	case n < 92:
		pass(time.Duration(c.r.IntN(1500)) * time.Millisecond)
	case n < 96:
		c.redrive(banqup.Kinds[c.r.IntN(len(banqup.Kinds))])
	case n < 98:
		c.script.b.blocked <- amqp.Blocking{Active: true, Reason: "low on memory"}
		synctest.Wait()
		c.locked(func() { c.blocked = true })
		pass(time.Duration(c.r.IntN(5000)) * time.Millisecond)
		c.confirm(1000)
		pass(time.Duration(c.r.IntN(5000)) * time.Millisecond)
		c.locked(func() { c.blocked = false })
		c.script.b.blocked <- amqp.Blocking{}
		synctest.Wait()
	default:
		c.end()
		c.lead()
	}
	c.revive()
}

// revive begins the next term if one found a reason to end by itself.
func (c *chaos) revive() {
	select {
	case err := <-c.done:
		require.ErrorContains(c.t, err, "database")
		c.stop()
		c.ended(err)
		c.lead()
	default:
	}
}

// settle binds everything, sends again what reached nobody, and waits for it.
func (c *chaos) settle() {
	c.locked(func() { c.fair = true })
	pass(time.Second)
	for _, k := range banqup.Kinds {
		c.locked(func() { c.bound[k] = true })
	}
	for range 100 {
		for range 100 {
			c.confirm(1000)
			pass(200 * time.Millisecond)
			c.revive()
		}
		if !c.st.redrive(banqup.Kinds) {
			return
		}
		c.term.news <- news{asked: true}
	}
	c.t.Fatal("it never ends")
}

// Whatever happens to bindings, connections and processes, and in whatever order:
// every message reaches somebody in the end, what is said of them is true, and
// their last copies are in order.
func TestNothingIsSkippedWhateverHappens(t *testing.T) {
	for seed := range uint64(chaosRuns) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &chaos{t: t, r: rand.New(rand.NewPCG(seed, 1)), sky: rand.New(rand.NewPCG(seed, 2)), l: &memoryLog{}, st: &memoryStore{}, bound: map[banqup.Kind]bool{},
					erased: map[bankfeed.Position]bool{}, routed: map[bankfeed.Position]bool{}}
				c.config = testConfig(t, c.st, c.l, "")
				c.config.Window = 5 + c.r.IntN(20)
				require.NoError(t, c.st.EnableStream(t.Context(), Key{}, c.config.Settings, "x", 0, time.Now()))
				c.bound[banqup.Transaction], c.bound[banqup.Session] = true, true
				c.fair, c.st.weather = true, c.weather
				c.lead()
				c.l.add(bankfeed.EventTransactionCreated, 1)
				c.l.add(bankfeed.EventAccountFinished, 1)
				for range 3 { // both were routed: from here on transactions hold
					c.confirm(1)
					pass(time.Second)
				}
				c.locked(func() { c.fair = false })
				for range 150 {
					c.step()
				}
				c.settle()
				c.check()
				c.stop()
				require.NoError(t, <-c.done)
				pass(time.Second)
			})
		})
	}
}

const chaosRuns = 60

func (c *chaos) check() {
	p := c.st.now()
	require.Empty(c.t, p.Holds)
	require.EqualValues(c.t, len(c.l.events), p.Position)
	for _, e := range c.l.events {
		if _, ok := banqup.KindOf(e.Type); ok && !c.erased[e.Position] {
			require.True(c.t, c.routed[e.Position], "%s %d was skipped", e.Type, e.Position)
		}
	}
	for _, g := range c.st.gaps {
		for _, e := range c.l.events[g.First-1 : g.Last] {
			if k, _ := banqup.KindOf(e.Type); k == g.Kind {
				require.True(c.t, g.Reason != GapErased || c.erased[e.Position], "%+v of %d", g, e.Position)
			}
			if k, _ := banqup.KindOf(e.Type); k == g.Kind && g.Reason == GapUnrouted {
				require.False(c.t, g.ResolvedAt.IsZero())
			}
		}
	}
	last := map[bankfeed.Position]int{}
	for i, m := range c.sent {
		if m.taken {
			last[m.position] = i
		}
	}
	// Of one account: transactions in order, each SessionFinished behind those in
	// front of it. Sessions alone may come late: their exchange holds alone.
	for _, b := range c.l.events {
		for _, a := range c.l.events[:b.Position-1] {
			before, _ := banqup.KindOf(a.Type)
			behind, _ := banqup.KindOf(b.Type)
			if a.Account == b.Account && !c.erased[a.Position] && !c.erased[b.Position] &&
				(before == banqup.Transaction && (behind == banqup.Transaction || behind == banqup.Session) || before == banqup.Session && behind == before) {
				require.Less(c.t, last[a.Position], last[b.Position], "%s %d leaves behind %s %d", before, a.Position, behind, b.Position)
			}
		}
	}
}
