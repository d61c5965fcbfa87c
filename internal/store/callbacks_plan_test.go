package store_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/delivery/callback"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
)

// However many deliveries wait, or have ended, a leader finds its next ones by an
// index in which nothing stands that it does not need.
func TestWaitingDeliveriesAreFoundByIndex(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newCallbacks(t, s)
		target := w.subscribe(callback.Settings{})
		fence := w.lead(target)
		key := "callback_deliveries_pkey"
		if s.Engine() == store.SQLite {
			key = "SEARCH d USING PRIMARY KEY (tenant_id=? AND id=?)"
		}
		const n = 20_000
		var last callback.DeliveryID
		for from := 0; from < n; from += 2000 {
			rows := make([]callback.Row, 2000)
			for i := range rows {
				state := callback.Waiting
				if i%2 == 0 {
					state = callback.Delivered
				}
				rows[i] = w.row(bankfeed.Position(from+i+1), state)
				rows[i].Connection = bankfeed.ConnectionID(i % 500)
			}
			ids := w.commit(callback.Commit{Fence: fence, Key: target.Key, New: rows})
			last = ids[len(ids)-1]
		}
		check := func() {
			t.Helper()
			plans, err := s.ExplainCallbacks(w.ctx, w.tenant, int64(target.ID), int64(last))
			require.NoError(t, err)
			for name, index := range map[string]string{
				"due": "callback_deliveries_due", "recovered": "callback_deliveries_due", "newest": "callback_deliveries_state",
				"oldest": "callback_deliveries_state", "deleted": "callback_deliveries_state",
				"blocked": "callback_deliveries_order", "next": "callback_deliveries_order", "needed": "callback_deliveries_log", "change": key,
			} {
				plan := plans[name]
				require.Contains(t, plan, index, "%s:\n%s", name, plan)
				require.NotContains(t, plan, "Seq Scan on callback_deliveries", "%s:\n%s", name, plan)
				for _, line := range strings.Split(plan, "\n") {
					require.False(t, strings.HasPrefix(line, "SCAN callback_deliveries") || strings.HasPrefix(line, "SCAN d"), "%s:\n%s", name, plan)
				}
				require.NotContains(t, plan, "USE TEMP B-TREE", "%s:\n%s", name, plan)
				require.NotContains(t, plan, "Sort Key", "%s:\n%s", name, plan)
			}
		}
		if s.Engine() == store.SQLite {
			check() // the hub knows nothing of its data there
		}
		require.NoError(t, s.Exec(w.ctx, `ANALYZE`))
		check()
	})
}
