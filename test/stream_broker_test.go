//go:build unix

package test

import (
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed/internal/backing"
	"github.com/bankfeed/bankfeed/internal/backing/backingtest"
	"github.com/bankfeed/bankfeed/internal/delivery/stream"
	"github.com/bankfeed/bankfeed/test/masstransit"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

// privateBroker starts a broker with a virtual host for the test alone.
func privateBroker(t *testing.T) (b *backing.RabbitMQInstance, address string) {
	t.Helper()
	b = backingtest.PrivateRabbitMQ(t)
	address, _, err := b.CreateVHost(t.Context(), "bankfeed_test") // ends with its broker
	require.NoError(t, err)
	return b, address
}

// TestStreamBrokerGone: the broker is killed in the middle of a backlog, and shut
// down later in the same one. The stream says so and goes on by itself.
func TestStreamBrokerGone(t *testing.T) {
	t.Parallel()
	broker, address := privateBroker(t)
	s := newStreaming(t, address, masstransit.Options{})
	n := s.over()
	for _, end := range []func() error{broker.Kill, broker.Shutdown} {
		s.flowing(600)
		require.NoError(t, end())
		s.troubled()
		require.Equal(t, http.StatusOK, n.status("/readyz"), "the APIs serve without a broker")
		require.NoError(t, broker.Start(t.Context()))
		s.unfinished()
	}
	v := s.settle("broker killed and started, shut down and started", inOrder)
	s.accepted()
	require.LessOrEqual(t, strings.Count(n.output(t), "stream interrupted"), 20, "a line for each kind of trouble, not for each try")
	require.LessOrEqual(t, v.repeated-v.redelivered, 2*stream.DefaultWindow)
}

// TestStreamConnectionsClosed: the broker's operator closes every connection,
// again and again.
func TestStreamConnectionsClosed(t *testing.T) {
	t.Parallel()
	broker, address := privateBroker(t)
	s := newStreaming(t, address, masstransit.Options{})
	s.over()
	const times = 4
	for range times {
		s.flowing(300)
		term := s.state().Leader.Term
		require.NoError(t, broker.CloseConnections(t.Context()))
		eventually(t, time.Minute, "a connection that ends ends the term", func() bool { return s.state().Leader.Term > term })
	}
	s.unfinished()
	s.settle(fmt.Sprintf("connections closed %d times", times), inOrder)
	s.accepted()
}

// TestStreamMemoryAlarm: the broker runs out of memory and reads nothing from
// publishers. The stream says so, stops and starts in good order meanwhile, and
// goes on when it is over, without a second copy of anything.
func TestStreamMemoryAlarm(t *testing.T) {
	t.Parallel()
	broker, address := privateBroker(t)
	s := newStreaming(t, address, masstransit.Options{})
	n := s.over()
	s.flowing(600)
	require.NoError(t, broker.MemoryAlarm(t.Context(), true))
	s.troubled("block", "memory")
	s.drained(func() bool { return true })
	arrived, dialled := s.Received(), s.dialled()
	require.True(t, stays(3*time.Second, func() bool { return s.Received() == arrived }))
	require.Equal(t, dialled, s.dialled(), "it waits on the connection that it has")
	require.Equal(t, http.StatusOK, n.status("/readyz"))
	require.NoError(t, broker.MemoryAlarm(t.Context(), false))
	s.flowing(600)
	eventually(t, time.Minute, "the stream says that all is well", func() bool { return len(s.state().Trouble) == 0 })
	require.Zero(t, s.Received()-s.Distinct(), "who is blocked need not send again")

	require.NoError(t, broker.MemoryAlarm(t.Context(), true))
	s.troubled("block", "memory")
	n.signal(t, syscall.SIGTERM)
	require.Zero(t, n.exit(t, 20*time.Second), n.lastWords())
	n.start()
	s.troubled("block", "memory")
	s.unfinished()
	require.NoError(t, broker.MemoryAlarm(t.Context(), false))
	s.settle("memory alarm twice, stopped and started in the second", inOrder)
	s.accepted()
}

// TestStreamExchangeDeleted: somebody deletes the exchange of transactions while
// they flow. It is declared again; what its consumers miss until they have bound
// again is held back, and nothing else.
func TestStreamExchangeDeleted(t *testing.T) {
	t.Parallel()
	s := newStreaming(t, backingtest.AMQPURL(t), masstransit.Options{})
	n := s.over()
	s.flowing(600)
	name := banqup.Transaction.Exchange()
	s.operate(func(ch *amqp.Channel) error { return ch.ExchangeDelete(name, false, false) })
	eventually(t, time.Minute, "the exchange holds", func() bool { return s.state().of(banqup.Transaction) == "holding" })
	require.Contains(t, n.output(t), "an exchange was deleted")
	s.open()
	s.confirmed(s.head())
	require.LessOrEqual(t, s.dialled(), 6)
	s.operate(func(ch *amqp.Channel) error { return ch.ExchangeBind(clientQueue, "", name, false, nil) })
	s.settle("exchange deleted, bound again", inOrderByExchange)
	s.accepted()
}

// TestStreamExchangeDeclaredOtherwise: an exchange is there with other arguments
// than MassTransit's. The stream says which and what to do, tries again in good
// time, and goes on once it is gone.
func TestStreamExchangeDeclaredOtherwise(t *testing.T) {
	t.Parallel()
	s := newStreaming(t, backingtest.AMQPURL(t), masstransit.Options{})
	n := s.over()
	s.flowing(600)
	n.signal(t, syscall.SIGTERM)
	require.Zero(t, n.exit(t, 30*time.Second), n.lastWords())
	name := banqup.Transaction.Exchange()
	s.operate(func(ch *amqp.Channel) error {
		if err := ch.ExchangeDelete(name, false, false); err != nil {
			return err
		}
		return ch.ExchangeDeclare(name, amqp.ExchangeTopic, true, false, false, false, nil)
	})
	before := s.dialled()
	n.start()
	s.troubled(name, "other arguments", "delete it")
	require.True(t, stays(10*time.Second, func() bool { return n.status("/readyz") == http.StatusOK }))
	dials := s.dialled() - before
	require.LessOrEqual(t, dials, 10, "it spins")
	require.GreaterOrEqual(t, dials, 3, "it does not try again")
	require.LessOrEqual(t, strings.Count(n.output(t), "other arguments"), 2, "said once")
	s.operate(func(ch *amqp.Channel) error { return ch.ExchangeDelete(name, false, false) })
	eventually(t, time.Minute, "the exchange holds", func() bool { return s.state().of(banqup.Transaction) == "holding" })
	s.operate(func(ch *amqp.Channel) error { return ch.ExchangeBind(clientQueue, "", name, false, nil) })
	s.settle(fmt.Sprintf("exchange declared otherwise, %d connections in 10 s", dials), inOrderByExchange)
	s.accepted()
}

// TestStreamUnbound: a client unbinds its queue from the exchange of transactions
// and binds it again.
func TestStreamUnbound(t *testing.T) {
	t.Parallel()
	s := newStreaming(t, backingtest.AMQPURL(t), masstransit.Options{})
	s.over()
	expected, _ := s.expected()
	s.flowing(600)
	name := banqup.Transaction.Exchange()
	s.operate(func(ch *amqp.Channel) error { return ch.ExchangeUnbind(clientQueue, "", name, false, nil) })
	eventually(t, time.Minute, "the exchange holds", func() bool { return s.state().of(banqup.Transaction) == "holding" })
	s.open()
	s.confirmed(s.head())
	require.Less(t, s.Distinct(), len(expected)/2)
	s.operate(func(ch *amqp.Channel) error { return ch.ExchangeBind(clientQueue, "", name, false, nil) })
	v := s.settle("queue unbound and bound again", inOrderByExchange)
	s.accepted()
	require.Less(t, v.repeated, 1100, "what was routed does not come again, but for what was on its way")
}

// inOrderByExchange is inOrder where an exchange that was held back came later
// than the others; session messages wait with their transactions.
func inOrderByExchange(s *streaming) []masstransit.Disorder {
	late := []string{masstransit.TransactionMessage, masstransit.SessionFinishedMessage}
	others := []string{masstransit.AccountMessage, masstransit.ConsentMessage}
	return append(s.OutOfOrder(late...), s.OutOfOrder(others...)...)
}
