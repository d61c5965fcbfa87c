package backing_test

import (
	"errors"
	"strings"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed/internal/backing"
	"github.com/bankfeed/bankfeed/internal/backing/backingtest"
)

// publish puts one persistent message into a durable queue and waits for the broker's confirm.
func publish(t *testing.T, url, queue string) {
	t.Helper()
	c, err := amqp.Dial(url)
	require.NoError(t, err)
	defer c.Close()
	ch, err := c.Channel()
	require.NoError(t, err)
	require.NoError(t, ch.Confirm(false))
	_, err = ch.QueueDeclare(queue, true, false, false, false, nil)
	require.NoError(t, err)
	confirm, err := ch.PublishWithDeferredConfirm("", queue, false, false, amqp.Publishing{DeliveryMode: amqp.Persistent, Body: []byte("kept")})
	require.NoError(t, err)
	acked, err := confirm.WaitContext(t.Context())
	require.NoError(t, err)
	require.True(t, acked)
}

func TestVHostIsMadeAndDropped(t *testing.T) {
	server, err := backing.RabbitMQ(t.Context())
	if errors.Is(err, backing.ErrNotFound) {
		t.Skip("NOT RUN: " + err.Error())
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop()) })
	t.Log(server.Source, server.Version)

	url, drop, err := server.CreateVHost(t.Context(), "bankfeed_test")
	require.NoError(t, err)
	require.Contains(t, url, "/bankfeed_test_")
	publish(t, url, "q")
	require.NoError(t, drop())
	_, err = amqp.Dial(url)
	require.Error(t, err, "the virtual host must be gone")
}

func TestPrivateRabbitMQKeepsMessagesOverKill(t *testing.T) {
	server := backingtest.PrivateRabbitMQ(t)
	require.NotEmpty(t, server.Version)
	require.True(t, strings.HasPrefix(server.Source, "started /"), server.Source)
	url, drop, err := server.CreateVHost(t.Context(), "bankfeed_test")
	require.NoError(t, err)
	publish(t, url, "q")

	for _, v := range server.Env() { // as a child process would see it
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
	named, err := backing.RabbitMQ(t.Context())
	require.NoError(t, err)
	require.Equal(t, "environment", named.Source)
	_, dropOther, err := named.CreateVHost(t.Context(), "bankfeed_test")
	require.NoError(t, err)
	require.NoError(t, dropOther())
	require.NoError(t, named.Stop(), "it is not ours to end")

	require.NoError(t, server.Kill())
	_, err = amqp.Dial(url)
	require.Error(t, err, "nobody answers")
	require.NoError(t, server.Start(t.Context()))

	c, err := amqp.Dial(url)
	require.NoError(t, err)
	defer c.Close()
	ch, err := c.Channel()
	require.NoError(t, err)
	m, ok, err := ch.Get("q", true)
	require.NoError(t, err)
	require.True(t, ok, "a confirmed persistent message survives")
	require.Equal(t, "kept", string(m.Body))
	require.NoError(t, drop())
	require.NoError(t, server.Shutdown())
}

func TestNamedRabbitMQThatIsDownIsAnError(t *testing.T) {
	t.Setenv(backing.RabbitMQEnv, "amqp://someone:hunter2@127.0.0.1:1/")
	_, err := backing.RabbitMQ(t.Context())
	require.Error(t, err)
	require.NotErrorIs(t, err, backing.ErrNotFound, "a broker that is named and down must fail, not skip")
	require.NotContains(t, err.Error(), "hunter2")
}

func TestPrivateRabbitMQTakesOrders(t *testing.T) {
	server := backingtest.PrivateRabbitMQ(t)
	c, err := amqp.Dial(server.URL)
	require.NoError(t, err)
	defer c.Close()
	closed, blocked := c.NotifyClose(make(chan *amqp.Error, 1)), c.NotifyBlocked(make(chan amqp.Blocking, 2))
	ch, err := c.Channel()
	require.NoError(t, err)

	require.NoError(t, server.MemoryAlarm(t.Context(), true))
	require.NoError(t, ch.PublishWithContext(t.Context(), "", "nowhere", false, false, amqp.Publishing{}), "who publishes is blocked")
	require.True(t, (<-blocked).Active)
	require.NoError(t, server.MemoryAlarm(t.Context(), false))
	require.False(t, (<-blocked).Active)

	require.NoError(t, server.CloseConnections(t.Context()))
	require.Equal(t, amqp.ConnectionForced, (<-closed).Code)
	_, err = server.Ctl(t.Context(), "no_such_command")
	require.ErrorContains(t, err, "no_such_command")
}
