package stream

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

// script is a broker that confirms when it is told to.
type script struct {
	t    *testing.T
	out  *outlet
	b    *broker
	mu   sync.Mutex
	sent []sent
	at   int
}

type sent struct {
	kind     banqup.Kind
	position bankfeed.Position
	id       string
}

func newScript(t *testing.T) *script {
	s := &script{t: t, b: &broker{closed: make(chan *amqp.Error, 1), blocked: make(chan amqp.Blocking, 16)}}
	s.out = &outlet{confirms: make(chan amqp.Confirmation, 2000), returns: make(chan amqp.Return, 2000), closed: make(chan *amqp.Error, 1),
		returned: map[string]struct{}{}, publish: s.publish}
	return s
}

func (s *script) publish(exchange, _ string, _, _ bool, p amqp.Publishing) error {
	id, err := bankfeed.ParseUUID(p.MessageId)
	require.NoError(s.t, err)
	_, _, _, position, ok := bankfeed.ParseEventID(id)
	require.True(s.t, ok)
	require.NotEmpty(s.t, p.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range banqup.Kinds {
		if k.Exchange() == exchange {
			s.sent = append(s.sent, sent{k, position, p.MessageId})
			return nil
		}
	}
	s.t.Fatalf("published to %s", exchange)
	return nil
}

// positions are what was sent so far.
func (s *script) positions() (list []bankfeed.Position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.sent {
		list = append(list, m.position)
	}
	return list
}

// confirm confirms the next n messages; those of the kinds come back before.
func (s *script) confirm(n int, returned ...banqup.Kind) {
	synctest.Wait()
	s.mu.Lock()
	for range n {
		m := s.sent[s.at]
		s.at++
		for _, k := range returned {
			if k == m.kind {
				s.out.returns <- amqp.Return{MessageId: m.id}
			}
		}
		s.out.confirms <- amqp.Confirmation{DeliveryTag: uint64(s.at), Ack: true}
	}
	s.mu.Unlock()
	synctest.Wait()
}

// confirmAll confirms until nothing more is sent.
func (s *script) confirmAll(returned ...banqup.Kind) {
	for {
		synctest.Wait()
		s.mu.Lock()
		n := len(s.sent) - s.at
		s.mu.Unlock()
		if n == 0 {
			return
		}
		s.confirm(n, returned...)
	}
}

func (s *script) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent, s.at = nil, 0
}

// leading runs a term on the script inside a bubble of fake time.
func leading(t *testing.T, change func(*Settings), test func(s *script, l *memoryLog, st *memoryStore, term *term)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l, st, s := &memoryLog{}, &memoryStore{}, newScript(t)
		c := testConfig(t, st, l, "amqp://localhost/test")
		if change != nil {
			change(&c.Settings)
		}
		c.Window = 50
		ctx, cancel := context.WithCancel(t.Context())
		key := Key{Tenant: 1, Name: "main"}
		require.NoError(t, st.EnableStream(ctx, key, c.Settings, "x", 0, time.Now()))
		record, err := st.LeadStream(ctx, key, "node", time.Now())
		require.NoError(t, err)
		term := &term{Relay: New(c), key: key, broker: s.b, out: s.out}
		term.begin(record)
		term.wake, _ = l.Subscribe(1)
		done := make(chan error, 1)
		go func() { done <- term.lead(ctx) }()
		test(s, l, st, term)
		cancel()
		require.NoError(t, <-done)
		require.NoError(t, term.saveNow(ctx))
	})
}

func pass(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // fake time
	synctest.Wait()
}

func TestMessagesLeaveInLogOrderAndTheCursorIsTheLowestUnconfirmed(t *testing.T) {
	leading(t, nil, func(s *script, l *memoryLog, st *memoryStore, _ *term) {
		for _, e := range []bankfeed.EventType{bankfeed.EventSyncStarted, bankfeed.EventBankCalled, bankfeed.EventAccountCreated, bankfeed.EventTransactionCreated,
			bankfeed.EventAccountRemoved, bankfeed.EventConsentCreated, bankfeed.EventSyncSucceeded} {
			l.add(e, 4)
		}
		pass(time.Second)
		require.Equal(t, []bankfeed.Position{2, 3, 4, 6}, s.positions(), "those with a face, in order")
		require.EqualValues(t, 1, st.now().Position, "the call is not confirmed yet")
		s.confirm(2)
		pass(time.Second)
		require.EqualValues(t, 3, st.now().Position)
		s.confirm(2)
		pass(time.Second)
		require.EqualValues(t, 7, st.now().Position, "what has no face holds nothing up")
		require.True(t, st.now().Exchanges[banqup.Transaction].Routed)
		require.EqualValues(t, 4, st.now().Exchanges[banqup.Transaction].Last)
	})
}

func TestSessionFinishedWaitsForItsTransactionsOnly(t *testing.T) {
	leading(t, nil, func(s *script, l *memoryLog, _ *memoryStore, _ *term) {
		l.add(bankfeed.EventTransactionCreated, 1) // 1
		l.add(bankfeed.EventTransactionCreated, 2) // 2
		l.add(bankfeed.EventAccountFinished, 1)    // 3 waits for 1
		l.add(bankfeed.EventTransactionCreated, 1) // 4 follows 3
		l.add(bankfeed.EventAccountFinished, 1)    // 5 waits for 4
		l.add(bankfeed.EventTransactionCreated, 3) // 6
		l.add(bankfeed.EventAccountFinished, 3)    // 7 waits for 6
		l.add(bankfeed.EventAccountFinished, 9)    // 8 has nothing to wait for
		pass(time.Second)
		require.Equal(t, []bankfeed.Position{1, 2, 6, 8}, s.positions(), "other accounts flow on")
		s.confirm(1)
		require.Equal(t, []bankfeed.Position{1, 2, 6, 8, 3, 4}, s.positions())
		s.confirm(2) // 2, 6
		require.Equal(t, []bankfeed.Position{1, 2, 6, 8, 3, 4, 7}, s.positions())
		s.confirm(3) // 8, 3, 4
		require.Equal(t, []bankfeed.Position{1, 2, 6, 8, 3, 4, 7, 5}, s.positions())
		s.confirmAll()
	})
}

// The log has the accounts of a consent in front of it, and so must the stream,
// also when one of them waits behind a SessionFinished.
func TestAConsentLeavesAfterTheAccountsInFrontOfIt(t *testing.T) {
	leading(t, nil, func(s *script, l *memoryLog, _ *memoryStore, _ *term) {
		l.add(bankfeed.EventTransactionCreated, 1) // 1
		l.add(bankfeed.EventAccountFinished, 1)    // 2 waits for 1
		l.add(bankfeed.EventAccountUpdated, 1)     // 3 follows 2
		l.add(bankfeed.EventConsentCreated, 0)     // 4 comes behind 3
		l.add(bankfeed.EventTransactionCreated, 2) // 5
		pass(time.Second)
		s.confirmAll()
		require.Equal(t, []bankfeed.Position{1, 2, 3, 4, 5}, s.positions())
	})
}

func TestALogThatCannotBeReadIsSaid(t *testing.T) {
	leading(t, nil, func(s *script, l *memoryLog, st *memoryStore, term *term) {
		fail := func(err error) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.lost = err
		}
		fail(errors.New("event 7: wrong key"))
		pass(10 * time.Second)
		require.Contains(t, st.now().Trouble, "wrong key")
		text, leading := term.Trouble()
		require.Equal(t, st.now().Trouble, text)
		require.True(t, leading)
		s.b.blocked <- amqp.Blocking{Active: true, Reason: "low on memory"}
		pass(time.Second)
		fail(nil)
		l.add(bankfeed.EventBankCalled, 0)
		pass(10 * time.Second)
		require.Contains(t, st.now().Trouble, "low on memory", "one trouble does not hide the other")
		s.b.blocked <- amqp.Blocking{}
		pass(time.Second)
		require.Empty(t, st.now().Trouble)
		text, _ = term.Trouble()
		require.Empty(t, text)
		s.confirmAll()
	})
}

// Where nobody asks whether messages are routed, a redrive proves nothing.
func TestARedriveWithoutRoutingClosesNoGap(t *testing.T) {
	leading(t, func(s *Settings) { s.Unrouted = map[banqup.Kind]Unrouted{banqup.Call: UnroutedOff} }, func(s *script, l *memoryLog, st *memoryStore, term *term) {
		l.add(bankfeed.EventBankCalled, 0)
		pass(time.Second)
		s.confirmAll()
		pass(time.Second)
		id := gapID{banqup.Call, GapUnrouted, 1}
		st.mu.Lock() // of a time when somebody asked
		st.gaps = map[gapID]Gap{id: {Kind: banqup.Call, Reason: GapUnrouted, First: 1, Last: 1, Count: 1}}
		st.mu.Unlock()
		require.True(t, st.redrive([]banqup.Kind{banqup.Call}))
		term.news <- news{asked: true}
		pass(time.Second)
		s.confirmAll()
		pass(time.Second)
		require.Equal(t, []bankfeed.Position{1, 1}, s.positions())
		require.Empty(t, st.now().Holds)
		require.True(t, st.gaps[id].ResolvedAt.IsZero())
	})
}

func TestTheWindowBoundsWhatIsUnderWay(t *testing.T) {
	leading(t, nil, func(s *script, l *memoryLog, st *memoryStore, _ *term) {
		for range 120 {
			l.add(bankfeed.EventTransactionCreated, 1)
		}
		l.add(bankfeed.EventAccountFinished, 1)
		pass(time.Second)
		require.Len(t, s.positions(), 50)
		s.confirm(10)
		require.Len(t, s.positions(), 60)
		s.confirmAll()
		pass(time.Second)
		require.EqualValues(t, 121, st.now().Position)
	})
}

func TestAnExchangeThatWasNeverBoundIsRecordedAndGoesOn(t *testing.T) {
	leading(t, nil, func(s *script, l *memoryLog, st *memoryStore, _ *term) {
		for range 3 {
			l.add(bankfeed.EventBankCalled, 0)
			l.add(bankfeed.EventTransactionCreated, 1)
		}
		pass(time.Second)
		s.confirmAll(banqup.Call)
		pass(time.Second)
		p := st.now()
		require.EqualValues(t, 6, p.Position)
		require.Empty(t, p.Holds)
		require.Equal(t, Exchange{Published: 3, Unrouted: 3, Last: 5, LastAt: p.Exchanges[banqup.Call].LastAt}, p.Exchanges[banqup.Call])
		require.Len(t, st.gaps, 1, "one range")
		g := st.gaps[gapID{banqup.Call, GapUnrouted, 1}]
		require.EqualValues(t, 5, g.Last)
		require.EqualValues(t, 3, g.Count)
	})
}

func TestAnExchangeThatLosesItsBindingHoldsAloneAndCatchesUp(t *testing.T) {
	leading(t, nil, func(s *script, l *memoryLog, st *memoryStore, term *term) {
		l.add(bankfeed.EventTransactionCreated, 1) // 1: routed
		pass(time.Second)
		s.confirmAll()
		l.add(bankfeed.EventTransactionCreated, 1) // 2: comes back
		l.add(bankfeed.EventTransactionCreated, 2) // 3
		l.add(bankfeed.EventAccountFinished, 1)    // 4: waits with the transactions
		l.add(bankfeed.EventBankCalled, 0)         // 5: flows
		pass(50 * time.Millisecond)
		require.Equal(t, []bankfeed.Position{1, 2, 3, 5}, s.positions())
		s.confirmAll(banqup.Transaction)
		l.add(bankfeed.EventTransactionCreated, 1) // 6: held
		l.add(bankfeed.EventBankCalled, 0)         // 7
		pass(50 * time.Millisecond)
		s.confirmAll()
		pass(time.Second)
		require.Equal(t, []bankfeed.Position{1, 2, 3, 5, 7}, s.positions())
		p := st.now()
		require.EqualValues(t, 7, p.Position, "the others went on")
		require.EqualValues(t, 1, p.Holds[banqup.Transaction].After)
		require.EqualValues(t, 1, p.Holds[banqup.Session].After)
		require.Empty(t, st.gaps, "held, not lost")

		// The binding stays away: one message tries, again and again.
		s.forget()
		pass(retryEvery)
		require.Equal(t, []bankfeed.Position{2}, s.positions())
		s.confirmAll(banqup.Transaction)
		pass(retryEvery)
		require.Equal(t, []bankfeed.Position{2, 2}, s.positions())

		// It is back: all that waited comes in order, SessionFinished after its
		// transactions, and then what is new.
		s.forget()
		s.out.confirms <- amqp.Confirmation{Ack: true} // of the try
		synctest.Wait()
		for range 10 {
			s.confirmAll()
			pass(retryEvery / 4)
		}
		require.Equal(t, []bankfeed.Position{3, 4, 6}, s.positions()[:3])
		l.add(bankfeed.EventTransactionCreated, 1) // 8
		pass(2 * time.Second)
		s.confirmAll()
		pass(2 * time.Second)
		require.Equal(t, []bankfeed.Position{3, 4, 6, 8}, s.positions())
		require.Empty(t, st.now().Holds)
		require.EqualValues(t, 8, st.now().Position)
	})
}

func TestWhatCatchesUpReadsItsOwnEventsOnly(t *testing.T) {
	leading(t, nil, func(s *script, l *memoryLog, st *memoryStore, term *term) {
		l.add(bankfeed.EventBankCalled, 0)
		l.add(bankfeed.EventTransactionCreated, 1)
		pass(time.Second)
		s.confirmAll(banqup.Call)
		pass(time.Second)
		l.read = nil
		require.True(t, st.redrive([]banqup.Kind{banqup.Call}))
		term.news <- news{asked: true}
		pass(time.Second)
		s.confirmAll()
		pass(time.Second)
		require.Contains(t, l.read, bankfeed.EventBankCalled)
		require.NotContains(t, l.read, bankfeed.EventTransactionCreated)
	})
}

// A queue that was empty has proved nothing of what is sent once more.
func TestARedriveTakesBackWhatWasSaidOfQueues(t *testing.T) {
	leading(t, func(s *Settings) { s.Queues = []string{"finat"} }, func(s *script, l *memoryLog, st *memoryStore, term *term) {
		l.add(bankfeed.EventTransactionCreated, 1)
		l.add(bankfeed.EventBankCalled, 0)
		l.add(bankfeed.EventTransactionCreated, 1)
		pass(time.Second)
		s.confirmAll(banqup.Call)
		pass(time.Second)
		term.news <- news{queues: map[string]Queue{"finat": {SeenAt: time.Now(), DrainedAt: time.Now(), Drained: 3}}}
		pass(time.Second)
		require.EqualValues(t, 3, st.now().Queues["finat"].Drained)
		require.True(t, st.redrive([]banqup.Kind{banqup.Call}))
		term.news <- news{asked: true}
		pass(time.Second)
		require.EqualValues(t, 1, st.now().Queues["finat"].Drained)
		s.confirmAll()
	})
}

func TestARedriveSendsWhatReachedNobodyUnderTheSameIDs(t *testing.T) {
	leading(t, nil, func(s *script, l *memoryLog, st *memoryStore, term *term) {
		for range 4 {
			l.add(bankfeed.EventBankCalled, 0)
		}
		pass(time.Second)
		s.confirmAll(banqup.Call)
		pass(time.Second)
		require.Len(t, st.gaps, 1)
		before := s.sent
		s.forget()
		require.True(t, st.redrive([]banqup.Kind{banqup.Call}))
		term.news <- news{asked: true}
		pass(time.Second)
		require.Equal(t, []bankfeed.Position{1, 2, 3, 4}, s.positions())
		require.Equal(t, before[0].id, s.sent[0].id)
		s.confirmAll()
		pass(time.Second)
		require.Empty(t, st.now().Holds)
		require.False(t, st.gaps[gapID{banqup.Call, GapUnrouted, 1}].ResolvedAt.IsZero())
	})
}

func TestWhatWasErasedIsRecordedAndNotSent(t *testing.T) {
	leading(t, nil, func(s *script, l *memoryLog, st *memoryStore, _ *term) {
		s.b.blocked <- amqp.Blocking{Active: true, Reason: "low on memory"}
		pass(time.Second)
		l.add(bankfeed.EventTransactionCreated, 1)
		l.erase(l.add(bankfeed.EventTransactionCreated, 1))
		l.add(bankfeed.EventTransactionCreated, 1)
		pass(time.Second)
		require.Empty(t, s.positions(), "the broker asked for patience")
		require.Contains(t, st.now().Trouble, "low on memory")
		pass(10 * confirmPatience)
		s.b.blocked <- amqp.Blocking{}
		pass(time.Second)
		require.Equal(t, []bankfeed.Position{1, 3}, s.positions())
		s.confirmAll()
		pass(time.Second)
		require.EqualValues(t, 3, st.now().Position)
		require.Empty(t, st.now().Trouble)
		require.Contains(t, st.gaps, gapID{banqup.Transaction, GapErased, 2})
	})
}

// A broker may block for hours. What is erased meanwhile must not go out, though
// it was read before.
func TestWhatIsErasedWhileTheBrokerBlocksIsNotSent(t *testing.T) {
	leading(t, nil, func(s *script, l *memoryLog, st *memoryStore, _ *term) {
		l.add(bankfeed.EventTransactionCreated, 1) // 1
		l.add(bankfeed.EventAccountFinished, 1)    // 2 waits for 1
		l.add(bankfeed.EventAccountUpdated, 1)     // 3 follows it
		pass(time.Second)
		require.Equal(t, []bankfeed.Position{1}, s.positions())
		s.b.blocked <- amqp.Blocking{Active: true, Reason: "low on memory"}
		pass(time.Second)
		for range 3 { // 4, 5, 6
			l.add(bankfeed.EventTransactionCreated, 2)
		}
		s.confirm(1)
		pass(time.Hour)
		for _, p := range []bankfeed.Position{2, 4, 6} {
			l.erase(p)
		}
		s.b.blocked <- amqp.Blocking{}
		pass(time.Second)
		s.confirmAll()
		pass(time.Second)
		require.Equal(t, []bankfeed.Position{1, 3, 5}, s.positions())
		require.EqualValues(t, 6, st.now().Position)
		for id, count := range map[gapID]int64{{banqup.Session, GapErased, 2}: 1, {banqup.Transaction, GapErased, 4}: 1, {banqup.Transaction, GapErased, 6}: 1} {
			require.Equal(t, count, st.gaps[id].Count)
			require.Equal(t, id.first, st.gaps[id].Last)
		}
		require.Len(t, st.gaps, 3)
	})
}

func TestRecordAndOffNeverHold(t *testing.T) {
	leading(t, func(s *Settings) {
		s.Unrouted = map[banqup.Kind]Unrouted{banqup.Transaction: UnroutedRecord, banqup.Call: UnroutedOff}
	}, func(s *script, l *memoryLog, st *memoryStore, _ *term) {
		l.add(bankfeed.EventTransactionCreated, 1)
		pass(time.Second)
		s.confirmAll()
		l.add(bankfeed.EventTransactionCreated, 1)
		l.add(bankfeed.EventBankCalled, 0)
		pass(time.Second)
		s.confirmAll(banqup.Transaction)
		pass(time.Second)
		p := st.now()
		require.Empty(t, p.Holds)
		require.EqualValues(t, 3, p.Position)
		require.Contains(t, st.gaps, gapID{banqup.Transaction, GapUnrouted, 2})
		require.False(t, p.Exchanges[banqup.Call].Routed, "nobody asked")
		require.EqualValues(t, 3, p.Exchanges[banqup.Call].Untold)
	})
}
