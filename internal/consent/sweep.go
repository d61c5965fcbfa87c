package consent

import (
	"context"
	"time"

	"github.com/bankfeed/bankfeed"
)

// SweepStore finds what time has ended.
type SweepStore interface {
	// EndingConsents lists confirmed consents by their last day.
	EndingConsents(ctx context.Context, q Ending) ([]EndingConsent, error)
	// SweepLinks forgets the credentials of links that expired before one time
	// and the links that did before another, up to limit of each, and returns
	// how many of whichever were more.
	SweepLinks(ctx context.Context, expired, forgotten time.Time, limit int) (int, error)
}

// Ending selects confirmed consents by their last day.
type Ending struct {
	Before   bankfeed.Date // exclusive
	Unwarned bool          // only those whose end was not announced
	After    EndingConsent // where the page before ended
	Limit    int
}

// EndingConsent names a consent that ends.
type EndingConsent struct {
	Tenant     bankfeed.TenantID
	User       bankfeed.UserID
	Connection bankfeed.ConnectionID
	Consent    bankfeed.ConsentID
	ValidUntil bankfeed.Date
}
