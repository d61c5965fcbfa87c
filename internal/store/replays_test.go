package store_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/delivery/stream"
	"github.com/bankfeed/bankfeed/internal/lease"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

// claimReplay takes the next replay to do.
func claimReplay(t *testing.T, s *store.Store, owner string, now time.Time) []lease.Claim {
	t.Helper()
	c, err := s.ClaimWork(context.Background(), lease.Request{Kind: bankfeed.WorkReplay, Owner: owner, Now: now, Until: now.Add(lease.TTL),
		Limit: 1, Cap: func(string) int { return 0 }})
	require.NoError(t, err)
	return c
}

func TestReplay(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx, now := context.Background(), storetest.Now
		_, err := s.AddReplay(ctx, stream.Replay{Stream: banqupKey}, now)
		require.ErrorIs(t, err, bankfeed.ErrNotFound, "no such stream")
		enable(t, s, banqupKey, "host/a")
		ready := 0
		s.OnReady(func(k bankfeed.WorkKind) {
			require.Equal(t, bankfeed.WorkReplay, k)
			ready++
		})
		order := stream.Replay{Stream: banqupKey, Queue: "repair", Until: 90, Total: 12, Position: 4, Filter: stream.ReplayFilter{
			User: 1, Connection: 2, Account: 3, Session: 4, Consent: 5, Messages: []banqup.Kind{banqup.Call}, First: 5, Last: 80, From: now, To: now.Add(time.Hour)}}
		r, err := s.AddReplay(ctx, order, now)
		require.NoError(t, err)
		require.Equal(t, 1, ready)
		require.Equal(t, now, r.CreatedAt())
		order.ID, order.Status = now.UnixMilli(), stream.ReplayPending
		require.Equal(t, order, r)
		read := func() stream.Replay {
			got, err := s.Replay(ctx, 1, r.ID)
			require.NoError(t, err)
			return got
		}
		require.Equal(t, r, read())
		_, err = s.Replay(ctx, 2, r.ID)
		require.ErrorIs(t, err, bankfeed.ErrNotFound, "another tenant")

		// Two nodes: the one that stood still writes nothing any more.
		late := claimReplay(t, s, "n1", now)[0]
		require.Equal(t, "banqup", late.Group)
		require.Equal(t, r.ID, late.ID)
		claim := claimReplay(t, s, "n2", now.Add(2*lease.TTL))[0]
		r.Status, r.StartedAt, r.Position, r.Published, r.Unrouted, r.Erased, r.Total, r.Text = stream.ReplayRunning, now, 40, 7, 1, 2, 13, "waiting: for the broker"
		require.ErrorIs(t, s.SaveReplay(ctx, late.Fence, r, nil), bankfeed.ErrFenced)
		require.Equal(t, order, read())
		require.NoError(t, s.SaveReplay(ctx, claim.Fence, r, &bankfeed.Release{ReadyAt: now}))
		require.Equal(t, r, read())
		require.ErrorIs(t, s.SaveReplay(ctx, claim.Fence, r, nil), bankfeed.ErrFenced, "given back")

		claim = claimReplay(t, s, "n2", now)[0]
		r.Status, r.EndedAt = stream.ReplayDone, now.Add(time.Minute)
		require.NoError(t, s.SaveReplay(ctx, claim.Fence, r, &bankfeed.Release{Done: true}))
		require.Equal(t, r, read())
		require.Empty(t, claimReplay(t, s, "n2", now.Add(time.Hour)))
		got, err := s.CancelReplay(ctx, 1, r.ID, now)
		require.NoError(t, err)
		require.Equal(t, r, got, "it has ended")
	})
}

func TestReplayIsCancelled(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx, now := context.Background(), storetest.Now
		enable(t, s, banqupKey, "host/a")
		_, err := s.CancelReplay(ctx, 1, 5, now)
		require.ErrorIs(t, err, bankfeed.ErrNotFound)
		r, err := s.AddReplay(ctx, stream.Replay{Stream: banqupKey, Until: 9}, now)
		require.NoError(t, err)
		claim := claimReplay(t, s, "n1", now)[0]
		r.Status, r.Position, r.StartedAt = stream.ReplayRunning, 3, now
		require.NoError(t, s.SaveReplay(ctx, claim.Fence, r, nil))
		_, err = s.CancelReplay(ctx, 2, r.ID, now)
		require.ErrorIs(t, err, bankfeed.ErrNotFound, "another tenant")
		got, err := s.CancelReplay(ctx, 1, r.ID, now.Add(time.Second))
		require.NoError(t, err)
		r.Status, r.EndedAt = stream.ReplayCancelled, now.Add(time.Second)
		require.Equal(t, r, got)
		late := r
		late.Status, late.Position = stream.ReplayDone, 9
		require.ErrorIs(t, s.SaveReplay(ctx, claim.Fence, late, &bankfeed.Release{Done: true}), stream.ErrCancelled)
		got, err = s.Replay(ctx, 1, r.ID)
		require.NoError(t, err)
		require.Equal(t, r, got)
		require.Empty(t, claimReplay(t, s, "n2", now.Add(time.Hour)), "nobody takes it up")
	})
}

// Message ids of a replay hold its number where those of events hold the epoch.
func TestReplaysAreNumberedByTime(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		epoch := int64(s.Installation().Epoch)
		born := time.UnixMilli(epoch)
		enable(t, s, banqupKey, "host/a")
		foreign := stream.Key{Tenant: 2, Name: "banqup"}
		enable(t, s, foreign, "host/b")
		var ids []int64
		for _, k := range []stream.Key{banqupKey, banqupKey, banqupKey, foreign} {
			r, err := s.AddReplay(ctx, stream.Replay{Stream: k}, born.Add(-time.Millisecond))
			require.NoError(t, err)
			ids = append(ids, r.ID)
		}
		require.Equal(t, []int64{epoch - 1, epoch + 1, epoch + 2, epoch - 1}, ids)
		page := func(before int64, limit int) (ids []int64) {
			list, err := s.Replays(ctx, 1, before, limit)
			require.NoError(t, err)
			for _, r := range list {
				ids = append(ids, r.ID)
			}
			return ids
		}
		require.Equal(t, []int64{epoch + 2, epoch + 1, epoch - 1}, page(0, 10))
		require.Equal(t, []int64{epoch + 1}, page(epoch+2, 1))
	})
}
