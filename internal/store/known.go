package store

import (
	"context"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/ingest/identity"
)

// Known lists the stored transactions of an account from a day on, and all
// provisional ones, ordered by day and number: what a listing compares with.
func (s *Store) Known(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, account bankfeed.AccountID, from bankfeed.Date) ([]identity.Known, error) {
	o, err := s.owner(ctx, tenant, user)
	if err != nil {
		return nil, err
	}
	return collect(ctx, s.read, func(scan func(...any) error) (k identity.Known, err error) {
		var key, fingerprint, content int64
		var pending []byte
		if err = scan(&k.ID, &k.Day, &k.Status, &k.Amount, &k.Currency, &key, &fingerprint, &content, &pending); err != nil {
			return k, err
		}
		k.Identity = bankfeed.Identity{Key: uint64(key), Fingerprint: uint64(fingerprint), Content: uint64(content)}
		if pending != nil {
			k.Pending = new(bankfeed.Transaction)
			err = o.open(sealTransaction, pending, k.Pending)
		}
		return k, err
	}, `
		SELECT id, day, status, `+s.amountText()+`, currency, identity, fingerprint, content, CASE WHEN `+provisional+` THEN data END
		FROM transactions WHERE tenant_id = $1 AND user_id = $2 AND account_id = $3 AND day >= $4
		UNION ALL
		SELECT id, day, status, `+s.amountText()+`, currency, identity, fingerprint, content, data
		FROM transactions WHERE tenant_id = $1 AND account_id = $3 AND day < $4 AND `+provisional+`
		ORDER BY 2, 1`, tenant, user, account, from)
}

// TransactionsByID reads transactions by their numbers, in any order. Those that
// are not there are missing.
func (s *Store) TransactionsByID(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, ids []bankfeed.TransactionID) ([]bankfeed.Transaction, error) {
	o, err := s.owner(ctx, tenant, user)
	if err != nil {
		return nil, unknownIfErased(err)
	}
	return collect(ctx, s.read, o.scanTransaction, `
		SELECT `+transactionColumns+` FROM transactions WHERE tenant_id = $1 AND user_id = $2 AND id IN `+s.inNumbers("$3"), tenant, user, list(ids))
}

// provisional is the condition of the index transactions_provisional, word for
// word, so that the planner uses it.
const provisional = `status IN ('pending', 'hold')`
