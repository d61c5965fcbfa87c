package store_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
)

// Rows go in several at once: none may be left over, or in another's place.
func TestAddRows(t *testing.T) {
	columns := []string{"tenant_id", "kind", "next"}
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		for i, n := range []int{0, 1, 9, 10, 11, 25, 500} {
			tenant := int64(100 + i)
			require.NoError(t, s.AddRows(ctx, "id_blocks", columns, n, func(i int) []any { return []any{tenant, int64(i), int64(2 * i)} }))
			got, err := s.Count(ctx, `SELECT count(*) FROM id_blocks WHERE tenant_id = $1 AND next = 2 * kind AND kind >= 0 AND kind < $2`, tenant, n)
			require.NoError(t, err)
			require.Equal(t, n, got)
		}

		ending, end := context.WithCancel(ctx)
		err := s.AddRows(ending, "id_blocks", columns, 500, func(i int) []any {
			if i == 123 {
				end()
			}
			return []any{int64(200), int64(i), int64(1)}
		})
		require.ErrorIs(t, err, context.Canceled)
		got, err := s.Count(ctx, `SELECT count(*) FROM id_blocks WHERE tenant_id = 200`)
		require.NoError(t, err)
		require.Zero(t, got)
	})
}
