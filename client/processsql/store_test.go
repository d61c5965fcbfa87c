package processsql_test

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed/client/process"
	"github.com/bankfeed/bankfeed/client/processsql"
	"github.com/bankfeed/bankfeed/internal/backing/backingtest"
)

// each runs a test on both engines.
func each(t *testing.T, do func(t *testing.T, address string)) {
	t.Run("sqlite", func(t *testing.T) { do(t, filepath.Join(t.TempDir(), "a b%20?#.db")) })
	t.Run("postgres", func(t *testing.T) { do(t, backingtest.PostgresURL(t)) })
}

func open(t *testing.T, address string) *processsql.Store {
	t.Helper()
	s, err := processsql.Open(t.Context(), address)
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

var start = time.Date(2026, 1, 2, 3, 4, 5, 6_000_000, time.UTC)

func record() process.Record {
	return process.Record{
		Process: process.Process{ID: uuid.NewString(), Scenario: "reports", User: "anna", Params: map[string]string{"amount": "10.00"},
			Status: process.SyncCreated, CreatedAt: start, UpdatedAt: start},
		Work: process.Work{Subset: []string{"x"}}, Token: []byte{0, 1, 255}, Fence: 1, NextAt: start, LeaseUntil: start.Add(time.Minute),
	}
}

func TestRoundTrip(t *testing.T) {
	each(t, func(t *testing.T, address string) {
		s, ctx := open(t, address), t.Context()
		_, err := s.Get(ctx, uuid.NewString())
		require.ErrorIs(t, err, process.ErrNotFound)
		made, err := s.Create(ctx, record())
		require.NoError(t, err)
		_, err = s.Create(ctx, made)
		require.ErrorIs(t, err, process.ErrConflict)
		r, err := s.Get(ctx, made.ID)
		require.NoError(t, err)
		require.Equal(t, made, r)

		r.Status, r.Reason, r.Sources = process.Done, &process.Reason{Code: "X", HTTP: 422}, []process.Source{{ID: "1", Bank: "B", Status: "SUCCESSFUL", Code: "C"}}
		r.Results = map[string]json.RawMessage{"case": json.RawMessage(`{"id":"1","amount":10.00}`)}
		r.Token, r.NextAt, r.LeaseUntil, r.SucceededAt = nil, time.Time{}, time.Time{}, start
		saved, err := s.Save(ctx, r, true)
		require.NoError(t, err)
		require.Equal(t, made.Sequence+1, saved.Sequence)
		_, err = s.Save(ctx, r, true)
		require.ErrorIs(t, err, process.ErrConflict, "compare and set")
		again, err := open(t, address).Get(ctx, made.ID) // after a restart
		require.NoError(t, err)
		require.Equal(t, saved, again)

		changes, err := s.Changes(ctx, 0, 10)
		require.NoError(t, err)
		require.Len(t, changes, 2, "what failed told nothing")
		require.Equal(t, process.Done, changes[1].Process.Status)
		require.Equal(t, "anna", changes[1].Process.User)
		require.Equal(t, []string{"case"}, changes[1].Process.Steps)
		require.Empty(t, changes[1].Process.Results)

		require.NoError(t, s.Delete(ctx, made.ID))
		require.NoError(t, s.Delete(ctx, made.ID))
		_, err = s.Get(ctx, made.ID)
		require.ErrorIs(t, err, process.ErrNotFound)
		_, err = s.Save(ctx, saved, true)
		require.ErrorIs(t, err, process.ErrConflict)
		changes, err = s.Changes(ctx, 0, 10)
		require.NoError(t, err)
		require.Empty(t, changes)
		first, last, err := s.Bounds(ctx)
		require.NoError(t, err)
		require.Equal(t, []int64{0, saved.Sequence}, []int64{first, last}, "numbers do not come again")
	})
}

func TestClaim(t *testing.T) {
	each(t, func(t *testing.T, address string) {
		s, ctx := open(t, address), t.Context()
		free, held, later, over := record(), record(), record(), record()
		free.LeaseUntil, later.LeaseUntil, over.LeaseUntil = time.Time{}, time.Time{}, time.Time{}
		later.NextAt = start.Add(30 * time.Second)
		over.Status, over.NextAt = process.SyncFailed, time.Time{}
		for _, r := range []process.Record{free, held, later, over} {
			_, err := s.Create(ctx, r)
			require.NoError(t, err)
		}
		due, next, err := s.Claim(ctx, start, start.Add(45*time.Second), 10)
		require.NoError(t, err)
		require.Len(t, due, 1)
		require.Equal(t, free.ID, due[0].ID)
		require.Equal(t, int64(2), due[0].Fence)
		require.Equal(t, later.NextAt, next)
		before, err := s.Get(ctx, free.ID)
		require.NoError(t, err)
		require.Equal(t, due[0], before)

		due, _, err = s.Claim(ctx, start.Add(time.Minute), start.Add(2*time.Minute), 2)
		require.NoError(t, err)
		require.Len(t, due, 2, "not more than asked for")
		due, next, err = s.Claim(ctx, start.Add(time.Minute), start.Add(2*time.Minute), 2)
		require.NoError(t, err)
		require.Len(t, due, 1, "the others are claimed")
		require.Zero(t, next)

		require.NoError(t, s.Prune(ctx, start.Add(time.Second), start.Add(time.Second)))
		_, err = s.Get(ctx, over.ID)
		require.ErrorIs(t, err, process.ErrNotFound)
		_, err = s.Get(ctx, free.ID)
		require.NoError(t, err, "open processes stay")
		changes, err := s.Changes(ctx, 0, 10)
		require.NoError(t, err)
		require.Empty(t, changes)
	})
}

// TestOverlappingWriters has many write and claim at once, while a reader
// follows the stream: no change may appear behind it.
func TestOverlappingWriters(t *testing.T) {
	each(t, func(t *testing.T, address string) {
		s, ctx := open(t, address), t.Context()
		const writers, each = 8, 25
		var all sync.WaitGroup
		failed := make(chan error, writers*each+1)
		for range writers {
			all.Go(func() {
				for range each {
					r, err := s.Create(ctx, record())
					if err == nil {
						_, err = s.Save(ctx, r, true)
					}
					if err != nil {
						failed <- err
					}
				}
			})
		}
		done := make(chan struct{})
		go func() { all.Wait(); close(done) }()
		var after int64
		read := 0
		for ended := false; !ended; {
			select {
			case <-done:
				ended = true
			default:
			}
			for {
				list, err := s.Changes(ctx, after, 7)
				require.NoError(t, err)
				for _, c := range list {
					require.Equal(t, after+1, c.Sequence, "a number was passed before it was there")
					after = c.Sequence
					read++
				}
				if len(list) == 0 {
					break
				}
			}
		}
		select {
		case err := <-failed:
			t.Fatal(err)
		default:
		}
		require.Equal(t, 2*writers*each, read)

		// Several claim at once: everything is claimed once.
		claimed := make(chan string, writers*each*2)
		for range writers {
			all.Go(func() {
				for {
					due, _, err := s.Claim(ctx, start.Add(time.Hour), start.Add(2*time.Hour), 3)
					if err != nil {
						claimed <- err.Error()
						return
					}
					for _, r := range due {
						claimed <- r.ID
					}
					if len(due) == 0 {
						return
					}
				}
			})
		}
		all.Wait()
		close(claimed)
		once := map[string]bool{}
		for id := range claimed {
			require.False(t, once[id], id)
			once[id] = true
		}
		require.Len(t, once, writers*each)
	})
}

// TestLostUpdate lets many change one process: no change is lost.
func TestLostUpdate(t *testing.T) {
	each(t, func(t *testing.T, address string) {
		s, ctx := open(t, address), t.Context()
		r, err := s.Create(ctx, record())
		require.NoError(t, err)
		var all sync.WaitGroup
		for i := range 6 {
			all.Go(func() {
				for {
					now, err := s.Get(ctx, r.ID)
					if err != nil {
						t.Error(err)
						return
					}
					now.Params[fmt.Sprint(i)] = "x"
					if _, err = s.Save(ctx, now, true); err == nil {
						return
					}
				}
			})
		}
		all.Wait()
		r, err = s.Get(ctx, r.ID)
		require.NoError(t, err)
		require.Len(t, r.Params, 7)
		require.Equal(t, int64(7), r.Version)
	})
}

func TestOpenRefuses(t *testing.T) {
	_, err := processsql.Open(context.Background(), "postgres://user:secret-word@127.0.0.1:1/x?connect_timeout=1")
	require.Error(t, err)
	require.NotContains(t, err.Error(), "secret-word")
	_, err = processsql.Open(context.Background(), filepath.Join(t.TempDir(), "no", "such", "folder.db"))
	require.Error(t, err)
}
