package client

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
)

// Whoever reads a fault with MassTransit parses its addresses as URIs.
func TestAddressesAreURIs(t *testing.T) {
	for address, want := range map[string]string{
		"amqp://u:p@rabbit.example":            "rabbitmq://rabbit.example/my%20books",
		"amqps://u:p@rabbit.example/hub":       "rabbitmq://rabbit.example/hub/my%20books",
		"amqp://u:p@rabbit.example:5673/a%2Fb": "rabbitmq://rabbit.example:5673/a%2Fb/my%20books",
		"amqp://u:p@[::1]/hub":                 "rabbitmq://[::1]/hub/my%20books",
		"amqp://u:p@[2001:db8::5]:5673/hub":    "rabbitmq://[2001:db8::5]:5673/hub/my%20books",
	} {
		s, err := NewStream(StreamOptions{URL: bankfeed.Secret(address), Queue: "my books", Handler: Ignore{}})
		require.NoError(t, err)
		require.Equal(t, want, s.address("my books"))
	}
}
