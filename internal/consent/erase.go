package consent

import (
	"context"

	"github.com/bankfeed/bankfeed"
)

// Users ends users: access.Service.
type Users interface {
	// MarkErased makes a user unknown; it may be repeated.
	MarkErased(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID) error
}

// Keys destroys users' keys: secret.UserKeys.
type Keys interface {
	// Destroy makes unreadable, for good, what is sealed for a user; it may be
	// repeated.
	Destroy(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID) error
}

// Log blanks what the event log says about a user: eventlog.Cleaner.
type Log interface {
	Redact(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID) (int, error)
}
