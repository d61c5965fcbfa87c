package secret_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed/internal/secret"
)

func TestToken(t *testing.T) {
	a, b := secret.NewToken("bf_"), secret.NewToken("bf_")
	require.Regexp(t, `^bf_[A-Za-z0-9_-]{43}$`, a)
	require.NotEqual(t, a, b)

	h := secret.HashToken(a)
	require.Len(t, h, 32)
	require.Equal(t, h, secret.HashToken(a))
	require.NotEqual(t, h, secret.HashToken(b))
}
