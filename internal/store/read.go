package store

import (
	"context"
	"database/sql"
	"encoding/json"

	"github.com/bankfeed/bankfeed"
)

// Reading. Every method is scoped to a tenant and a user; what belongs to
// another is as unknown as what never was.

const userColumns = `id, coalesce(external_id, ''), coalesce(email, ''), business_context, created_at, coalesce(contact_email, ''), coalesce(contact_phone, ''), NOT auto_sync`

func scanUser(scan func(...any) error) (u bankfeed.User, err error) {
	var created sql.NullInt64
	err = scan(&u.ID, &u.ExternalID, &u.Email, &u.BusinessContext, &created, &u.Contact.Email, &u.Contact.Phone, &u.NoAutoSync)
	u.CreatedAt = at(created)
	return u, err
}

// User reads a user who is not erased.
func (s *Store) User(ctx context.Context, tenant bankfeed.TenantID, id bankfeed.UserID) (bankfeed.User, error) {
	return one(ctx, s.read, scanUser, `SELECT `+userColumns+` FROM users WHERE tenant_id = $1 AND id = $2 AND erased_at IS NULL`, tenant, id)
}

const connectionColumns = `id, user_id, provider_id, status, sandbox, next_sync_at, version, created_at, doc`

func scanConnection(scan func(...any) error) (c bankfeed.Connection, err error) {
	var next, created sql.NullInt64
	var doc []byte
	if err = scan(&c.ID, &c.User, &c.ProviderID, &c.Status, &c.Sandbox, &next, &c.Version, &created, &doc); err != nil {
		return c, err
	}
	var d connectionDoc
	if err = json.Unmarshal(doc, &d); err != nil {
		return c, err
	}
	c.ProviderName, c.BIC, c.AutoSync, c.Removing = d.ProviderName, d.BIC, d.AutoSync, d.Removing
	c.Channels = make([]bankfeed.Channel, len(d.Channels))
	for i, ch := range d.Channels {
		c.Channels[i] = ch.Channel
		c.Channels[i].Failures = ch.Failures
	}
	c.NextSyncAt, c.CreatedAt = at(next), at(created)
	return c, nil
}

// Connections lists a user's connections in the order in which they were made.
func (s *Store) Connections(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID) ([]bankfeed.Connection, error) {
	return collect(ctx, s.read, scanConnection, `SELECT `+connectionColumns+` FROM connections WHERE tenant_id = $1 AND user_id = $2 ORDER BY id`, tenant, user)
}

// Connection reads one connection.
func (s *Store) Connection(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id bankfeed.ConnectionID) (bankfeed.Connection, error) {
	return one(ctx, s.read, scanConnection, `SELECT `+connectionColumns+` FROM connections WHERE tenant_id = $1 AND user_id = $2 AND id = $3`, tenant, user, id)
}

const accountColumns = `id, user_id, connection_id, removed_at, data`

func (o owner) scanAccount(scan func(...any) error) (a bankfeed.Account, err error) {
	var id bankfeed.AccountID
	var user bankfeed.UserID
	var connection bankfeed.ConnectionID
	var removed sql.NullInt64
	var sealed []byte
	if err = scan(&id, &user, &connection, &removed, &sealed); err != nil {
		return a, err
	}
	var d accountDoc
	if err = o.open(sealAccount, sealed, &d); err != nil {
		return a, err
	}
	a = d.Account
	a.LastReadAt, a.Failure, a.Access, a.Trust, a.Withheld = d.LastReadAt, d.Failure, d.Access, d.Trust, d.Withheld
	if d.Raw != "" {
		a.Raw = json.RawMessage(d.Raw)
	}
	a.User, a.Connection, a.RemovedAt = user, connection, at(removed)
	return a, nil
}

// Accounts lists a user's accounts in the order in which they were found.
func (s *Store) Accounts(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, f bankfeed.AccountFilter) ([]bankfeed.Account, error) {
	o, err := s.owner(ctx, tenant, user)
	if err != nil {
		return nil, unknownIfErased(err)
	}
	return collect(ctx, s.read, o.scanAccount, `
		SELECT `+accountColumns+` FROM accounts
		WHERE tenant_id = $1 AND user_id = $2 AND (CAST($3 AS BIGINT) = 0 OR connection_id = $3) AND ($4 OR removed_at IS NULL) AND status <> $5 ORDER BY id`,
		tenant, user, int64(f.Connection), f.Removed, bankfeed.AccountDeleted)
}

// Account reads one account, also one that its bank no longer lists.
func (s *Store) Account(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id bankfeed.AccountID) (bankfeed.Account, error) {
	o, err := s.owner(ctx, tenant, user)
	if err != nil {
		return bankfeed.Account{}, unknownIfErased(err)
	}
	return one(ctx, s.read, o.scanAccount, `SELECT `+accountColumns+` FROM accounts WHERE tenant_id = $1 AND user_id = $2 AND id = $3 AND status <> $4`,
		tenant, user, id, bankfeed.AccountDeleted)
}

const sessionColumns = `id, user_id, connection_id, status, stage, coalesce(external_id, ''), version, created_at, ended_at, doc, psu`

func (o owner) scanSession(scan func(...any) error) (n bankfeed.Session, err error) {
	var created, ended sql.NullInt64
	var doc, psu []byte
	if err = scan(&n.ID, &n.User, &n.Connection, &n.Status, &n.Stage, &n.ExternalID, &n.Version, &created, &ended, &doc, &psu); err != nil {
		return n, err
	}
	var d sessionDoc
	if err = json.Unmarshal(doc, &d); err != nil {
		return n, err
	}
	n.Type, n.Initiator, n.Attended, n.Failure, n.Runs, n.FollowAll, n.Faults = d.Type, d.Initiator, d.Attended, d.Failure, d.Runs, d.FollowAll, d.Faults
	n.CreatedAt, n.EndedAt = at(created), when(ended)
	if psu != nil {
		n.PSU = new(bankfeed.PSU)
		err = o.open(sealPSU, psu, n.PSU)
	}
	return n, err
}

// Sessions lists a user's sessions, newest first, of one connection or of all
// (0), before a number (0: from the newest).
func (s *Store) Sessions(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, connection bankfeed.ConnectionID, before bankfeed.SessionID, limit int) ([]bankfeed.Session, error) {
	o, err := s.owner(ctx, tenant, user)
	if err != nil {
		return nil, unknownIfErased(err)
	}
	return collect(ctx, s.read, o.scanSession, `
		SELECT `+sessionColumns+` FROM sessions
		WHERE tenant_id = $1 AND user_id = $2 AND (CAST($3 AS BIGINT) = 0 OR connection_id = $3) AND (CAST($4 AS BIGINT) = 0 OR id < $4) ORDER BY id DESC LIMIT $5`,
		tenant, user, int64(connection), int64(before), limit)
}

// Session reads one session.
func (s *Store) Session(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id bankfeed.SessionID) (bankfeed.Session, error) {
	o, err := s.owner(ctx, tenant, user)
	if err != nil {
		return bankfeed.Session{}, unknownIfErased(err)
	}
	return one(ctx, s.read, o.scanSession, `SELECT `+sessionColumns+` FROM sessions WHERE tenant_id = $1 AND user_id = $2 AND id = $3`, tenant, user, id)
}

const consentColumns = `id, user_id, connection_id, warned_at, version, doc, secret`

func (o owner) scanConsent(scan func(...any) error) (k bankfeed.Consent, err error) {
	var doc, sealed []byte
	var d consentDoc
	var id bankfeed.ConsentID
	var user bankfeed.UserID
	var connection bankfeed.ConnectionID
	var version int64
	var warned sql.NullInt64
	if err = scan(&id, &user, &connection, &warned, &version, &doc, &sealed); err != nil {
		return k, err
	}
	if err = json.Unmarshal(doc, &d); err != nil {
		return k, err
	}
	var g consentSecret
	if err = o.open(sealConsent, sealed, &g); err != nil {
		return k, err
	}
	k = d.Consent
	k.User, k.Connection, k.WarnedAt, k.Version, k.Accounts = user, connection, when(warned), version, g.Accounts
	k.FrequencyPerDay, k.AccountsListed, k.FreshUntil, k.Session, k.Grant = d.FrequencyPerDay, d.AccountsListed, d.FreshUntil, d.Session, g.grant()
	k.DeletedAt = d.DeletedAt
	return k, nil
}

// Consents lists a user's consents, newest first, of one connection or of all
// (0).
func (s *Store) Consents(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, connection bankfeed.ConnectionID) ([]bankfeed.Consent, error) {
	o, err := s.owner(ctx, tenant, user)
	if err != nil {
		return nil, unknownIfErased(err)
	}
	return s.consents(ctx, s.read, o, connection)
}

func (s *Store) consents(ctx context.Context, q querier, o owner, connection bankfeed.ConnectionID) ([]bankfeed.Consent, error) {
	return collect(ctx, q, o.scanConsent, `
		SELECT `+consentColumns+` FROM consents
		WHERE tenant_id = $1 AND user_id = $2 AND (CAST($3 AS BIGINT) = 0 OR connection_id = $3) ORDER BY id DESC`, o.tenant, o.user, int64(connection))
}

// Consent reads one consent.
func (s *Store) Consent(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id bankfeed.ConsentID) (bankfeed.Consent, error) {
	o, err := s.owner(ctx, tenant, user)
	if err != nil {
		return bankfeed.Consent{}, unknownIfErased(err)
	}
	return one(ctx, s.read, o.scanConsent, `SELECT `+consentColumns+` FROM consents WHERE tenant_id = $1 AND user_id = $2 AND id = $3`, tenant, user, id)
}

const transactionColumns = `id, user_id, account_id, data`

func (o owner) scanTransaction(scan func(...any) error) (t bankfeed.Transaction, err error) {
	var id bankfeed.TransactionID
	var user bankfeed.UserID
	var account bankfeed.AccountID
	var sealed []byte
	if err = scan(&id, &user, &account, &sealed); err != nil {
		return t, err
	}
	var d transactionDoc
	if err = o.open(sealTransaction, sealed, &d); err != nil {
		return t, err
	}
	t = d.Transaction
	t.ID, t.User, t.Account, t.Raw = id, user, account, d.Raw
	return t, nil
}

// Transaction reads one transaction.
func (s *Store) Transaction(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id bankfeed.TransactionID) (bankfeed.Transaction, error) {
	o, err := s.owner(ctx, tenant, user)
	if err != nil {
		return bankfeed.Transaction{}, unknownIfErased(err)
	}
	return one(ctx, s.read, o.scanTransaction, `SELECT `+transactionColumns+` FROM transactions WHERE tenant_id = $1 AND user_id = $2 AND id = $3`, tenant, user, id)
}

// Transactions lists a user's transactions, newest day first and within a day
// the newest number first.
func (s *Store) Transactions(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, f bankfeed.TransactionFilter) ([]bankfeed.Transaction, error) {
	o, err := s.owner(ctx, tenant, user)
	if err != nil {
		return nil, unknownIfErased(err)
	}
	query := `SELECT ` + transactionColumns + ` FROM transactions WHERE tenant_id = $1 AND user_id = $2`
	args := []any{tenant, user}
	param := func(v any) string {
		args = append(args, v)
		return placeholder(len(args))
	}
	if f.From != "" {
		query += ` AND day >= ` + param(f.From)
	}
	if f.To != "" {
		query += ` AND day <= ` + param(f.To)
	}
	if k := f.Before; k.Day != "" {
		query += ` AND (day, id) < (` + param(k.Day) + `, ` + param(k.ID) + `)`
	}
	if len(f.Accounts) > 0 {
		query += ` AND account_id IN ` + s.inNumbers(param(list(f.Accounts)))
	}
	if len(f.Statuses) > 0 {
		query += ` AND status IN ` + s.inList(param(list(f.Statuses)))
	}
	if !f.CreatedAt.IsZero() {
		query += ` AND created_at >= ` + param(f.CreatedAt.UnixMicro())
	}
	query += ` ORDER BY day DESC, id DESC`
	// Amounts are compared here, exactly: SQLite has no decimal to do it with.
	inGo := f.Min != nil || f.Max != nil
	if !inGo {
		query += ` LIMIT ` + param(f.Limit) + ` OFFSET ` + param(f.Offset)
		return collect(ctx, s.read, o.scanTransaction, query, args...)
	}
	rows, err := s.read.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // rows.Err tells what went wrong
	var out []bankfeed.Transaction
	for skip := f.Offset; len(out) < f.Limit && rows.Next(); {
		t, err := o.scanTransaction(rows.Scan)
		if err != nil {
			return nil, err
		}
		if f.Min != nil && t.Money.Amount.Cmp(*f.Min) < 0 || f.Max != nil && t.Money.Amount.Cmp(*f.Max) > 0 {
			continue
		}
		if skip > 0 {
			skip--
			continue
		}
		out = append(out, t)
	}
	return out, rows.Err()
}

// SessionsByExternalID lists a user's sessions with a client's own id, newest
// first: those that a request with it opened, and those that one joined.
func (s *Store) SessionsByExternalID(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, externalID string) ([]bankfeed.Session, error) {
	o, err := s.owner(ctx, tenant, user)
	if err != nil {
		return nil, unknownIfErased(err)
	}
	return collect(ctx, s.read, o.scanSession, `
		SELECT `+sessionColumns+` FROM sessions WHERE tenant_id = $1 AND user_id = $2 AND
			(external_id = $3 OR id IN (SELECT session_id FROM session_aliases WHERE tenant_id = $1 AND external_id = $3)) ORDER BY id DESC`, tenant, user, externalID)
}

// SandboxUser tells on which side a user is, also of an erased one: the log
// outlives its users.
func (s *Store) SandboxUser(ctx context.Context, tenant bankfeed.TenantID, id bankfeed.UserID) (bool, error) {
	return one(ctx, s.read, func(scan func(...any) error) (sandbox bool, err error) {
		err = scan(&sandbox)
		return sandbox, err
	}, `SELECT sandbox FROM users WHERE tenant_id = $1 AND id = $2`, tenant, id)
}
