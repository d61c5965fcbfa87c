package eventlog

import (
	"context"
	"fmt"
	"time"

	"github.com/bankfeed/bankfeed"
)

// Retention is how long events are kept by default.
const Retention = 90 * 24 * time.Hour

// Endings removes events and blanks them.
type Endings interface {
	// Lanes lists all lanes.
	Lanes(ctx context.Context) ([]Lane, error)
	// TrimEvents removes up to limit of the oldest events of a lane: those
	// before the first that is not older than before, none after upTo. It
	// raises the floor and returns how many are gone.
	TrimEvents(ctx context.Context, tenant bankfeed.TenantID, lane int, before time.Time, upTo bankfeed.Position, limit int) (int, error)
	// RedactEvents blanks the payloads of the next events of a user after a
	// position, up to limit of them, and returns how many it looked at and the
	// last one's position.
	RedactEvents(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, after bankfeed.Position, limit int) (
		n int, last bankfeed.Position, err error)
}

// Cleaner ends events.
type Cleaner struct {
	Store Endings
	// Keep is how long an event lives; Retention if 0.
	Keep time.Duration
	// Needed finds the lowest position that an enabled stream or subscription
	// has delivered in a lane: what comes after it is kept however old it is.
	// ok is false if nobody needs the lane. Nil: nobody needs any.
	Needed func(ctx context.Context, tenant bankfeed.TenantID, lane int) (done bankfeed.Position, ok bool, err error)
}

// chunk bounds one transaction of a Cleaner, so that no writer waits for long.
const chunk = 1000

// Trim removes what is too old from all lanes and returns how many events that
// were. It can be stopped at any time and goes on where it was.
func (c *Cleaner) Trim(ctx context.Context, now time.Time) (removed int, err error) {
	keep := c.Keep
	if keep <= 0 {
		keep = Retention
	}
	lanes, err := c.Store.Lanes(ctx)
	if err != nil {
		return 0, err
	}
	for _, l := range lanes {
		n, err := c.trim(ctx, l, now.Add(-keep))
		removed += n
		if err != nil {
			return removed, fmt.Errorf("trimming lane %d of tenant %d: %w", l.Number, l.Tenant, err)
		}
	}
	return removed, nil
}

func (c *Cleaner) trim(ctx context.Context, l Lane, before time.Time) (removed int, err error) {
	for {
		upTo := l.Head
		if c.Needed != nil {
			// Asked anew for each chunk: a cursor may be set back meanwhile.
			done, ok, err := c.Needed(ctx, l.Tenant, l.Number)
			if err != nil {
				return removed, err
			}
			if ok {
				upTo = min(upTo, done)
			}
		}
		n, err := c.Store.TrimEvents(ctx, l.Tenant, l.Number, before, upTo, chunk)
		removed += n
		if err != nil || n < chunk {
			return removed, err
		}
	}
}

// Redact blanks what the log says about a user, in place: the events stay, with
// type, time and numbers. It returns how many events of the user there are.
func (c *Cleaner) Redact(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID) (blanked int, err error) {
	var after bankfeed.Position
	for {
		n, last, err := c.Store.RedactEvents(ctx, tenant, user, after, chunk)
		blanked, after = blanked+n, last
		if err != nil || n < chunk {
			return blanked, err
		}
	}
}
