package pollqueue_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
)

func TestFollow(t *testing.T) {
	each(t, func(t *testing.T, n node) {
		ctx := context.Background()
		id := n.create(t, anna)
		follow := func(at *bankfeed.Position, limit int, wait time.Duration) []bankfeed.Position {
			events, err := n.Follow(ctx, id, anna, at, limit, wait)
			require.NoError(t, err)
			return positions(events)
		}
		require.Empty(t, follow(nil, 10, 0))
		require.Empty(t, follow(nil, 10, time.Millisecond), "the wait ends")

		n.sync(t, anna)
		n.sync(t, anna)
		require.Equal(t, []bankfeed.Position{1, 3, 4, 6}, follow(nil, 10, 0))
		require.Equal(t, []bankfeed.Position{1, 3}, follow(nil, 2, time.Second), "it moves nothing")
		require.Equal(t, []bankfeed.Position{4, 6}, follow(after(3), 10, 0))

		got := make(chan []bankfeed.Position)
		go func() { got <- follow(after(6), 10, 30*time.Second) }()
		n.sync(t, anna)
		require.NotEmpty(t, <-got, "a commit wakes it")

		_, err := n.Follow(ctx, id, bert, nil, 10, 0)
		require.ErrorIs(t, err, bankfeed.ErrNotFound)
		_, err = n.Follow(ctx, id, anna, after(99), 10, 0)
		require.Equal(t, bankfeed.Invalid, bankfeed.ErrorKindOf(err))

		n.clock.add(14 * time.Minute)
		follow(after(9), 10, 0)
		n.clock.add(14 * time.Minute)
		follow(after(9), 10, 0) // each step keeps the queue alive
		n.clock.add(17 * time.Minute)
		_, err = n.Follow(ctx, id, anna, nil, 10, 0)
		require.ErrorIs(t, err, bankfeed.ErrNotFound)
	})
}
