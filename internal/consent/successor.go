package consent

import (
	"context"
	"time"

	"github.com/bankfeed/bankfeed"
)

// DeletionStore is what erasures of a user's data need to remember.
type DeletionStore interface {
	// ReplaceUser puts a successor in a user's place, in one transaction: it has
	// the user's login, contact, tokens and process, and the user's external id,
	// or its UUID if it had none. The user itself is marked as erased, and its
	// erasure is put up as work. It returns the number of the deletion, or
	// bankfeed.ErrNotFound.
	ReplaceUser(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, now time.Time) (deletion int64, err error)
	// DataDeletion tells how far a deletion of a user's, or of one whose
	// successor it is, has come.
	DataDeletion(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id int64) (DataDeletion, error)
	// SweepDeletions forgets deletions that were asked for before a time and are
	// done, up to limit of them.
	SweepDeletions(ctx context.Context, before time.Time, limit int) (int, error)
}

// DataDeletion is how far the erasure of a user's data has come, as it is stored
// at this moment.
type DataDeletion struct {
	ID        int64
	CreatedAt time.Time
	Done      bool // of every copy, the key included
	Parts     []DeletionPart
}

// DeletionPart is one kind of data.
type DeletionPart struct {
	Name string // in the words of whoever keeps it
	Done bool
}

// EraseData erases what the hub has of a user, while the client goes on with the
// same user and the same tokens. A destroyed key is never made again, and
// without destroying it copies in backups would stay readable; so the user is
// erased as EraseUser does it, and a successor takes its place, with a number of
// its own.
func (s *Service) EraseData(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID) (deletion int64, err error) {
	deletion, err = s.Store.ReplaceUser(ctx, tenant, user, s.now())
	if err == nil {
		s.Kick()
	}
	return deletion, err
}

// DataDeletion tells how far it has come.
func (s *Service) DataDeletion(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id int64) (DataDeletion, error) {
	return s.Store.DataDeletion(ctx, tenant, user, id)
}
