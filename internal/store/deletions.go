package store

import (
	"context"
	"database/sql"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/access"
	"github.com/bankfeed/bankfeed/internal/consent"
)

// ReplaceUser implements consent.Store.
func (s *Store) ReplaceUser(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, now time.Time) (int64, error) {
	successor, err := s.NextID(ctx, tenant, bankfeed.KindUser)
	if err != nil {
		return 0, err
	}
	deletion, err := s.NextID(ctx, tenant, bankfeed.KindDeletion)
	if err != nil {
		return 0, err
	}
	work := []bankfeed.WorkItem{{Tenant: tenant, Kind: bankfeed.WorkErasure, ID: int64(user), ReadyAt: now}}
	err = s.tx(ctx, func(tx *sql.Tx) error {
		if s.engine == Postgres { // before the user, as whoever rotates one takes them
			if _, err := tx.ExecContext(ctx, `SELECT 1 FROM tokens WHERE tenant_id = $1 AND user_id = $2 ORDER BY hash FOR UPDATE`, tenant, user); err != nil {
				return err
			}
		}
		// The lock waits for whoever is giving the user a connection, a request or
		// a token, and keeps others from it until this is done.
		u, err := one(ctx, tx, scanLogin, selectUsers+` AND id = $2`+s.forUpdate(), tenant, user)
		if err != nil {
			return err
		}
		if u.ExternalID == "" {
			u.ExternalID = s.Installation().UUID(bankfeed.KindUser, tenant, int64(user)).String()
		}
		if err := markErased(ctx, tx, tenant, user, now); err != nil {
			return err
		}
		if err := insertUser(ctx, tx, tenant, successor, u); err != nil {
			return err
		}
		for _, table := range []string{"tokens", "processes", "data_deletions"} {
			if _, err := tx.ExecContext(ctx, `UPDATE `+table+` SET user_id = $3 WHERE tenant_id = $1 AND user_id = $2`, tenant, user, successor); err != nil {
				return err
			}
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO data_deletions (tenant_id, id, user_id, erased_id, created_at) VALUES ($1, $2, $3, $4, $5)`,
			tenant, deletion, successor, user, now.UnixMicro()); err != nil {
			return err
		}
		return s.putWork(ctx, tx, work)
	})
	if duplicate(err) { // somebody else's external id is this user's UUID
		err = &bankfeed.Error{Kind: bankfeed.Conflict, Text: "another user has the id of this one"}
	}
	if err == nil {
		s.tellReady(work)
	}
	return deletion, err
}

// erasedParts are the kinds of data of a user, by where they lie.
var erasedParts = []struct {
	name   string
	tables []string
}{
	{"DATA_SOURCES", []string{"connections", "consents", "sessions", "links"}},
	{"TRANSACTIONS", []string{"accounts", "transactions"}},
	{"CASES", []string{"cases", "reports"}},
	{"REQUESTS", []string{"requests", "imports"}},
}

// DataDeletion implements consent.Store. The work goes away with the last copy,
// which is in the event log.
func (s *Store) DataDeletion(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id int64) (consent.DataDeletion, error) {
	var erased bankfeed.UserID
	d, err := one(ctx, s.read, func(scan func(...any) error) (d consent.DataDeletion, err error) {
		var created int64
		err = scan(&d.ID, &erased, &created, &d.Done)
		d.CreatedAt = time.UnixMicro(created).UTC()
		return d, err
	}, `SELECT id, erased_id, created_at, NOT EXISTS (SELECT 1 FROM work w WHERE w.kind = $4 AND w.tenant_id = $1 AND w.id = erased_id)
		FROM data_deletions WHERE tenant_id = $1 AND user_id = $2 AND id = $3`, tenant, user, id, bankfeed.WorkErasure)
	if err != nil {
		return d, err
	}
	for _, part := range erasedParts {
		p := consent.DeletionPart{Name: part.name, Done: true}
		for _, table := range part.tables {
			var left bool
			if err := s.read.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM `+table+` WHERE tenant_id = $1 AND user_id = $2)`, tenant, erased).Scan(&left); err != nil {
				return d, err
			}
			p.Done = p.Done && !left
		}
		d.Parts = append(d.Parts, p)
	}
	d.Parts = append(d.Parts, consent.DeletionPart{Name: "HISTORY", Done: d.Done})
	return d, nil
}

// SweepDeletions implements consent.Store.
func (s *Store) SweepDeletions(ctx context.Context, before time.Time, limit int) (int, error) {
	r, err := s.write.ExecContext(ctx, `DELETE FROM data_deletions WHERE (tenant_id, id) IN (
		SELECT d.tenant_id, d.id FROM data_deletions d WHERE d.created_at < $1
			AND NOT EXISTS (SELECT 1 FROM work w WHERE w.kind = $2 AND w.tenant_id = d.tenant_id AND w.id = d.erased_id)
		ORDER BY d.created_at LIMIT $3)`, before.UnixMicro(), bankfeed.WorkErasure, limit)
	if err != nil {
		return 0, err
	}
	n, err := r.RowsAffected()
	return int(n), err
}

// insertUser stores a user under its number.
func insertUser(ctx context.Context, q querier, tenant bankfeed.TenantID, id int64, u access.User) error {
	_, err := q.ExecContext(ctx, `
		INSERT INTO users (tenant_id, id, external_id, folded_id, email, password_hash, business_context, sandbox, created_at, contact_email, contact_phone, auto_sync)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
		tenant, id, text(u.ExternalID), text(u.FoldedID), text(u.Email), text(u.PasswordHash), u.BusinessContext, u.Sandbox, u.CreatedAt.UnixMicro(),
		text(u.Contact.Email), text(u.Contact.Phone), !u.NoAutoSync)
	return err
}

// markErased makes a user unknown, and its login free for another one.
func markErased(ctx context.Context, tx *sql.Tx, tenant bankfeed.TenantID, id bankfeed.UserID, now time.Time) error {
	r, err := tx.ExecContext(ctx, `
		UPDATE users SET email = NULL, password_hash = NULL, folded_id = NULL, contact_email = NULL, contact_phone = NULL, erased_at = coalesce(erased_at, $3)
		WHERE tenant_id = $1 AND id = $2`, tenant, id, now.UnixMicro())
	return changed(r, err, bankfeed.ErrNotFound)
}
