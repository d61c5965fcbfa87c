package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"github.com/bankfeed/bankfeed"
)

type transactionDoc struct {
	bankfeed.Transaction
	Raw json.RawMessage `json:"raw,omitempty"`
}

func sealTransactions(o owner, rows []bankfeed.TransactionRow) ([][]byte, error) {
	sealed := make([][]byte, len(rows))
	aad := ownerAAD(sealTransaction, o.tenant, o.user)
	var buf []byte
	for i := range rows {
		t := &rows[i].Transaction
		plain, err := json.Marshal(t)
		if err != nil {
			return nil, fmt.Errorf("encoding a transaction: %w", err)
		}
		// {"id":…} + {"raw":…}: the bank's record goes in byte for byte.
		buf = append(buf[:0], plain[:len(plain)-1]...)
		if len(t.Raw) > 0 {
			buf = append(buf, `,"raw":`...)
			buf = append(buf, t.Raw...)
		}
		buf = append(buf, '}')
		sealed[i] = o.Seal(nil, buf, aad)
	}
	return sealed, nil
}

// putTransactions is the hot path of ingest: up to a page of rows a commit.
func (s *Store) putTransactions(ctx context.Context, tx *sql.Tx, c *bankfeed.Change, p prepared) error {
	ch := &c.Transactions
	if err := s.insertTransactions(ctx, tx, c, p.insert); err != nil {
		return err
	}
	for i := range ch.Update {
		t := &ch.Update[i]
		r, err := tx.ExecContext(ctx, `
			UPDATE transactions SET day = $3, status = $4, amount = $5, currency = $6, identity = $7, fingerprint = $8, content = $9, data = $10
			WHERE tenant_id = $1 AND id = $2`,
			c.Tenant, t.ID, t.Day(), t.Status, t.Money.Amount.String(), t.Money.Currency, int64(t.Key), int64(t.Fingerprint), int64(t.Content), p.update[i])
		if err := changed(r, err, bankfeed.ErrConflict); err != nil {
			return err
		}
	}
	if len(ch.Delete) > 0 {
		_, err := tx.ExecContext(ctx, `DELETE FROM transactions WHERE tenant_id = $1 AND id IN `+s.inNumbers("$2"), c.Tenant, list(ch.Delete))
		return err
	}
	return nil
}

func (s *Store) insertTransactions(ctx context.Context, tx *sql.Tx, c *bankfeed.Change, sealed [][]byte) (err error) {
	rows := c.Transactions.Insert
	if len(rows) == 0 {
		return nil
	}
	if s.engine == Postgres {
		return copyRows(ctx, tx, "transactions", []string{"tenant_id", "user_id", "id", "account_id", "day", "status", "amount", "currency",
			"identity", "fingerprint", "content", "created_at", "data"}, len(rows), func(i int) ([]any, error) {
			t := &rows[i]
			return []any{int64(c.Tenant), int64(c.User), int64(t.ID), int64(t.Account), string(t.Day()), string(t.Status),
				t.Money.Amount.String(), t.Money.Currency, int64(t.Key), int64(t.Fingerprint), int64(t.Content), t.CreatedAt.UnixMicro(), sealed[i]}, nil
		})
	}
	stmt, err := tx.PrepareContext(ctx, `
		INSERT INTO transactions (tenant_id, user_id, id, account_id, day, status, amount, currency, identity, fingerprint, content, created_at, data)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`)
	if err != nil {
		return err
	}
	defer func() { _ = stmt.Close() }() // the transaction ends it anyway
	for i := range rows {
		t := &rows[i]
		if _, err := stmt.ExecContext(ctx, int64(c.Tenant), int64(c.User), int64(t.ID), int64(t.Account), string(t.Day()), string(t.Status),
			t.Money.Amount.String(), t.Money.Currency, int64(t.Key), int64(t.Fingerprint), int64(t.Content), t.CreatedAt.UnixMicro(), sealed[i]); err != nil {
			return err
		}
	}
	return nil
}
