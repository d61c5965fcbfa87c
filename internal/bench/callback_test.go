package bench

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed/internal/backing/backingtest"
)

func TestBulkCallbackDrain(t *testing.T) {
	backingtest.Bulk(t)
	on(t, func(t *testing.T, p place) {
		row, _ := one(t, func(r *run) error {
			return r.callbackDrain(t.Context(), p, callbackLoad{backlog: 300, rounds: 1})
		})
		require.Equal(t, "drain", row.Case)
		require.Greater(t, row.N, 300)
		require.Positive(t, *row.Ratio)
		require.Zero(t, *row.Lost)
		require.Zero(t, *row.Repeated)
	})
}

func TestBulkCallbackLatency(t *testing.T) {
	backingtest.Bulk(t)
	on(t, func(t *testing.T, p place) {
		row, _ := one(t, func(r *run) error {
			return r.callbackLatency(t.Context(), p, callbackLoad{events: 20, warm: 2, every: time.Millisecond})
		})
		require.Equal(t, "latency", row.Case)
		require.Equal(t, 20, row.N)
		require.Zero(t, *row.Lost)
	})
}

func TestBulkCallbackHanging(t *testing.T) {
	backingtest.Bulk(t)
	on(t, func(t *testing.T, p place) {
		row, _ := one(t, func(r *run) error {
			return r.callbackHanging(t.Context(), p, callbackLoad{events: 20, warm: 2, every: time.Millisecond, fan: 3})
		})
		require.Equal(t, "hanging", row.Case)
		require.Equal(t, 2*10, row.N, "of those that answer")
		require.Zero(t, *row.Lost)
		require.Positive(t, *row.Growth)
	})
}

func TestBulkCallbackWaiting(t *testing.T) {
	backingtest.Bulk(t)
	on(t, func(t *testing.T, p place) {
		row, _ := one(t, func(r *run) error {
			return r.callbackWaiting(t.Context(), p, callbackLoad{backlog: 100, rounds: 1, waiting: 1500})
		})
		require.Equal(t, "waiting", row.Case)
		require.Equal(t, 1500, row.N)
		require.Positive(t, *row.Ratio)
		require.Positive(t, *row.Growth)
	})
}
