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
	Store
	// Lanes lists all lanes.
	Lanes(ctx context.Context) ([]Lane, error)
	// TrimEvents removes up to limit of the oldest events of a lane: those
	// before the first that is not older than before, none after upTo. It
	// raises the floor and returns how many are gone.
	TrimEvents(ctx context.Context, tenant bankfeed.TenantID, lane int, before time.Time, upTo bankfeed.Position, limit int) (int, error)
	// RedactEvents looks at the next events of a user after a position, up to
	// limit of them, and blanks the payloads of those that a part selects. It
	// returns how many it looked at and the last one's position.
	RedactEvents(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, p Part, after bankfeed.Position, limit int) (
		n int, last bankfeed.Position, err error)
	// OldestEvent is when the first event of a user came to be that a part
	// selects and that is not blank; zero if there is none.
	OldestEvent(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, p Part) (time.Time, error)
	// BlankEvents blanks the payloads of some events of a user.
	BlankEvents(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, positions []bankfeed.Position) error
}

// Part selects events of a user: those that fit all that is set.
type Part struct {
	Connection bankfeed.ConnectionID
	Accounts   []bankfeed.AccountID
	Only       []bankfeed.EventType
	Except     []bankfeed.EventType
	UpTo       time.Time // no later ones
	// Gone leaves events alone whose account is still there.
	Gone bool
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
func (c *Cleaner) Redact(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID) (int, error) {
	return c.redact(ctx, tenant, user, Part{})
}

// deletions say that something was removed: who follows the log must still
// learn of them when all else is blank.
var deletions = []bankfeed.EventType{bankfeed.EventConnectionDeleted, bankfeed.EventConsentDeleted}

// RedactButDeletions is Redact for all but what says that something was
// removed.
func (c *Cleaner) RedactButDeletions(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID) error {
	_, err := c.redact(ctx, tenant, user, Part{Except: deletions})
	return err
}

// RedactConnection blanks what the log says about the accounts of a connection,
// its consents and its bank's answers. How its sessions began and ended stays,
// for whoever waits for that, and so do its deletions.
func (c *Cleaner) RedactConnection(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id bankfeed.ConnectionID) error {
	_, err := c.redact(ctx, tenant, user, Part{Connection: id, Only: []bankfeed.EventType{
		bankfeed.EventAccountCreated, bankfeed.EventAccountUpdated, bankfeed.EventAccountRemoved, bankfeed.EventAccountFinished,
		bankfeed.EventTransactionCreated, bankfeed.EventTransactionUpdated, bankfeed.EventTransactionRemoved,
		bankfeed.EventAccountSeen, bankfeed.EventTransactionSeen,
		bankfeed.EventAccountsListSucceeded, bankfeed.EventBankCalled,
		bankfeed.EventConsentCreated, bankfeed.EventConsentUpdated, bankfeed.EventConsentExpiring,
	}})
	return err
}

// RedactAccounts blanks what the log says about accounts of a connection, but
// for account.removed, which says that they are gone.
func (c *Cleaner) RedactAccounts(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id bankfeed.ConnectionID, accounts []bankfeed.AccountID) error {
	if len(accounts) == 0 {
		return nil
	}
	_, err := c.redact(ctx, tenant, user, Part{Connection: id, Accounts: accounts, Except: []bankfeed.EventType{bankfeed.EventAccountRemoved}})
	return err
}

// Facts say what was removed for good: beside deletions, that an account was.
var Facts = append([]bankfeed.EventType{bankfeed.EventAccountRemoved}, deletions...)

// RedactDeletions blanks what says that something of a user was removed for
// good, up to a time, and returns the time of the first such event that is left,
// zero if there is none. An account that only its bank removed is still there,
// with its history.
func (c *Cleaner) RedactDeletions(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, upTo time.Time) (left time.Time, err error) {
	if _, err := c.redact(ctx, tenant, user, Part{Only: Facts, Gone: true, UpTo: upTo}); err != nil {
		return time.Time{}, err
	}
	return c.Store.OldestEvent(ctx, tenant, user, Part{Only: Facts, Gone: true})
}

// lists are the events that name several accounts.
var lists = []bankfeed.EventType{
	bankfeed.EventConsentCreated, bankfeed.EventConsentUpdated, bankfeed.EventConsentExpiring, bankfeed.EventAccountsListSucceeded,
}

// RedactLists blanks those events about consents and lists of accounts, of one
// connection or of all (0), whose snapshots a function selects.
func (c *Cleaner) RedactLists(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id bankfeed.ConnectionID, which func(*bankfeed.Snapshot) bool) error {
	topic := bankfeed.TopicConnections
	q := Query{Tenant: tenant, Lane: LaneOf(user, Lanes), User: user, Connection: id, Types: lists, Topic: &topic, Limit: MaxLimit}
	lane, err := c.Store.Lane(ctx, tenant, q.Lane)
	if err != nil {
		return err
	}
	for q.After = lane.Floor; q.After < lane.Head; {
		events, next, err := c.Store.ReadEvents(ctx, q)
		if err != nil {
			return err
		}
		var found []bankfeed.Position
		for _, e := range events {
			if e.Snapshot != nil && which(e.Snapshot) {
				found = append(found, e.Position)
			}
		}
		if len(found) > 0 {
			if err := c.Store.BlankEvents(ctx, tenant, user, found); err != nil {
				return err
			}
		}
		q.After = next
	}
	return nil
}

func (c *Cleaner) redact(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, p Part) (seen int, err error) {
	var after bankfeed.Position
	for {
		n, last, err := c.Store.RedactEvents(ctx, tenant, user, p, after, chunk)
		seen, after = seen+n, last
		if err != nil || n < chunk {
			return seen, err
		}
	}
}
