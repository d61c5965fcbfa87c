package callback

import (
	"context"
	"slices"
	"time"

	"github.com/bankfeed/bankfeed"
)

// SecretInfo is what is told of a tenant's secret once it was shown.
type SecretInfo struct {
	ID        int64
	CreatedAt time.Time
	RetiredAt time.Time // when it stops or stopped to sign; zero: nothing is planned
}

// MaxSecrets is how many live secrets a tenant has at most: each body carries a
// signature of every one.
const MaxSecrets = 2

// SecretStore keeps the secrets that a tenant's callbacks are signed with, sealed.
// A secret lives until its RetiredAt.
type SecretStore interface {
	// Secrets returns the live ones, the newest first. If there is none, fresh
	// becomes the first.
	Secrets(ctx context.Context, tenant bankfeed.TenantID, fresh bankfeed.Secret, now time.Time) ([]bankfeed.Secret, error)
	// ListSecrets lists the newest, retired ones too.
	ListSecrets(ctx context.Context, tenant bankfeed.TenantID, limit int) ([]SecretInfo, error)
	// AddSecret makes fresh the newest. Those before it retire at until; zero: when
	// they are told to. bankfeed.Conflict beyond MaxSecrets live ones.
	AddSecret(ctx context.Context, tenant bankfeed.TenantID, fresh bankfeed.Secret, until, now time.Time) (SecretInfo, error)
	// RetireSecret ends a live secret; bankfeed.ErrNotFound for any other,
	// bankfeed.Conflict if no secret that stays would be left.
	RetireSecret(ctx context.Context, tenant bankfeed.TenantID, id int64, now time.Time) error
}

// Secrets makes, shows once and ends the secrets of tenants.
type Secrets struct {
	Store SecretStore
	Now   func() time.Time
}

// First makes a tenant's first secret, or returns an empty one if there is a live
// one already: that was shown before, or is not to be shown.
func (s *Secrets) First(ctx context.Context, tenant bankfeed.TenantID) (bankfeed.Secret, error) {
	fresh := NewSecret()
	live, err := s.Store.Secrets(ctx, tenant, fresh, s.Now())
	if err != nil || !slices.Contains(live, fresh) {
		return "", err
	}
	return fresh, nil
}

// listedSecrets is far more than anybody rotates in the time that is of interest.
const listedSecrets = 20

// List tells of a tenant's secrets, the newest first, without showing them.
func (s *Secrets) List(ctx context.Context, tenant bankfeed.TenantID) ([]SecretInfo, error) {
	return s.Store.ListSecrets(ctx, tenant, listedSecrets)
}

// Create makes a secret; this is the only time that it is shown. Those before it
// sign until a time, or, with the zero time, until they are retired.
func (s *Secrets) Create(ctx context.Context, tenant bankfeed.TenantID, until time.Time) (bankfeed.Secret, SecretInfo, error) {
	now := s.Now()
	if !until.IsZero() && until.Before(now) {
		until = now
	}
	fresh := NewSecret()
	info, err := s.Store.AddSecret(ctx, tenant, fresh, until, now)
	if err != nil {
		return "", SecretInfo{}, err
	}
	return fresh, info, nil
}

// Retire ends a secret. Within seconds no node signs with it any more.
func (s *Secrets) Retire(ctx context.Context, tenant bankfeed.TenantID, id int64) error {
	return s.Store.RetireSecret(ctx, tenant, id, s.Now())
}
