package stream

import (
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
)

func TestATermEndsWhenTheBrokerRefusesOrStaysSilent(t *testing.T) {
	run := func(t *testing.T, then func(s *script), want string) {
		synctest.Test(t, func(t *testing.T) {
			l, st, s := &memoryLog{}, &memoryStore{}, newScript(t)
			require.NoError(t, st.EnableStream(t.Context(), Key{}, Settings{}, "x", 0, time.Now()))
			r, err := st.LeadStream(t.Context(), Key{}, "node", time.Now())
			require.NoError(t, err)
			term := &term{Relay: New(testConfig(t, st, l, "")), broker: s.b, out: s.out}
			term.begin(r)
			term.wake, _ = l.Subscribe(1)
			l.add(bankfeed.EventTransactionCreated, 1)
			done := make(chan error, 1)
			go func() { done <- term.lead(t.Context()) }()
			pass(time.Second)
			then(s)
			require.ErrorContains(t, <-done, want)
		})
	}
	t.Run("nack", func(t *testing.T) {
		run(t, func(s *script) { s.out.confirms <- amqp.Confirmation{DeliveryTag: 1} }, "refused")
	})
	t.Run("silence", func(t *testing.T) { run(t, func(*script) {}, "has confirmed nothing") })
	t.Run("closed", func(t *testing.T) {
		run(t, func(s *script) { s.b.closed <- &amqp.Error{Code: 320, Reason: "CONNECTION_FORCED"} }, "CONNECTION_FORCED")
	})
}

func TestALeaderThatWasReplacedStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, st, s := &memoryLog{}, &memoryStore{}, newScript(t)
		require.NoError(t, st.EnableStream(t.Context(), Key{}, Settings{}, "x", 0, time.Now()))
		r, err := st.LeadStream(t.Context(), Key{}, "old", time.Now())
		require.NoError(t, err)
		term := &term{Relay: New(testConfig(t, st, l, "")), broker: s.b, out: s.out}
		term.begin(r)
		term.wake, _ = l.Subscribe(1)
		done := make(chan error, 1)
		go func() { done <- term.lead(t.Context()) }()
		pass(time.Second)
		_, err = st.LeadStream(t.Context(), Key{}, "new", time.Now())
		require.NoError(t, err)
		l.add(bankfeed.EventTransactionCreated, 1)
		pass(time.Second)
		s.confirmAll()
		pass(aliveEvery)
		require.ErrorIs(t, <-done, bankfeed.ErrFenced)
		require.Zero(t, st.now().Position, "its cursor did not count")
	})
}
