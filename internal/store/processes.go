package store

import (
	"context"
	"database/sql"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/access"
)

const processColumns = `p.token, p.tenant_id, p.client_id, p.user_id, p.exchanges, p.created_at, p.expires_at, p.ended_at`

func scanProcess(scan func(...any) error) (p access.Process, err error) {
	var created, expires int64
	var ended sql.NullInt64
	err = scan(&p.Token, &p.Client.Tenant, &p.Client.ID, &p.User, &p.Exchanges, &created, &expires, &ended)
	p.CreatedAt, p.ExpiresAt, p.Ended = time.UnixMicro(created).UTC(), time.UnixMicro(expires).UTC(), ended.Valid
	return p, err
}

// AddProcess implements access.ProcessStore.
func (a Access) AddProcess(ctx context.Context, p access.Process, u access.User) error {
	user, err := a.store.NextID(ctx, p.Client.Tenant, bankfeed.KindUser)
	if err != nil {
		return err
	}
	return a.store.tx(ctx, func(tx *sql.Tx) error {
		if err := insertUser(ctx, tx, p.Client.Tenant, user, u); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `
			INSERT INTO processes (token, tenant_id, client_id, user_id, exchanges, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
			p.Token, p.Client.Tenant, p.Client.ID, user, p.Exchanges, p.CreatedAt.UnixMicro(), p.ExpiresAt.UnixMicro())
		return err
	})
}

// ExchangeProcess implements access.ProcessStore.
func (a Access) ExchangeProcess(ctx context.Context, tenant bankfeed.TenantID, sandbox bool, token []byte, now time.Time, end bool,
	issue func(access.Process) []access.Token,
) (p access.Process, err error) {
	err = a.store.tx(ctx, func(tx *sql.Tx) error {
		p, err = one(ctx, tx, scanProcess, `SELECT `+processColumns+` FROM processes p JOIN users u ON u.tenant_id = p.tenant_id AND u.id = p.user_id
			WHERE p.token = $1 AND p.tenant_id = $2 AND u.sandbox = $3 AND u.erased_at IS NULL
				AND p.ended_at IS NULL AND p.expires_at > $4 AND p.exchanges < $5`+a.store.forUpdate(),
			token, tenant, sandbox, now.UnixMicro(), access.MaxExchanges)
		if err != nil {
			return err
		}
		p.Exchanges++
		p.Ended = end
		var ended sql.NullInt64
		if end {
			ended = micros(now)
		}
		if _, err := tx.ExecContext(ctx, `UPDATE processes SET exchanges = $2, ended_at = $3 WHERE token = $1`, token, p.Exchanges, ended); err != nil {
			return err
		}
		return addTokens(ctx, tx, issue(p))
	})
	return p, err
}

// ExpiredProcesses implements access.ProcessStore.
func (a Access) ExpiredProcesses(ctx context.Context, before time.Time, limit int) ([]access.Process, error) {
	return collect(ctx, a.store.read, scanProcess, `SELECT `+processColumns+` FROM processes p WHERE p.expires_at < $1 ORDER BY p.expires_at, p.token LIMIT $2`,
		before.UnixMicro(), limit)
}

// DeleteProcess implements access.ProcessStore. A process whose user's data was
// deleted meanwhile has another user by now.
func (a Access) DeleteProcess(ctx context.Context, p access.Process) error {
	_, err := a.store.write.ExecContext(ctx, `DELETE FROM processes WHERE token = $1 AND user_id = $2`, p.Token, p.User)
	return err
}
