package access

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/secret"
)

// TokenKind tells what a token is good for.
type TokenKind string

// Kinds of tokens.
const (
	AccessToken  TokenKind = "access"
	RefreshToken TokenKind = "refresh"
)

// Prefixes tell people and secret scanners what they see.
const (
	accessPrefix  = "bfa_"
	refreshPrefix = "bfr_"
)

// Token is what is stored of one: never the token itself.
type Token struct {
	Hash      []byte // SHA-256
	Kind      TokenKind
	Family    []byte // what one login led to, by whatever number of refreshes
	Client    string
	Tenant    bankfeed.TenantID
	User      bankfeed.UserID // 0: a client token
	Scope     string          // separated by spaces
	CreatedAt time.Time
	ExpiresAt time.Time
	UsedAt    time.Time // when a refresh token was exchanged; it stays until it expires, to be recognized
}

// Rotation is what becomes of a refresh token that was presented: it is used up
// and Next follows, or its family ends, or nothing happens.
type Rotation struct {
	Next         []Token
	RevokeFamily bool
}

// TokenStore keeps tokens.
type TokenStore interface {
	// AddTokens stores the tokens of one answer; bankfeed.ErrNotFound if their
	// user was erased.
	AddTokens(ctx context.Context, tokens []Token) error
	// FindCaller returns whom a live access token speaks for;
	// bankfeed.ErrNotFound also if its user was erased.
	FindCaller(ctx context.Context, hash []byte, now time.Time) (bankfeed.Caller, error)
	// RotateToken locks a token, asks what becomes of it, and does that.
	// decide may be called again if the database starts over; it is not
	// called if there is no such token or its user was erased, which is
	// bankfeed.ErrNotFound.
	RotateToken(ctx context.Context, hash []byte, now time.Time, decide func(Token) Rotation) error
	// RevokeToken deletes a token's whole family if it is the client's own;
	// else it does nothing.
	RevokeToken(ctx context.Context, hash []byte, client string) error
	DeleteExpiredTokens(ctx context.Context, before time.Time, limit int) (int, error)
}

// Grant is the answer to a token request. The tokens are not to be had again.
type Grant struct {
	AccessToken  bankfeed.Secret
	RefreshToken bankfeed.Secret // empty for a client token
	ExpiresIn    time.Duration   // of the access token
	Scope        string          // as granted, separated by spaces
}

// ErrReused says that a refresh token came a second time, so that somebody has
// it who should not; all tokens of its family were revoked (RFC 9700, 4.14.2).
// It is an ErrGrant to the caller and a warning to the operator.
var ErrReused = errors.New("a refresh token was used twice, its family is revoked")

// ClientToken issues a token that speaks for the client.
func (s *Service) ClientToken(ctx context.Context, client bankfeed.Client, scope string) (Grant, error) {
	scope, err := cleanScope(scope)
	if err != nil {
		return Grant{}, err
	}
	g, tokens := s.issue(Token{Client: client.ID, Tenant: client.Tenant, Scope: scope, Family: newFamily()}, scope)
	return g, s.store.AddTokens(ctx, tokens)
}

// PasswordToken issues a token that speaks for a user of the client's tenant,
// named by external id, email address or UUID. It returns ErrGrant for a wrong
// name or password alike, and RateLimited after too many of them.
func (s *Service) PasswordToken(ctx context.Context, client bankfeed.Client, name string, password bankfeed.Secret, scope string) (Grant, error) {
	scope, err := cleanScope(scope)
	if err != nil {
		return Grant{}, err
	}
	u, err := s.login(ctx, client, name)
	key := loginKey{tenant: client.Tenant, user: u.ID}
	if errors.Is(err, bankfeed.ErrNotFound) {
		key.name, err = secretName(name), nil
	}
	if err != nil {
		return Grant{}, err
	}
	if err := s.checkPassword(ctx, key, string(password), u.PasswordHash); err != nil {
		return Grant{}, err
	}
	for {
		g, tokens := s.issue(Token{Client: client.ID, Tenant: client.Tenant, User: u.ID, Scope: scope, Family: newFamily()}, scope)
		err := s.store.AddTokens(ctx, tokens)
		if err == nil {
			return g, nil
		}
		if !errors.Is(err, bankfeed.ErrNotFound) {
			return Grant{}, err
		}
		// Erased meanwhile. Where that was its data alone a successor has the very
		// password that was checked.
		checked := u.PasswordHash
		u, err = s.login(ctx, client, name)
		if errors.Is(err, bankfeed.ErrNotFound) || err == nil && u.PasswordHash != checked {
			err = ErrGrant
		}
		if err != nil {
			return Grant{}, err
		}
	}
}

// secretName shortens a name that somebody made up to a fixed length.
func secretName(name string) string { return string(secret.HashToken(strings.ToLower(name))) }

// Refresh exchanges a refresh token of the client for a new pair. scope may ask
// for less than was granted; the refresh token keeps the whole (RFC 6749,
// section 6). It returns ErrGrant, and ErrReused too if the token was exchanged
// before.
func (s *Service) Refresh(ctx context.Context, client bankfeed.Client, token bankfeed.Secret, scope string) (Grant, error) {
	scope, err := cleanScope(scope)
	if err != nil {
		return Grant{}, err
	}
	if !wellFormed(string(token), refreshPrefix) {
		return Grant{}, ErrGrant
	}
	now := s.now()
	var g Grant
	var refused error
	err = s.store.RotateToken(ctx, secret.HashToken(string(token)), now, func(old Token) Rotation {
		var r Rotation
		g, refused = Grant{}, nil
		switch {
		case old.Kind != RefreshToken || old.Client != client.ID || !now.Before(old.ExpiresAt):
			refused = ErrGrant
		case !old.UsedAt.IsZero():
			refused, r.RevokeFamily = fmt.Errorf("%w: %w", ErrGrant, ErrReused), true
		case !within(scope, old.Scope):
			refused = ErrScope
		default:
			g, r.Next = s.issue(old, cmp.Or(scope, old.Scope))
		}
		return r
	})
	switch {
	case errors.Is(err, bankfeed.ErrNotFound):
		return Grant{}, ErrGrant
	case err != nil:
		return Grant{}, err
	case refused != nil:
		return Grant{}, refused
	}
	return g, nil
}

// issue makes an access token with a scope, and a refresh token beside it if
// it speaks for a user. like gives family, client, user and the full scope.
func (s *Service) issue(like Token, scope string) (Grant, []Token) {
	now := s.now()
	g := Grant{AccessToken: bankfeed.Secret(secret.NewToken(accessPrefix)), ExpiresIn: s.access, Scope: scope}
	a := Token{Kind: AccessToken, Family: like.Family, Client: like.Client, Tenant: like.Tenant, User: like.User, CreatedAt: now}
	r := a
	a.Hash, a.Scope, a.ExpiresAt = secret.HashToken(string(g.AccessToken)), scope, now.Add(s.access)
	if like.User == 0 {
		return g, []Token{a}
	}
	g.RefreshToken = bankfeed.Secret(secret.NewToken(refreshPrefix))
	r.Kind, r.Hash, r.Scope, r.ExpiresAt = RefreshToken, secret.HashToken(string(g.RefreshToken)), like.Scope, now.Add(s.refresh)
	return g, []Token{a, r}
}

func newFamily() []byte {
	b := make([]byte, 16)
	rand.Read(b)
	return b
}

// Revoke ends an access or refresh token of the client and all others of its
// family (RFC 7009). A token that is unknown, expired or another client's is no
// error and changes nothing.
func (s *Service) Revoke(ctx context.Context, client bankfeed.Client, token bankfeed.Secret) error {
	if !wellFormed(string(token), accessPrefix) && !wellFormed(string(token), refreshPrefix) {
		return nil
	}
	return s.store.RevokeToken(ctx, secret.HashToken(string(token)), client.ID)
}

// Authenticate returns whom an access token speaks for, or ErrToken.
func (s *Service) Authenticate(ctx context.Context, bearer bankfeed.Secret) (bankfeed.Caller, error) {
	if !wellFormed(string(bearer), accessPrefix) {
		return bankfeed.Caller{}, ErrToken
	}
	c, err := s.store.FindCaller(ctx, secret.HashToken(string(bearer)), s.now())
	if errors.Is(err, bankfeed.ErrNotFound) {
		err = ErrToken
	}
	return c, err
}

// wellFormed keeps what cannot be a token of ours from reaching the database.
func wellFormed(token, prefix string) bool {
	return len(token) == len(prefix)+43 && strings.HasPrefix(token, prefix) // 32 bytes in base64url
}

const maxScope = 1000

// unrestricted is how finAPI's clients are told of a token without a scope, and
// how they ask for one.
const unrestricted = "all"

// cleanScope checks a scope against RFC 6749, 3.3 and drops repetitions; it is
// empty if all was asked for. Unknown ones are kept: dialects have their own.
func cleanScope(s string) (string, error) {
	if len(s) > maxScope {
		return "", ErrScope
	}
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' || c == '"' || c == '\\' {
			return "", ErrScope
		}
	}
	var out []string
	for _, f := range strings.Fields(s) {
		if f == unrestricted {
			return "", nil
		}
		if !slices.Contains(out, f) {
			out = append(out, f)
		}
	}
	return strings.Join(out, " "), nil
}

// within reports whether every part of scope is one of granted's.
func within(scope, granted string) bool {
	all := strings.Fields(granted)
	return !slices.ContainsFunc(strings.Fields(scope), func(f string) bool { return !slices.Contains(all, f) })
}
