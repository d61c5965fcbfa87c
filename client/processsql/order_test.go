package processsql_test

import (
	"database/sql"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed/client/process"
)

// A process is started a second time while what became of the first start is
// stored, as when a browser and a callback come at once. Neither keeps the other
// from going on.
func TestStartedTwiceAtOnce(t *testing.T) {
	each(t, func(t *testing.T, address string) {
		s, ctx := open(t, address), t.Context()
		made, err := s.Create(ctx, record())
		require.NoError(t, err)
		const rounds, starts = 100, 4
		failed := make(chan error, rounds*(starts+1))
		var all sync.WaitGroup
		for range starts {
			all.Go(func() {
				for range rounds {
					if _, err := s.Create(ctx, made); !errors.Is(err, process.ErrConflict) {
						failed <- err
						return
					}
				}
			})
		}
		all.Go(func() {
			r := made
			for range rounds {
				if r, err = s.Save(ctx, r, true); err != nil {
					failed <- err
					return
				}
			}
		})
		all.Wait()
		close(failed)
		for err := range failed {
			require.NoError(t, err)
		}
	})
}

// A planner that takes the table for tiny must not look for what is due once for
// each of its rows: more would be claimed than are worked on.
func TestClaimAfterABurst(t *testing.T) {
	each(t, func(t *testing.T, address string) {
		s, ctx := open(t, address), t.Context()
		add := func(n int) {
			for range n {
				r := record()
				r.LeaseUntil = time.Time{}
				_, err := s.Create(ctx, r)
				require.NoError(t, err)
			}
		}
		add(1)
		if strings.HasPrefix(address, "postgres") {
			db, err := sql.Open("pgx", address)
			require.NoError(t, err)
			defer db.Close()
			_, err = db.ExecContext(ctx, "ANALYZE processes")
			require.NoError(t, err)
		}
		add(10)
		for _, want := range []int{4, 4, 3, 0} {
			due, _, err := s.Claim(ctx, start, start.Add(time.Minute), 4)
			require.NoError(t, err)
			require.Len(t, due, want)
		}
	})
}
