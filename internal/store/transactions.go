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

// encoded holds the JSON of a change's transactions: a row and its event show
// the same.
type encoded map[*bankfeed.Transaction][]byte

// entrySize is what most entries take as JSON, and some room.
const entrySize = 768

func encodeTransactions(ch *bankfeed.TransactionChanges) (encoded, error) {
	n := len(ch.Insert) + len(ch.Update)
	e := make(encoded, n)
	w := &objectWriter{buf: make([]byte, 0, n*entrySize)}
	for _, rows := range [][]bankfeed.TransactionRow{ch.Insert, ch.Update} {
		for i := range rows {
			t := &rows[i].Transaction
			begin := len(w.buf)
			w.buf = append(w.buf, '{')
			w.transaction(t)
			w.buf = append(w.buf, '}')
			e[t] = w.buf[begin:len(w.buf):len(w.buf)]
		}
	}
	if w.err != nil {
		return nil, fmt.Errorf("encoding a transaction: %w", w.err)
	}
	return e, nil
}

func sealTransactions(o owner, rows []bankfeed.TransactionRow, e encoded) [][]byte {
	sealed := make([][]byte, len(rows))
	aad := ownerAAD(sealTransaction, o.tenant, o.user)
	var buf []byte
	for i := range rows {
		t := &rows[i].Transaction
		plain := e[t]
		// {"id":…} + {"raw":…}: the bank's record goes in byte for byte.
		buf = append(buf[:0], plain[:len(plain)-1]...)
		if len(t.Raw) > 0 {
			buf = append(buf, `,"raw":`...)
			buf = append(buf, t.Raw...)
		}
		buf = append(buf, '}')
		sealed[i] = o.Seal(nil, buf, aad)
	}
	return sealed
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

var rowColumns = []string{"tenant_id", "user_id", "id", "account_id", "day", "status", "amount", "currency", "identity", "fingerprint", "content",
	"created_at", "data"}

func (s *Store) insertTransactions(ctx context.Context, tx *sql.Tx, c *bankfeed.Change, sealed [][]byte) error {
	rows := c.Transactions.Insert
	return s.addRows(ctx, tx, "transactions", rowColumns, len(rows), func(i int) []any {
		t := &rows[i]
		return []any{int64(c.Tenant), int64(c.User), int64(t.ID), int64(t.Account), string(t.Day()), string(t.Status),
			t.Money.Amount.String(), t.Money.Currency, int64(t.Key), int64(t.Fingerprint), int64(t.Content), t.CreatedAt.UnixMicro(), sealed[i]}
	})
}
