package store_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/lease"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
)

func item(id int64, group string, attended bool, readyAt time.Time) bankfeed.WorkItem {
	return bankfeed.WorkItem{Tenant: 1, Kind: bankfeed.WorkSession, ID: id, Group: group, Attended: attended, ReadyAt: readyAt}
}

func commit(t *testing.T, s *store.Store, c bankfeed.Change) {
	t.Helper()
	c.Tenant, c.User = 1, 7
	_, err := s.Apply(context.Background(), &c)
	require.NoError(t, err)
}

func fenced(t *testing.T, s *store.Store, c bankfeed.Change) {
	t.Helper()
	c.Tenant, c.User = 1, 7
	_, err := s.Apply(context.Background(), &c)
	require.ErrorIs(t, err, bankfeed.ErrFenced)
}

// claim takes up to n pieces of work for an owner, with a cap of 2 for group "a".
func claim(t *testing.T, s *store.Store, owner string, now time.Time, n int) []lease.Claim {
	t.Helper()
	c, err := s.ClaimWork(context.Background(), lease.Request{Kind: bankfeed.WorkSession, Owner: owner, Now: now, Until: now.Add(lease.TTL),
		Limit: n, Cap: func(group string) int { return map[string]int{"a": 2}[group] }})
	require.NoError(t, err)
	return c
}

func numbers(claims []lease.Claim) (ids []int64) {
	for _, c := range claims {
		ids = append(ids, c.ID)
	}
	return ids
}

func TestClaims(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx, now := context.Background(), storetest.Now
		require.Empty(t, claim(t, s, "n1", now, 5))
		next, err := s.NextWork(ctx, bankfeed.WorkSession)
		require.NoError(t, err)
		require.Zero(t, next)

		commit(t, s, bankfeed.Change{Ready: []bankfeed.WorkItem{
			item(1, "a", false, now.Add(-3*time.Second)), item(2, "a", false, now.Add(-2*time.Second)), item(3, "a", false, now.Add(-time.Second)),
			item(4, "b", false, now), item(5, "b", true, now), item(6, "a", true, now.Add(time.Second)), item(7, "b", false, now.Add(time.Minute))}})
		next, err = s.NextWork(ctx, bankfeed.WorkSession)
		require.NoError(t, err)
		require.Equal(t, now.Add(-3*time.Second), next)
		next, err = s.NextWork(ctx, bankfeed.WorkRemoval)
		require.NoError(t, err)
		require.Zero(t, next, "another kind")

		require.Equal(t, []int64{5, 1}, numbers(claim(t, s, "n1", now, 2)), "attended first, then the oldest")
		got := claim(t, s, "n2", now, 5)
		require.Equal(t, []int64{2, 4}, numbers(got), "group a has two claims on two nodes; the rest is not ready")
		require.Equal(t, "a", got[0].Group)
		require.Empty(t, claim(t, s, "n3", now.Add(time.Second), 5), "6 is ready, but its group is full")
		next, err = s.NextWork(ctx, bankfeed.WorkSession)
		require.NoError(t, err)
		require.Equal(t, now.Add(-time.Second), next, "claimed work does not count until its lease ends")

		commit(t, s, bankfeed.Change{Fence: &got[0].Fence, Release: &bankfeed.Release{Done: true}})
		require.Equal(t, []int64{6}, numbers(claim(t, s, "n3", now.Add(time.Second), 5)), "room in a: attended before older")
	})
}

func TestFullGroupsAreSkippedHoweverMany(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		var items []bankfeed.WorkItem
		for i := range int64(300) {
			items = append(items, item(i+1, "a", i%2 == 0, storetest.Now.Add(-time.Hour)))
		}
		commit(t, s, bankfeed.Change{Ready: append(items, item(301, "b", false, storetest.Now))})
		require.Equal(t, []int64{301}, numbers(claim(t, s, "n1", storetest.Now, 3))[2:])
	})
}

func TestTakeover(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx, now := context.Background(), storetest.Now
		commit(t, s, bankfeed.Change{Ready: []bankfeed.WorkItem{item(1, "b", false, now), item(2, "b", false, now), item(3, "b", true, now.Add(lease.TTL))}})
		old := claim(t, s, "n1", now, 2)
		commit(t, s, bankfeed.Change{Fence: &old[0].Fence})

		// 1 has a heartbeat, 2 has none.
		held, err := s.RenewWork(ctx, "n1", old[:1], now.Add(2*lease.TTL))
		require.NoError(t, err)
		require.Equal(t, old[:1], held)
		require.Empty(t, claim(t, s, "n2", now.Add(lease.TTL-time.Second), 5))
		taken := claim(t, s, "n2", now.Add(lease.TTL+time.Second), 5)
		require.Equal(t, []int64{3, 2}, numbers(taken), "attended first also before what died")
		require.Greater(t, taken[1].Number, old[1].Number)

		fenced(t, s, bankfeed.Change{Fence: &old[1].Fence})
		fenced(t, s, bankfeed.Change{Fence: &old[1].Fence, Release: &bankfeed.Release{Done: true}})
		fenced(t, s, bankfeed.Change{Fence: &old[1].Fence, Release: &bankfeed.Release{ReadyAt: now}})
		held, err = s.RenewWork(ctx, "n1", old, now.Add(time.Hour))
		require.NoError(t, err)
		require.Equal(t, []int64{1}, numbers(held), "the former owner learns of it")
		released, err := s.ReleaseWork(ctx, "n1", old[1:], now)
		require.NoError(t, err)
		require.Empty(t, released)
		commit(t, s, bankfeed.Change{Fence: &taken[1].Fence, Events: page(1, 7, 1).Events})
	})
}

func TestFences(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx, now := context.Background(), storetest.Now
		one := []bankfeed.WorkItem{item(1, "b", false, now)}
		commit(t, s, bankfeed.Change{Ready: one})
		first := claim(t, s, "n1", now, 1)[0]
		for name, change := range map[string]func(*bankfeed.Fence){
			"kind": func(f *bankfeed.Fence) { f.Kind = bankfeed.WorkRemoval }, "tenant": func(f *bankfeed.Fence) { f.Tenant = 2 },
			"id": func(f *bankfeed.Fence) { f.ID = 2 }, "number": func(f *bankfeed.Fence) { f.Number-- },
		} {
			f := first.Fence
			change(&f)
			_, err := s.Apply(ctx, &bankfeed.Change{Tenant: 1, User: 7, Fence: &f, Events: page(1, 7, 1).Events})
			require.ErrorIs(t, err, bankfeed.ErrFenced, name)
		}
		events, _, err := s.ReadEvents(ctx, eventlogAll)
		require.NoError(t, err)
		require.Empty(t, events, "nothing was written")

		// Asked for again while it is done, for earlier than the release says.
		commit(t, s, bankfeed.Change{Ready: []bankfeed.WorkItem{item(1, "b", true, now.Add(time.Second))}})
		commit(t, s, bankfeed.Change{Fence: &first.Fence})
		commit(t, s, bankfeed.Change{Fence: &first.Fence, Release: &bankfeed.Release{ReadyAt: now.Add(time.Hour)}})
		fenced(t, s, bankfeed.Change{Fence: &first.Fence})
		require.Empty(t, claim(t, s, "n1", now, 1))
		second := claim(t, s, "n1", now.Add(time.Second), 1)
		require.Len(t, second, 1, "the wake-up was not lost")
		require.True(t, second[0].Attended)
		commit(t, s, bankfeed.Change{Fence: &second[0].Fence, Release: &bankfeed.Release{ReadyAt: now.Add(time.Hour)}})
		require.Empty(t, claim(t, s, "n1", now.Add(time.Minute), 1))

		// Put up for earlier: ready then. For later: no change.
		commit(t, s, bankfeed.Change{Ready: one})
		commit(t, s, bankfeed.Change{Ready: []bankfeed.WorkItem{item(1, "b", false, now.Add(2*time.Hour))}})
		third := claim(t, s, "n1", now, 1)[0]
		commit(t, s, bankfeed.Change{Fence: &third.Fence, Release: &bankfeed.Release{Done: true}})
		require.Empty(t, claim(t, s, "n1", now.Add(time.Hour), 1))

		// The same work again: no earlier claim fits its row.
		commit(t, s, bankfeed.Change{Ready: one})
		fourth := claim(t, s, "n1", now, 1)[0]
		require.Greater(t, fourth.Number, third.Number)
		fenced(t, s, bankfeed.Change{Fence: &third.Fence})
		commit(t, s, bankfeed.Change{Ended: one})
		fenced(t, s, bankfeed.Change{Fence: &fourth.Fence})
	})
}

// Claims of many nodes at once never exceed a cap, and never give a row twice.
func TestClaimsOfManyNodesKeepCaps(t *testing.T) {
	c := storetest.PostgresConfig(t)
	nodes := []*store.Store{storetest.Open(t, c), storetest.Open(t, c)}
	var items []bankfeed.WorkItem
	for i := range int64(60) {
		items = append(items, item(i+1, []string{"a", "b"}[i%2], false, storetest.Now))
	}
	commit(t, nodes[0], bankfeed.Change{Ready: items})
	results := make(chan []lease.Claim, 16)
	for i := range 16 {
		go func() { results <- claim(t, nodes[i%2], "n", storetest.Now, 3) }()
	}
	perGroup, seen := map[string]int{}, map[int64]bool{}
	for range 16 {
		for _, c := range <-results {
			require.False(t, seen[c.ID])
			seen[c.ID] = true
			perGroup[c.Group]++
		}
	}
	require.Equal(t, map[string]int{"a": 2, "b": 30}, perGroup)
}

func TestEndedClaimsAreClaimedAtOnce(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		now := storetest.Now
		commit(t, s, bankfeed.Change{Ready: []bankfeed.WorkItem{item(1, "a", true, now), item(2, "a", false, now)}})
		first := claim(t, s, "killed", now, 5)
		require.Equal(t, []int64{1, 2}, numbers(first))
		require.Empty(t, claim(t, s, "restarted", now, 5))
		require.NoError(t, s.EndClaims(t.Context()))
		again := claim(t, s, "restarted", now, 5)
		require.Equal(t, []int64{1, 2}, numbers(again))
		for i := range again {
			require.Greater(t, again[i].Number, first[i].Number)
		}
		fenced(t, s, bankfeed.Change{Fence: &first[0].Fence})
	})
}
