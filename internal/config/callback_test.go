package config

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestCallbackSettings(t *testing.T) {
	s, f := parse(t)
	c, err := s.Check(f)
	require.NoError(t, err)
	require.Equal(t, Callbacks{
		Schedule: []time.Duration{
			5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
		},
		Jitter: 0.2, Timeout: 15 * time.Second, Delay: 500 * time.Millisecond,
	}, c.Callbacks)

	s, f = parse(t, "--config", file(t, "callback_allow: [10.0.0.0/8, 127.0.0.1]\ncallback_schedule: [1s, 2m]\n"), "--callback-jitter=0", "--callback-timeout=3s", "--callback-delay=0s")
	c, err = s.Check(f)
	require.NoError(t, err)
	require.Equal(t, Callbacks{
		Allow:    []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("127.0.0.1/32")},
		Schedule: []time.Duration{time.Second, 2 * time.Minute}, Timeout: 3 * time.Second,
	}, c.Callbacks)
}

func TestCallbackSettingFaults(t *testing.T) {
	for flag, value := range map[string]string{
		"callback-allow": "hunter2", "callback-schedule": "5s,hunter2", "callback-jitter": "51", "callback-timeout": "6m", "callback-delay": "-1s",
	} {
		s, f := parse(t, "--"+flag+"="+value)
		_, err := s.Check(f)
		require.ErrorContains(t, err, named(flag))
		require.NotContains(t, err.Error(), "hunter2")
	}
	for _, schedule := range []string{"0s", "-1s", "200h", " , "} {
		s, f := parse(t, "--callback-schedule="+schedule)
		_, err := s.Check(f)
		require.ErrorContains(t, err, "must be a list of 1 to 50 durations", schedule)
	}
}
