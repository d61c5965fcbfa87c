package store

import (
	"context"
	"database/sql"
	"fmt"
	"sync"

	"github.com/bankfeed/bankfeed"
)

// idBlocks hands out numbers from blocks that were reserved in a transaction of
// their own, so that no commit waits for a counter. What a node has left when
// it stops is a gap.
type idBlocks struct {
	store *Store
	mu    sync.Mutex
	free  map[idKey]idRange
}

type idKey struct {
	tenant bankfeed.TenantID
	kind   bankfeed.Kind
}

type idRange struct{ next, end int64 }

// blockSize is how many numbers are reserved at once: few where numbers are
// scarce or rarely taken.
func blockSize(k bankfeed.Kind) int64 {
	switch k {
	case bankfeed.KindTransaction, bankfeed.KindDelivery:
		return 5000
	case bankfeed.KindTenant:
		return 1
	}
	return 20
}

// NextID takes one number.
func (s *Store) NextID(ctx context.Context, tenant bankfeed.TenantID, kind bankfeed.Kind) (int64, error) {
	return s.NextIDs(ctx, tenant, kind, 1)
}

// NextIDs takes n numbers in a row and returns the first.
func (s *Store) NextIDs(ctx context.Context, tenant bankfeed.TenantID, kind bankfeed.Kind, n int) (first int64, err error) {
	b := &s.ids
	b.mu.Lock()
	defer b.mu.Unlock()
	key := idKey{tenant, kind}
	r := b.free[key]
	if r.end-r.next < int64(n) {
		size := max(blockSize(kind), int64(n))
		err := s.tx(ctx, func(tx *sql.Tx) error {
			return tx.QueryRowContext(ctx, `
				INSERT INTO id_blocks (tenant_id, kind, next) VALUES ($1, $2, 1 + $3)
				ON CONFLICT (tenant_id, kind) DO UPDATE SET next = id_blocks.next + $3
				RETURNING next`, tenant, kind, size).Scan(&r.end)
		})
		if err != nil {
			return 0, fmt.Errorf("reserving numbers: %w", err)
		}
		r.next = r.end - size
		if kind == bankfeed.KindAccount && bankfeed.AccountID(r.end) > bankfeed.MaxAccountID {
			return 0, fmt.Errorf("account numbers of tenant %d are used up", tenant)
		}
	}
	first = r.next
	r.next += int64(n)
	if b.free == nil {
		b.free = map[idKey]idRange{}
	}
	b.free[key] = r
	return first, nil
}
