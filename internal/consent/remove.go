package consent

import (
	"context"
	"time"

	"github.com/bankfeed/bankfeed"
)

// RemovalStore is what removals and erasures need to remember.
type RemovalStore interface {
	// RemovalState is ConnectionState for a connection by its number alone,
	// also when its user is marked as erased.
	RemovalState(ctx context.Context, tenant bankfeed.TenantID, id bankfeed.ConnectionID) (bankfeed.ConnectionState, error)
	// RemoveTransactions deletes a portion of the transactions of accounts and
	// reports whether there may be more.
	RemoveTransactions(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, accounts []bankfeed.AccountID, limit int) (more bool, err error)
	// FinishWork gives claimed work back without any other change.
	FinishWork(ctx context.Context, f bankfeed.Fence, r bankfeed.Release) error
	// FinishErasure removes every row that a user still has, adds user.erased
	// to the log, and ends the claimed work of the erasure, in one commit.
	FinishErasure(ctx context.Context, f bankfeed.Fence, at time.Time) error
}
