package config_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/config"
)

func checkStreams(t *testing.T, text string, address bankfeed.Secret) ([]config.Stream, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bankfeed.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	s := config.Defaults()
	s.AMQPURL = address
	c, err := s.Check(config.ReadFile(path))
	return c.Streams, err
}

const address = bankfeed.Secret("amqp://hub:hunter2@rabbit.example/hub")

func TestTheVariableAloneMakesAStream(t *testing.T) {
	list, err := checkStreams(t, "", address)
	require.NoError(t, err)
	require.Equal(t, []config.Stream{{Name: "main", AMQPURL: address, Decimals: "number", Nulls: "explicit", AmountSign: "signed", Unchanged: "suppress", Start: "log"}}, list)

	list, err = checkStreams(t, "", "")
	require.NoError(t, err)
	require.Empty(t, list, "no stream unless one is asked for")
}

func TestStreamsOfTheFile(t *testing.T) {
	list, err := checkStreams(t, `
streams:
  - tenant: acme
    decimals: string
    messages: [transaction, session]
    unrouted: {transaction: record}
    queues: [finat]
  - {name: beta, tenant: beta, amqp_url: "amqps://b:x@rabbit.example/beta"}
`, address)
	require.NoError(t, err)
	require.Len(t, list, 2)
	require.Equal(t, address, list[0].AMQPURL)
	require.Equal(t, "string", list[0].Decimals)
	require.Equal(t, map[string]string{"transaction": "record"}, list[0].Unrouted)
	require.Equal(t, "beta", list[1].Name)
	require.Equal(t, bankfeed.Secret("amqps://b:x@rabbit.example/beta"), list[1].AMQPURL)
}

func TestFaultsOfStreams(t *testing.T) {
	for name, text := range map[string]string{
		"name: must be":         `{name: "My Stream"}`,
		"decimals: must be":     "{decimals: hunter2}",
		"nulls: must be":        "{nulls: hunter2}",
		"amount_sign: must be":  "{amount_sign: hunter2}",
		"unchanged: must be":    "{unchanged: hunter2}",
		"start: must be":        "{start: hunter2}",
		"messages: must be":     "{messages: [hunter2]}",
		"unrouted: its members": "{unrouted: {hunter2: hold}}",
		"unrouted.call: must":   "{unrouted: {call: hunter2}}",
		"queues[0]: must":       `{queues: [""]}`,
		"unknown field":         "{hunter3: 1}",
		"names its own broker":  `{amqp_url: "amqp://x/y"}`,
	} {
		_, err := checkStreams(t, "streams:\n  - "+text+"\n", address)
		require.ErrorContains(t, err, name)
		require.NotContains(t, err.Error(), "hunter2")
	}
	_, err := checkStreams(t, "streams:\n  - {name: a}\n", "")
	require.ErrorContains(t, err, "amqp_url: is needed")
}
