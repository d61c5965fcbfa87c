package access

import (
	"context"
	"errors"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/secret"
)

// A process is one errand of a client for somebody who is no user of it, such as
// the check of a loan: it has a user of its own that the client never names, and
// ends with the user's erasure.

// MaxExchanges is how often a process's token can be exchanged for a user token.
const MaxExchanges = 10

const processPrefix = "bfp_"

// Process is what is stored of one: never the token itself.
type Process struct {
	Token     []byte // SHA-256
	Client    bankfeed.Client
	User      bankfeed.UserID
	Exchanges int // made so far
	CreatedAt time.Time
	ExpiresAt time.Time
	Ended     bool // the token gives nothing any more
}

// NewProcess is a process that was just made. Token is not to be had again.
type NewProcess struct {
	Token     bankfeed.Secret
	ExpiresAt time.Time
}

// Exchanged is what an exchange gave.
type Exchanged struct {
	Grant
	Left      int // exchanges that are still possible
	ExpiresAt time.Time
}

// ProcessStore keeps processes.
type ProcessStore interface {
	// AddProcess stores a process with a user of its own.
	AddProcess(ctx context.Context, p Process, u User) error
	// ExchangeProcess counts an exchange of a live process of a tenant that has
	// one left, ends the process if that is asked for, and stores the tokens that
	// issue makes, all at once; else it returns bankfeed.ErrNotFound.
	ExchangeProcess(ctx context.Context, tenant bankfeed.TenantID, sandbox bool, token []byte, now time.Time, end bool, issue func(Process) []Token) (Process, error)
	// ExpiredProcesses lists processes that expired before a time, the oldest first.
	ExpiredProcesses(ctx context.Context, before time.Time, limit int) ([]Process, error)
	// DeleteProcess removes a process if its user is still the same.
	DeleteProcess(ctx context.Context, p Process) error
}

// StartProcess makes a process, with its user. A Forbidden to a user token.
func (s *Service) StartProcess(ctx context.Context, caller bankfeed.Caller) (NewProcess, error) {
	if caller.User != 0 {
		return NewProcess{}, errClientToken
	}
	now := s.now().UTC().Truncate(time.Microsecond)
	n := NewProcess{Token: bankfeed.Secret(secret.NewToken(processPrefix)), ExpiresAt: now.Add(s.processLife)}
	u := User{User: bankfeed.User{BusinessContext: bankfeed.Individual, CreatedAt: now, NoAutoSync: true}, Sandbox: caller.Client.Sandbox}
	p := Process{Token: secret.HashToken(string(n.Token)), Client: caller.Client, CreatedAt: now, ExpiresAt: n.ExpiresAt}
	return n, s.store.AddProcess(ctx, p, u)
}

// ExchangeProcess gives a user token for a process's token; end says that it was
// the last time. There is no refresh token: whoever needs a new one exchanges
// again. What cannot be exchanged, for whatever reason, is bankfeed.ErrNotFound.
func (s *Service) ExchangeProcess(ctx context.Context, caller bankfeed.Caller, token bankfeed.Secret, end bool) (Exchanged, error) {
	if caller.User != 0 {
		return Exchanged{}, errClientToken
	}
	if !wellFormed(string(token), processPrefix) {
		return Exchanged{}, bankfeed.ErrNotFound
	}
	var x Exchanged
	p, err := s.store.ExchangeProcess(ctx, caller.Client.Tenant, caller.Client.Sandbox, secret.HashToken(string(token)), s.now(), end, func(p Process) []Token {
		var tokens []Token
		x.Grant, tokens = s.issue(Token{Client: caller.Client.ID, Tenant: caller.Client.Tenant, User: p.User, Family: newFamily()}, "")
		x.RefreshToken = ""
		return tokens[:1]
	})
	if err != nil {
		return Exchanged{}, err
	}
	x.ExpiresAt = p.ExpiresAt
	if !p.Ended {
		x.Left = MaxExchanges - p.Exchanges
	}
	return x, nil
}

// SweepProcesses erases the users of processes that expired before now and
// returns how many. One that cannot be erased does not hold up the others.
func (s *Service) SweepProcesses(ctx context.Context, now time.Time, erase func(context.Context, bankfeed.TenantID, bankfeed.UserID) error) (int, error) {
	n, failed := 0, 0
	var first error
	for {
		// Those that failed are the oldest from now on.
		expired, err := s.store.ExpiredProcesses(ctx, now, failed+sweepBatch)
		if err != nil || len(expired) <= failed {
			return n, errors.Join(first, err)
		}
		batch := expired[failed:]
		for _, p := range batch {
			err := erase(ctx, p.Client.Tenant, p.User)
			if err == nil || errors.Is(err, bankfeed.ErrNotFound) { // by its own request
				err = s.store.DeleteProcess(ctx, p)
			}
			switch {
			case err == nil:
				n++
			case ctx.Err() != nil:
				return n, err
			default:
				failed++
				if first == nil {
					first = err
				}
			}
		}
	}
}
