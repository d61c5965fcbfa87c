package consent

import (
	"context"
	"errors"
	"time"

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

// Log blanks what the event log says: eventlog.Cleaner.
type Log interface {
	Redact(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID) (int, error)
	// RedactButDeletions leaves what says that something was removed.
	RedactButDeletions(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID) error
	// RedactConnection blanks the data of a connection that is removed;
	// RedactAccounts that of some of its accounts.
	RedactConnection(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id bankfeed.ConnectionID) error
	RedactAccounts(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id bankfeed.ConnectionID, accounts []bankfeed.AccountID) error
	// RedactLists blanks those events about consents and lists of accounts, of a
	// connection or of all (0), whose snapshots a function selects.
	RedactLists(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id bankfeed.ConnectionID, which func(*bankfeed.Snapshot) bool) error
	// RedactDeletions blanks what says that something was removed for good, up
	// to a time; left is when the first that stays was written, zero if none does.
	RedactDeletions(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, upTo time.Time) (left time.Time, err error)
}

const (
	// deletionsKept is how long deletions stay readable, by default, for sinks
	// that have not been told of them.
	deletionsKept = 24 * time.Hour
	// toldEvery is how often sinks are asked.
	toldEvery = time.Minute
)

// EraseUser makes a user unknown at once and has every copy of its data removed
// in the background (RunErasure); user.erased says when that is done.
func (s *Service) EraseUser(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID) error {
	if _, err := s.Store.User(ctx, tenant, user); err != nil {
		return err
	}
	// The work first: it marks the user itself if nobody comes to it here.
	_, err := s.Store.Apply(ctx, &bankfeed.Change{Tenant: tenant, User: user,
		Ready: []bankfeed.WorkItem{{Tenant: tenant, Kind: bankfeed.WorkErasure, ID: int64(user), ReadyAt: s.now()}}})
	if err != nil {
		return err
	}
	if err := s.Users.MarkErased(ctx, tenant, user); err != nil {
		return err
	}
	s.Kick()
	return nil
}

// RunErasure works on claimed work of kind bankfeed.WorkErasure. It may stop
// anywhere; the next claim goes on, as each step may be repeated:
//
//  1. The user is marked, so nothing new begins.
//  2. What the log says of the user so far is blanked. Then its connections are
//     closed, their consents end at the banks, and their data goes, each with
//     its deletion in the log.
//  3. Sinks are told of the deletions, for Config.DeletionsKept at most. Without
//     any they stay for a minute.
//  4. The user's key is destroyed, which ends every sealed copy, in backups
//     too, and the rest of the log is blanked in place.
//  5. One commit takes the last rows away, adds user.erased and ends the work.
//     The event is not sealed, as there is no key any more: it has no payload,
//     and its number, type and time are the stub that stays.
func (s *Service) RunErasure(ctx context.Context, f bankfeed.Fence) error {
	user := bankfeed.UserID(f.ID)
	err := s.Users.MarkErased(ctx, f.Tenant, user)
	if errors.Is(err, bankfeed.ErrNotFound) {
		return s.Store.FinishWork(ctx, f, bankfeed.Release{Done: true}) // there never was such a user
	}
	if err != nil {
		return err
	}
	since, err := s.Store.ErasedAt(ctx, f.Tenant, user)
	if err != nil {
		return err
	}
	if later, err := s.eraseConnections(ctx, f, since); err != nil || later != nil {
		if later != nil {
			if err := s.Log.RedactButDeletions(ctx, f.Tenant, user); err != nil {
				return err
			}
			err = s.Store.FinishWork(ctx, f, *later)
		}
		return err
	}
	if s.Told != nil && s.now().Before(since.Add(s.DeletionsKept)) {
		told, err := s.toldAll(ctx, f.Tenant, user)
		if err != nil {
			return err
		}
		if !told {
			// Calls to the banks came after the first time.
			if err := s.Log.RedactButDeletions(ctx, f.Tenant, user); err != nil {
				return err
			}
			return s.Store.FinishWork(ctx, f, bankfeed.Release{ReadyAt: s.now().Add(toldEvery)})
		}
	}
	if err := s.Keys.Destroy(ctx, f.Tenant, user); err != nil {
		return err
	}
	if _, err := s.Log.Redact(ctx, f.Tenant, user); err != nil {
		return err
	}
	return s.Store.FinishErasure(ctx, f, s.now())
}

// toldAll reports whether nothing is left to tell sinks of: there are no
// deletions that anybody can read, or all sinks have. Whoever follows the log
// itself is no sink that could be asked; for them a deletion stays for a moment.
func (s *Service) toldAll(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID) (bool, error) {
	left, err := s.Log.RedactDeletions(ctx, tenant, user, time.Unix(1, 0)) // up to then there are none: this only looks
	if err != nil || left.IsZero() {
		return err == nil, err
	}
	if s.now().Before(left.Add(toldEvery)) {
		return false, nil
	}
	return s.Told(ctx, tenant, user)
}

// eraseConnections removes all connections of a user. When a bank does not
// answer it returns when to try again.
func (s *Service) eraseConnections(ctx context.Context, f bankfeed.Fence, since time.Time) (*bankfeed.Release, error) {
	connections, err := s.Store.Connections(ctx, f.Tenant, bankfeed.UserID(f.ID))
	if err != nil || len(connections) == 0 {
		return nil, err
	}
	if err := s.closeAll(ctx, f, connections); err != nil {
		return nil, err
	}
	waiting := 0
	for _, c := range connections {
		r := &removal{s: s, scribe: s.scribe(f.Tenant), fence: f, id: c.ID}
		st, err := s.Store.RemovalState(ctx, f.Tenant, c.ID)
		if errors.Is(err, bankfeed.ErrNotFound) {
			continue // by its own removal
		}
		if err != nil {
			return nil, err
		}
		st, open, err := r.endAtBank(ctx, st, func(*bankfeed.Consent) bool { return true })
		if err != nil && !errors.Is(err, bankfeed.ErrNotFound) {
			return nil, err
		}
		if err := r.transactions(ctx, st, accountIDs(st.Accounts)); err != nil {
			return nil, err
		}
		waiting += open
	}
	if next, ok := s.patience(since); waiting > 0 && ok {
		return &bankfeed.Release{ReadyAt: next}, nil
	}
	for _, c := range connections {
		r := &removal{s: s, scribe: s.scribe(f.Tenant), fence: f, id: c.ID}
		if err := r.finish(ctx, nil); err != nil && !errors.Is(err, bankfeed.ErrNotFound) {
			return nil, err
		}
	}
	return nil, nil
}

// closeAll closes what is not closed yet. The log is blanked before: once all
// are closed deletions follow, which sinks are still to be told of.
func (s *Service) closeAll(ctx context.Context, f bankfeed.Fence, connections []bankfeed.Connection) error {
	redacted := false
	for _, c := range connections {
		if c.Status == bankfeed.ConnectionClosed {
			continue
		}
		if !redacted {
			if _, err := s.Log.Redact(ctx, f.Tenant, bankfeed.UserID(f.ID)); err != nil {
				return err
			}
			redacted = true
		}
		r := &removal{s: s, scribe: s.scribe(f.Tenant), fence: f, id: c.ID}
		_, err := r.change(ctx, func(st *bankfeed.ConnectionState, c *bankfeed.Change) error {
			s.closeConnection(st, c, s.now())
			return nil
		})
		if err != nil && !errors.Is(err, bankfeed.ErrNotFound) {
			return err
		}
	}
	return nil
}
