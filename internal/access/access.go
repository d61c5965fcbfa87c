// Package access decides who may do what: tenants and their clients, users,
// OAuth 2.0 tokens (RFC 6749, 7009, 9700), and how often somebody may ask.
//
// A client holds at most two live secrets. A token is opaque: 32 random bytes
// of which only the SHA-256 is stored, looked up at every request. That is one
// indexed read, so nothing is cached, and what one node revokes no other node
// accepts any more.
//
// A client token acts for every user of its tenant, if it names the user; a
// user token acts for that user and for no other. Sandbox clients see sandbox
// users, live clients the others. Scopes are stored and handed on in the
// Caller; which of them a call needs is a matter of the dialect.
//
// The package serves no HTTP of its own: the token endpoints are in
// internal/api/oauth. It has what every dialect's handlers need: the bearer
// token, the caller in the context, the limiter, the address of the client.
package access

import (
	"context"
	"runtime"
	"time"

	"github.com/bankfeed/bankfeed"
)

// Errors that a dialect tells apart. None says more than it does here: an
// unknown client and a wrong secret, an unknown user and a wrong password, a
// token that expired and one that never was are the same.
var (
	ErrClient = &bankfeed.Error{Kind: bankfeed.Unauthorized, Text: "the client is unknown or its secret is wrong"}
	ErrGrant  = &bankfeed.Error{Kind: bankfeed.Unauthorized, Text: "the credentials or the refresh token are unknown, expired or revoked"}
	ErrToken  = &bankfeed.Error{Kind: bankfeed.Unauthorized, Text: "the access token is unknown, expired or revoked"}
	ErrScope  = &bankfeed.Error{Kind: bankfeed.Invalid, Field: "scope", Text: "is malformed or asks for more than was granted"}
)

// Store keeps what the package decides. Each method is one transaction.
type Store interface {
	ClientStore
	UserStore
	TokenStore
	ProcessStore
}

// Options are the settings of a Service; the zero value of each is its default.
type Options struct {
	// Installation turns the UUID that a user may log in with into its number.
	Installation bankfeed.Installation
	Now          func() time.Time
	// AccessTTL is how long an access token lives (1 h), RefreshTTL how long a
	// refresh token lives unused (30 days).
	AccessTTL, RefreshTTL time.Duration
	// ProcessLife is how long a process lives (14 days).
	ProcessLife time.Duration
	// Hashes is how many passwords are hashed at the same time (one per CPU,
	// at most 4); each takes 19 MiB.
	Hashes int
}

// Service is safe for concurrent use.
type Service struct {
	store       Store
	in          bankfeed.Installation
	now         func() time.Time
	access      time.Duration
	refresh     time.Duration
	processLife time.Duration
	passwords   *passwords
	failures    *failures
}

// New makes a Service.
func New(store Store, o Options) *Service {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.AccessTTL == 0 {
		o.AccessTTL = time.Hour
	}
	if o.RefreshTTL == 0 {
		o.RefreshTTL = 30 * 24 * time.Hour
	}
	if o.ProcessLife == 0 {
		o.ProcessLife = 14 * 24 * time.Hour
	}
	if o.Hashes == 0 {
		o.Hashes = min(4, runtime.GOMAXPROCS(0))
	}
	return &Service{store: store, in: o.Installation, now: o.Now, access: o.AccessTTL, refresh: o.RefreshTTL, processLife: o.ProcessLife,
		passwords: newPasswords(o.Hashes), failures: newFailures()}
}

// sweepBatch bounds how long one deletion holds SQLite's only writer.
const sweepBatch = 1000

// Sweep deletes the tokens that expired before now and returns how many.
func (s *Service) Sweep(ctx context.Context, now time.Time) (int, error) {
	total := 0
	for {
		n, err := s.store.DeleteExpiredTokens(ctx, now, sweepBatch)
		total += n
		if err != nil || n < sweepBatch {
			return total, err
		}
	}
}
