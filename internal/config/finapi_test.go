package config

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestFinAPISettings(t *testing.T) {
	s, f := parse(t)
	c, err := s.Check(f)
	require.NoError(t, err)
	require.Equal(t, "Europe/Berlin", c.FinAPI.Zone.String())
	require.Equal(t, time.Hour, c.FinAPI.Fresh)
	require.Equal(t, 20*time.Minute, c.FinAPI.WebFormLife)
	require.Equal(t, 14*24*time.Hour, c.FinAPI.ProcessLife)

	s, f = parse(t, "--finapi-time-zone=UTC", "--finapi-fresh=5m", "--process-days=1", "--web-form-life=1h")
	c, err = s.Check(f)
	require.NoError(t, err)
	require.Equal(t, FinAPI{Zone: time.UTC, Fresh: 5 * time.Minute, WebFormLife: time.Hour, ProcessLife: 24 * time.Hour}, c.FinAPI)

	for flag, value := range map[string]string{"finapi-time-zone": "Local", "finapi-fresh": "-1s", "process-days": "0", "web-form-life": "soon"} {
		s, f := parse(t, "--"+flag+"="+value)
		_, err := s.Check(f)
		require.ErrorContains(t, err, named(flag))
	}
	s, f = parse(t, "--finapi-time-zone=hunter2")
	_, err = s.Check(f)
	require.ErrorContains(t, err, named("finapi-time-zone"))
	require.NotContains(t, err.Error(), "hunter2")
}
