package demo

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	sdk "github.com/bankfeed/bankfeed/client"
	"github.com/bankfeed/bankfeed/internal/backing/backingtest"
)

func TestBrokerAddress(t *testing.T) {
	for _, address := range []bankfeed.Secret{"", "http://guest:secret@127.0.0.1/", "amqp://", "amqp://guest:sec ret@127.0.0.1/", "amqp://guest:secret@127.0.0.1:x/", "amqp:///vhost"} {
		_, err := openBroker(t.Context(), address, VHost)
		require.EqualError(t, err, "--amqp-url: is not an amqp:// or amqps:// URL", "%s", string(address))
	}
	b, err := parseBroker("amqps://anna:p%40ss@broker.example/a%2Fb?heartbeat=7")
	require.NoError(t, err)
	require.Equal(t, "broker.example:5671", b.host())
	require.Equal(t, "a/b", b.target.Vhost)
	require.Equal(t, "amqps://anna:p%40ss@broker.example/bankfeed-demo?heartbeat=7", string(b.in(VHost).address()))
	for _, way := range b.ways() {
		require.Contains(t, way.(*management).base, "https://", "the password of an encrypted stream in clear")
	}
}

func TestBrokerThatIsNotThere(t *testing.T) {
	for _, address := range []bankfeed.Secret{"amqp://guest:secret@127.0.0.1:1/", "amqps://guest:secret@127.0.0.1:1/"} {
		_, err := openBroker(t.Context(), address, VHost)
		require.ErrorContains(t, err, "the broker of --amqp-url cannot be reached at 127.0.0.1:1")
		require.NotContains(t, err.Error(), "secret")
	}
}

func TestBrokerRefusesTheUser(t *testing.T) {
	u, err := url.Parse(backingtest.AMQPURL(t))
	require.NoError(t, err)
	u.User = url.UserPassword("nobody", "secret")
	_, err = openBroker(t.Context(), bankfeed.Secret(u.String()), VHost)
	require.ErrorContains(t, err, "does not let the user of --amqp-url into")
	require.NotContains(t, err.Error(), "secret")
}

// A virtual host is made if that is possible, and found again the next time.
func TestVHostIsMade(t *testing.T) {
	address := bankfeed.Secret(backingtest.AMQPURL(t))
	own, err := parseBroker(address)
	require.NoError(t, err)
	name := own.target.Vhost + "_made"
	b, err := openBroker(t.Context(), address, name)
	require.NoError(t, err)
	if b.target.Vhost == own.target.Vhost {
		t.Skip("NOT RUN: the broker gives no way to make a virtual host: " + b.how)
	}
	t.Cleanup(func() {
		var faults []error
		for _, way := range b.ways() {
			if err := way.remove(context.Background(), name); err == nil {
				return
			} else {
				faults = append(faults, err)
			}
		}
		t.Error(errors.Join(faults...))
	})
	require.Equal(t, name, b.target.Vhost)
	require.Equal(t, "made for the demo", b.how)

	b, err = openBroker(t.Context(), address, name)
	require.NoError(t, err)
	require.Equal(t, name, b.target.Vhost)
	require.Equal(t, "which was there already", b.how)
}

// Neither a management API nor rabbitmqctl reaches this broker where the demo
// looks for them: the URL's own virtual host serves.
func TestVHostOfTheURL(t *testing.T) {
	server := backingtest.PrivateRabbitMQ(t)
	b, err := openBroker(t.Context(), bankfeed.Secret(server.URL), VHost)
	require.NoError(t, err)
	require.Equal(t, "/", b.target.Vhost)
	require.Contains(t, b.how, "its URL names it, and bankfeed-demo could not be made: ")
	require.NotContains(t, b.how, b.target.Password)

	// One that is there and closed to the user is left alone.
	for _, args := range [][]string{{"add_vhost", VHost}, {"add_user", "anna", "secret"}, {"set_permissions", "--vhost", "/", "anna", ".*", ".*", ".*"}} {
		_, err := server.Ctl(t.Context(), args...)
		require.NoError(t, err)
	}
	u, err := url.Parse(server.URL)
	require.NoError(t, err)
	u.User = url.UserPassword("anna", "secret")
	b, err = openBroker(t.Context(), bankfeed.Secret(u.String()), VHost)
	require.NoError(t, err)
	require.Equal(t, "/", b.target.Vhost)

	u.Path = "/none"
	_, err = openBroker(t.Context(), bankfeed.Secret(u.String()), VHost)
	require.ErrorContains(t, err, "does not let the user of --amqp-url into virtual host none")
	require.NotContains(t, err.Error(), "secret")
}

func TestManagementAPI(t *testing.T) {
	for name, c := range map[string]struct {
		there int // answer to GET of the virtual host
		puts  int // answer to PUTs
		fault string
		calls []string
	}{
		"made":               {http.StatusNotFound, http.StatusCreated, "", []string{"GET /api/vhosts/a%2Fb", "PUT /api/vhosts/a%2Fb", "PUT /api/permissions/a%2Fb/anna"}},
		"closed to the user": {http.StatusOK, http.StatusNoContent, "it is there, but the user may not enter", []string{"GET /api/vhosts/a%2Fb"}},
		"no administrator":   {http.StatusUnauthorized, http.StatusUnauthorized, "answers 401", []string{"GET /api/vhosts/a%2Fb"}},
		"refused":            {http.StatusNotFound, http.StatusForbidden, "answers 403", []string{"GET /api/vhosts/a%2Fb", "PUT /api/vhosts/a%2Fb"}},
	} {
		t.Run(name, func(t *testing.T) {
			var calls []string
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				calls = append(calls, r.Method+" "+r.URL.EscapedPath())
				user, password, _ := r.BasicAuth()
				switch {
				case user != "anna" || password != "secret":
					w.WriteHeader(http.StatusTeapot)
				case r.Method == http.MethodGet:
					w.WriteHeader(c.there)
				default:
					w.WriteHeader(c.puts)
				}
			}))
			defer server.Close()
			err := (&management{base: server.URL, user: "anna", password: "secret"}).create(t.Context(), "a/b", "anna")
			if c.fault == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, c.fault)
			}
			require.Equal(t, c.calls, calls)
		})
	}
}

// Two demos in one virtual host would take each other's messages.
func TestSecondConsumer(t *testing.T) {
	b, err := openBroker(t.Context(), bankfeed.Secret(backingtest.AMQPURL(t)), "")
	require.NoError(t, err)
	tell := sdk.Acknowledge{Hub: "http://127.0.0.1:1", Stream: "main", Token: func(context.Context) (string, error) { return "", errors.New("not needed") }}
	first, err := consume(t.Context(), b, tell, &printer{}, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	_, err = consume(t.Context(), b, tell, &printer{}, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "another demo runs in virtual host "+b.target.Vhost)
	require.NoError(t, first.end())

	// What a killed demo leaves is no obstacle.
	again, err := consume(t.Context(), b, tell, &printer{}, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.NoError(t, again.end())
	require.NoError(t, again.remove())
	conn, err := b.connect(t.Context(), "test")
	require.NoError(t, err)
	defer conn.Close()
	ch, err := conn.Channel()
	require.NoError(t, err)
	_, err = ch.QueueDeclarePassive(Queue, true, false, false, false, nil)
	require.ErrorContains(t, err, "NOT_FOUND")
}
