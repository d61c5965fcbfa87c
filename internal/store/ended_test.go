package store

import (
	"context"
	"database/sql"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// A transaction that its context ended is no fault of the hub.
func TestATransactionThatItsContextEndedSaysSo(t *testing.T) {
	gone := fmt.Errorf("storing a page: %w", sql.ErrTxDone)
	ctx, cancel := context.WithCancel(t.Context())
	require.ErrorIs(t, ended(ctx, gone), sql.ErrTxDone, "nobody ended it: a fault")
	require.NoError(t, ended(ctx, nil))
	cancel()
	require.ErrorIs(t, ended(ctx, gone), context.Canceled)
	require.NoError(t, ended(ctx, nil), "a commit that went through stands")
}
