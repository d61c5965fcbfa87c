package config

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestImportSettings(t *testing.T) {
	s, f := parse(t)
	c, err := s.Check(f)
	require.NoError(t, err)
	require.Equal(t, Imports{128 << 20, 4}, c.Imports)
	s, f = parse(t, "--import-max-mib=1", "--imports-at-once=2")
	c, err = s.Check(f)
	require.NoError(t, err)
	require.Equal(t, Imports{1 << 20, 2}, c.Imports)
	for flag, value := range map[string]string{"import-max-mib": "0", "imports-at-once": "many"} {
		s, f := parse(t, "--"+flag+"="+value)
		_, err := s.Check(f)
		require.ErrorContains(t, err, named(flag))
	}
}
