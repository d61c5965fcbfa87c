package store

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/access"
)

// Access keeps tenants, clients, users and tokens. It implements access.Store.
type Access struct{ store *Store }

// Access returns the store of access control.
func (s *Store) Access() Access { return Access{s} }

var _ access.Store = Access{}

// noTenant is where tenants themselves are counted.
const noTenant bankfeed.TenantID = 0

// EnsureTenant finds a tenant by its name, or makes it.
func (a Access) EnsureTenant(ctx context.Context, name string, now time.Time) (id bankfeed.TenantID, created bool, err error) {
	find := func() error {
		return a.store.write.QueryRowContext(ctx, `SELECT id FROM tenants WHERE name = $1`, name).Scan(&id)
	}
	if err = find(); !errors.Is(err, sql.ErrNoRows) {
		return id, false, err
	}
	n, err := a.store.NextID(ctx, noTenant, bankfeed.KindTenant)
	if err != nil {
		return 0, false, err
	}
	r, err := a.store.write.ExecContext(ctx, `INSERT INTO tenants (id, name, created_at) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING`,
		n, name, now.UnixMicro())
	if err != nil {
		return 0, false, err
	}
	rows, err := r.RowsAffected()
	if err != nil {
		return 0, false, err
	}
	return id, rows == 1, find() // another node may have been first
}

// CreateClient stores a client with its first secret.
func (a Access) CreateClient(ctx context.Context, c bankfeed.Client, name string, secretHash []byte, now time.Time) error {
	return a.store.tx(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `INSERT INTO clients (id, tenant_id, name, sandbox, created_at) VALUES ($1, $2, $3, $4, $5)`,
			c.ID, c.Tenant, name, c.Sandbox, now.UnixMicro()); err != nil {
			return err
		}
		return addSecret(ctx, tx, c.ID, secretHash, now)
	})
}

func addSecret(ctx context.Context, tx *sql.Tx, client string, hash []byte, now time.Time) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO client_secrets (client_id, hash, created_at) VALUES ($1, $2, $3)`, client, hash, now.UnixMicro())
	return err
}

const selectClients = `
	SELECT c.id, c.tenant_id, c.sandbox, c.callbacks_once, c.name, t.name, c.created_at, s.hash, s.created_at, s.revoked_at
	FROM clients c JOIN tenants t ON t.id = c.tenant_id LEFT JOIN client_secrets s ON s.client_id = c.id`

// clients folds rows of selectClients, one per secret, into clients.
func (a Access) clients(ctx context.Context, query string, args ...any) ([]access.Client, error) {
	rows, err := collect(ctx, a.store.read, func(scan func(...any) error) (c access.Client, err error) {
		var secret access.ClientSecret
		var made int64
		var added, revoked sql.NullInt64
		err = scan(&c.ID, &c.Client.Tenant, &c.Sandbox, &c.CallbacksOnce, &c.Name, &c.Tenant, &made, &secret.Hash, &added, &revoked)
		c.CreatedAt = time.UnixMicro(made).UTC()
		if secret.CreatedAt, secret.RevokedAt = at(added), at(revoked); secret.Hash != nil {
			c.Secrets = append(c.Secrets, secret)
		}
		return c, err
	}, query, args...)
	var out []access.Client
	for _, c := range rows {
		if last := len(out) - 1; last >= 0 && out[last].ID == c.ID {
			out[last].Secrets = append(out[last].Secrets, c.Secrets...)
			continue
		}
		out = append(out, c)
	}
	return out, err
}

// FindClient returns a client with its secrets, or bankfeed.ErrNotFound.
func (a Access) FindClient(ctx context.Context, id string) (access.Client, error) {
	all, err := a.clients(ctx, selectClients+` WHERE c.id = $1 ORDER BY s.created_at, s.hash`, id)
	if err == nil && len(all) == 0 {
		err = bankfeed.ErrNotFound
	}
	if err != nil {
		return access.Client{}, err
	}
	return all[0], nil
}

// ListClients returns all clients, by tenant and age.
func (a Access) ListClients(ctx context.Context) ([]access.Client, error) {
	return a.clients(ctx, selectClients+` ORDER BY c.tenant_id, c.created_at, c.id, s.created_at, s.hash`)
}

// AddSecret gives a client one more secret, a Conflict beyond access.MaxSecrets
// live ones.
func (a Access) AddSecret(ctx context.Context, client string, hash []byte, now time.Time) error {
	return a.store.tx(ctx, func(tx *sql.Tx) error {
		var id string
		err := tx.QueryRowContext(ctx, `SELECT id FROM clients WHERE id = $1`+a.store.forUpdate(), client).Scan(&id)
		if errors.Is(err, sql.ErrNoRows) {
			return bankfeed.ErrNotFound
		}
		if err != nil {
			return err
		}
		var live int
		if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM client_secrets WHERE client_id = $1 AND revoked_at IS NULL`, client).Scan(&live); err != nil {
			return err
		}
		if live >= access.MaxSecrets {
			return bankfeed.Errorf(bankfeed.Conflict, "the client has %d live secrets: revoke one first", live)
		}
		return addSecret(ctx, tx, client, hash, now)
	})
}

// SetCallbacksOnce says whether callbacks of a client's requests are tried once.
func (a Access) SetCallbacksOnce(ctx context.Context, client string, once bool) error {
	r, err := a.store.write.ExecContext(ctx, `UPDATE clients SET callbacks_once = $2 WHERE id = $1`, client, once)
	return changed(r, err, bankfeed.ErrNotFound)
}

// RevokeSecret ends a live secret.
func (a Access) RevokeSecret(ctx context.Context, client string, hash []byte, now time.Time) error {
	r, err := a.store.write.ExecContext(ctx, `UPDATE client_secrets SET revoked_at = $3 WHERE client_id = $1 AND hash = $2 AND revoked_at IS NULL`,
		client, hash, now.UnixMicro())
	return changed(r, err, bankfeed.ErrNotFound)
}

// CreateUser numbers and stores a user.
func (a Access) CreateUser(ctx context.Context, tenant bankfeed.TenantID, u access.User) (bankfeed.UserID, error) {
	id, err := a.store.NextID(ctx, tenant, bankfeed.KindUser)
	if err != nil {
		return 0, err
	}
	return bankfeed.UserID(id), a.insertUser(ctx, a.store.write, tenant, id, u)
}

// insertUser stores a user, or says which part of it belongs to another one.
func (a Access) insertUser(ctx context.Context, q querier, tenant bankfeed.TenantID, id int64, u access.User) error {
	err := insertUser(ctx, q, tenant, id, u)
	if duplicate(err) {
		field := "email"
		// The other user may be gone by now; then the field is a guess, and the next try succeeds.
		for _, key := range []access.UserKey{{ExternalID: u.ExternalID}, {FoldedID: u.FoldedID}} {
			if key == (access.UserKey{}) {
				continue
			}
			if _, err := a.FindUser(ctx, tenant, key); err == nil {
				field = "external_id"
			}
		}
		return &bankfeed.Error{Kind: bankfeed.Conflict, Field: field, Text: "belongs to another user"}
	}
	return err
}

const selectUsers = `SELECT id, external_id, folded_id, email, password_hash, business_context, sandbox, created_at, contact_email, contact_phone, NOT auto_sync FROM users WHERE tenant_id = $1 AND erased_at IS NULL`

func scanLogin(scan func(...any) error) (u access.User, err error) {
	var external, folded, email, password, contactEmail, contactPhone sql.NullString
	var created int64
	err = scan(&u.ID, &external, &folded, &email, &password, &u.BusinessContext, &u.Sandbox, &created, &contactEmail, &contactPhone, &u.NoAutoSync)
	u.Contact = bankfeed.Contact{Email: contactEmail.String, Phone: contactPhone.String}
	u.ExternalID, u.FoldedID, u.Email, u.PasswordHash, u.CreatedAt = external.String, folded.String, email.String, password.String, time.UnixMicro(created).UTC()
	return u, err
}

// FindUser returns bankfeed.ErrNotFound for an erased user too.
func (a Access) FindUser(ctx context.Context, tenant bankfeed.TenantID, key access.UserKey) (access.User, error) {
	switch {
	case key.ExternalID != "":
		return one(ctx, a.store.read, scanLogin, selectUsers+` AND external_id = $2`, tenant, key.ExternalID)
	case key.FoldedID != "":
		return one(ctx, a.store.read, scanLogin, selectUsers+` AND folded_id = $2`, tenant, key.FoldedID)
	case key.Email != "":
		return one(ctx, a.store.read, scanLogin, selectUsers+` AND email IS NOT NULL AND lower(email) = lower($2)`, tenant, key.Email)
	}
	return one(ctx, a.store.read, scanLogin, selectUsers+` AND id = $2`, tenant, key.ID)
}

// ListUsers returns users with numbers above after, in order.
func (a Access) ListUsers(ctx context.Context, tenant bankfeed.TenantID, sandbox bool, after bankfeed.UserID, limit int) ([]access.User, error) {
	return collect(ctx, a.store.read, scanLogin, selectUsers+` AND sandbox = $2 AND id > $3 ORDER BY id LIMIT $4`, tenant, sandbox, after, limit)
}

// EraseUser marks a user as erased, blanks its login and deletes its tokens. A
// token that a login under way still adds is of no use: every look at a token
// looks at its user too. The external id is free for another user; it stays here,
// for the deletions that are to be told, until FinishErasure.
func (a Access) EraseUser(ctx context.Context, tenant bankfeed.TenantID, id bankfeed.UserID, now time.Time) error {
	return a.store.tx(ctx, func(tx *sql.Tx) error {
		// Tokens before their user, as whoever rotates one takes them.
		if _, err := tx.ExecContext(ctx, `DELETE FROM tokens WHERE tenant_id = $1 AND user_id = $2`, tenant, id); err != nil {
			return err
		}
		return markErased(ctx, tx, tenant, id, now)
	})
}

// AddTokens stores the tokens of one answer.
func (a Access) AddTokens(ctx context.Context, tokens []access.Token) error {
	return a.store.tx(ctx, func(tx *sql.Tx) error {
		if err := a.holdUser(ctx, tx, tokens[0].Tenant, tokens[0].User); err != nil {
			return err
		}
		return addTokens(ctx, tx, tokens)
	})
}

// holdUser keeps a user from being erased until the transaction ends; it is
// bankfeed.ErrNotFound if that has happened. 0 is no user.
func (a Access) holdUser(ctx context.Context, tx *sql.Tx, tenant bankfeed.TenantID, user bankfeed.UserID) error {
	if user == 0 {
		return nil
	}
	lock := ""
	if a.store.engine == Postgres {
		lock = " FOR SHARE"
	}
	var id int64
	err := tx.QueryRowContext(ctx, `SELECT id FROM users WHERE tenant_id = $1 AND id = $2 AND erased_at IS NULL`+lock, tenant, user).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return bankfeed.ErrNotFound
	}
	return err
}

func addTokens(ctx context.Context, tx *sql.Tx, tokens []access.Token) error {
	for _, t := range tokens {
		if _, err := tx.ExecContext(ctx, `
			INSERT INTO tokens (hash, kind, family, client_id, tenant_id, user_id, scope, created_at, expires_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
			t.Hash, t.Kind, t.Family, t.Client, t.Tenant, t.User, t.Scope, t.CreatedAt.UnixMicro(), t.ExpiresAt.UnixMicro()); err != nil {
			return err
		}
	}
	return nil
}

// userLives holds for a client token, and for a user's that is not erased.
const userLives = `(t.user_id = 0 OR EXISTS (SELECT 1 FROM users u WHERE u.tenant_id = t.tenant_id AND u.id = t.user_id AND u.erased_at IS NULL))`

// FindCaller returns whom a live access token speaks for.
func (a Access) FindCaller(ctx context.Context, hash []byte, now time.Time) (bankfeed.Caller, error) {
	return one(ctx, a.store.read, func(scan func(...any) error) (c bankfeed.Caller, err error) {
		var scope string
		err = scan(&c.Client.ID, &c.Client.Tenant, &c.Client.Sandbox, &c.Client.CallbacksOnce, &c.User, &scope)
		c.Scopes = strings.Fields(scope)
		return c, err
	}, `SELECT c.id, c.tenant_id, c.sandbox, c.callbacks_once, t.user_id, t.scope FROM tokens t JOIN clients c ON c.id = t.client_id
		WHERE t.hash = $1 AND t.kind = $2 AND t.expires_at > $3 AND `+userLives, hash, access.AccessToken, now.UnixMicro())
}

// RotateToken locks a token, asks what becomes of it, and does that.
func (a Access) RotateToken(ctx context.Context, hash []byte, now time.Time, decide func(access.Token) access.Rotation) error {
	return a.store.tx(ctx, func(tx *sql.Tx) error {
		old, err := one(ctx, tx, func(scan func(...any) error) (t access.Token, err error) {
			var created, expires int64
			var used sql.NullInt64
			err = scan(&t.Hash, &t.Kind, &t.Family, &t.Client, &t.Tenant, &t.User, &t.Scope, &created, &expires, &used)
			t.CreatedAt, t.ExpiresAt, t.UsedAt = time.UnixMicro(created).UTC(), time.UnixMicro(expires).UTC(), at(used)
			return t, err
		}, `SELECT hash, kind, family, client_id, tenant_id, user_id, scope, created_at, expires_at, used_at FROM tokens
			WHERE hash = $1`+a.store.forUpdate(), hash)
		if err != nil {
			return err
		}
		// A statement of its own: the one that waited for the token may not see
		// the user who got it meanwhile.
		if err := a.holdUser(ctx, tx, old.Tenant, old.User); err != nil {
			return err
		}
		r := decide(old)
		switch {
		case r.RevokeFamily:
			return revokeFamily(ctx, tx, old.Family)
		case r.Next != nil:
			if _, err := tx.ExecContext(ctx, `UPDATE tokens SET used_at = $2 WHERE hash = $1`, hash, now.UnixMicro()); err != nil {
				return err
			}
			return addTokens(ctx, tx, r.Next)
		}
		return nil
	})
}

// revokeFamily deletes until nothing is left: on PostgreSQL a rotation that the
// first DELETE waited for has added tokens which that statement cannot see. It
// holds a row of the family until it commits, so no rotation is under way once
// there is nothing to delete.
func revokeFamily(ctx context.Context, tx *sql.Tx, family []byte) error {
	for {
		r, err := tx.ExecContext(ctx, `DELETE FROM tokens WHERE family = $1`, family)
		if err != nil {
			return err
		}
		if n, err := r.RowsAffected(); err != nil || n == 0 {
			return err
		}
	}
}

// RevokeToken deletes a token's whole family if it is the client's own.
func (a Access) RevokeToken(ctx context.Context, hash []byte, client string) error {
	return a.store.tx(ctx, func(tx *sql.Tx) error {
		var family []byte
		err := tx.QueryRowContext(ctx, `SELECT family FROM tokens WHERE hash = $1 AND client_id = $2`, hash, client).Scan(&family)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		return revokeFamily(ctx, tx, family)
	})
}

// DeleteExpiredTokens deletes at most limit tokens that expired before a time.
func (a Access) DeleteExpiredTokens(ctx context.Context, before time.Time, limit int) (int, error) {
	r, err := a.store.write.ExecContext(ctx, `
		DELETE FROM tokens WHERE hash IN (SELECT hash FROM tokens WHERE expires_at < $1 ORDER BY expires_at LIMIT $2)`, before.UnixMicro(), limit)
	if err != nil {
		return 0, err
	}
	n, err := r.RowsAffected()
	return int(n), err
}
