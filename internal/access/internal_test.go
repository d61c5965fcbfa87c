package access

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

func TestPasswordsAreHashedAFewAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPasswords(2)
		var release []func()
		for range 2 {
			r, err := p.slot(t.Context())
			require.NoError(t, err)
			release = append(release, r)
		}
		ctx, giveUp := context.WithCancel(t.Context())
		third := make(chan error, 1)
		go func() {
			_, err := p.slot(ctx)
			third <- err
		}()
		synctest.Wait()
		require.Empty(t, third, "the third waits")
		giveUp()
		require.ErrorIs(t, <-third, context.Canceled)
		_, err := p.hash(ctx, "secret-password")
		require.ErrorIs(t, err, context.Canceled)

		release[0]()
		r, err := p.slot(t.Context())
		require.NoError(t, err)
		r()
		release[1]()
	})
}

func TestLRUForgetsTheLeastRecentlyUsed(t *testing.T) {
	c := newLRU[int, string](2)
	c.put(1, "a")
	c.put(2, "b")
	c.put(1, "A")
	c.put(3, "c")
	_, ok := c.get(2)
	require.False(t, ok, "the least recently used one went")
	v, ok := c.get(1)
	require.True(t, ok)
	require.Equal(t, "A", v)
	c.remove(1)
	c.remove(1)
	_, ok = c.get(1)
	require.False(t, ok)
	require.Len(t, c.at, c.order.Len())
}
