package access

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/secret"
)

// DefaultTenant is the tenant of clients that name none.
const DefaultTenant = "default"

// MaxSecrets is how many live secrets a client has at most: the one in use and
// the one that replaces it.
const MaxSecrets = 2

// secretPrefix tells people and secret scanners what they see.
const secretPrefix = "bfs_"

// Client is one set of credentials, without the secrets themselves.
type Client struct {
	bankfeed.Client
	Name      string
	Tenant    string // its name
	CreatedAt time.Time
	Secrets   []ClientSecret // oldest first, revoked ones included
}

// ClientSecret is what is known of a secret.
type ClientSecret struct {
	Hash      []byte // SHA-256
	CreatedAt time.Time
	RevokedAt time.Time // zero while it is live
}

// Fingerprint names a secret to people: the start of its SHA-256, in hex.
func (s ClientSecret) Fingerprint() string { return hex.EncodeToString(s.Hash[:4]) }

// NewClient is a client that was just made. Secret is not to be had again.
type NewClient struct {
	bankfeed.Client
	Secret    bankfeed.Secret
	NewTenant bool // the tenant did not exist before
}

// ClientStore keeps tenants and clients.
type ClientStore interface {
	// EnsureTenant finds a tenant by its name, or makes it.
	EnsureTenant(ctx context.Context, name string, now time.Time) (id bankfeed.TenantID, created bool, err error)
	CreateClient(ctx context.Context, c bankfeed.Client, name string, secretHash []byte, now time.Time) error
	// FindClient returns a client with its secrets, or bankfeed.ErrNotFound.
	FindClient(ctx context.Context, id string) (Client, error)
	// ListClients returns all clients, by tenant and age.
	ListClients(ctx context.Context) ([]Client, error)
	// AddSecret returns a Conflict if the client has MaxSecrets live ones, and
	// bankfeed.ErrNotFound if there is no such client.
	AddSecret(ctx context.Context, client string, hash []byte, now time.Time) error
	// SetCallbacksOnce returns bankfeed.ErrNotFound if there is no such client.
	SetCallbacksOnce(ctx context.Context, client string, once bool) error
	// RevokeSecret returns bankfeed.ErrNotFound if no such secret is live.
	RevokeSecret(ctx context.Context, client string, hash []byte, now time.Time) error
}

// CreateClient makes a client of a tenant ("" means DefaultTenant), and the
// tenant too if it does not exist yet.
func (s *Service) CreateClient(ctx context.Context, tenant, name string, sandbox bool) (NewClient, error) {
	if tenant == "" {
		tenant = DefaultTenant
	}
	if err := checkText("tenant", tenant, 100); err != nil {
		return NewClient{}, err
	}
	if err := checkText("name", name, 100); err != nil {
		return NewClient{}, err
	}
	now := s.now()
	id, created, err := s.store.EnsureTenant(ctx, tenant, now)
	if err != nil {
		return NewClient{}, err
	}
	c := NewClient{Client: bankfeed.Client{Tenant: id, ID: randomUUID(), Sandbox: sandbox}, NewTenant: created}
	text := secret.NewToken(secretPrefix)
	c.Secret = bankfeed.Secret(text)
	return c, s.store.CreateClient(ctx, c.Client, name, secret.HashToken(text), now)
}

// randomUUID makes a client_id in the form that finAPI's clients know: version
// 4 of RFC 9562.
func randomUUID() string {
	var u bankfeed.UUID
	rand.Read(u[:])
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	return u.String()
}

// ListClients returns all clients of all tenants, by tenant and age.
func (s *Service) ListClients(ctx context.Context) ([]Client, error) { return s.store.ListClients(ctx) }

// AddSecret gives a client a second secret beside the one in use; a Conflict
// if it has two already.
func (s *Service) AddSecret(ctx context.Context, client string) (bankfeed.Secret, error) {
	text := secret.NewToken(secretPrefix)
	if err := s.store.AddSecret(ctx, client, secret.HashToken(text), s.now()); err != nil {
		return "", err
	}
	return bankfeed.Secret(text), nil
}

// SetCallbacksOnce says whether callbacks of a client's requests are tried once,
// whatever comes of it, as from now on.
func (s *Service) SetCallbacksOnce(ctx context.Context, client string, once bool) error {
	return s.store.SetCallbacksOnce(ctx, client, once)
}

// RevokeSecret ends a live secret, named by its fingerprint. Access tokens
// that it obtained live on until they expire; refresh tokens are of no use
// without a live secret.
func (s *Service) RevokeSecret(ctx context.Context, client, fingerprint string) error {
	c, err := s.store.FindClient(ctx, client)
	if err != nil {
		return err
	}
	for _, k := range c.Secrets {
		if k.RevokedAt.IsZero() && k.Fingerprint() == fingerprint {
			return s.store.RevokeSecret(ctx, client, k.Hash, s.now())
		}
	}
	return bankfeed.ErrNotFound
}

// AuthenticateClient returns the client if the secret is one of its live ones,
// else ErrClient. An unknown client costs what a known one costs.
func (s *Service) AuthenticateClient(ctx context.Context, id, text string) (bankfeed.Client, error) {
	var c Client
	if _, err := bankfeed.ParseUUID(id); err != nil {
		id = "" // nothing strange reaches the database
	}
	c, err := s.store.FindClient(ctx, id)
	if err != nil && !errors.Is(err, bankfeed.ErrNotFound) {
		return bankfeed.Client{}, err
	}
	var hashes [MaxSecrets][]byte
	for i := range hashes {
		hashes[i] = make([]byte, 32) // no text has this hash
	}
	n := 0
	for _, k := range c.Secrets {
		if k.RevokedAt.IsZero() && n < MaxSecrets {
			hashes[n] = k.Hash
			n++
		}
	}
	given, ok := secret.HashToken(text), 0
	for _, h := range hashes {
		ok |= subtle.ConstantTimeCompare(given, h)
	}
	if ok != 1 {
		return bankfeed.Client{}, ErrClient
	}
	return c.Client, nil
}
