package app

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"
)

// sweep is a duty that every node does now and then, at moments of its own.
// Doing it twice changes nothing, so nodes need not agree on who does it.
type sweep struct {
	name  string
	every time.Duration
	// do reports how much it found.
	do  func(ctx context.Context, now time.Time) (int, error)
	now func() time.Time
	log *slog.Logger
}

// Name names the worker.
func (s sweep) Name() string { return s.name }

// Run does it until ctx ends. An error is logged and tried again the next time:
// the duty may wait, and its failing must not restart anything.
func (s sweep) Run(ctx context.Context) error {
	wait := spread(min(s.every, time.Minute)) // nodes that start together drift apart
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		n, err := s.do(ctx, s.now())
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // it was stopped
		case err != nil:
			s.log.WarnContext(ctx, "sweep failed", "sweep", s.name, "error", err)
		case n > 0:
			s.log.DebugContext(ctx, "swept", "sweep", s.name, "count", n)
		}
		wait = s.every - s.every/10 + spread(s.every/5)
	}
}

// spread is some time up to d.
func spread(d time.Duration) time.Duration {
	return rand.N(d + 1) //nolint:gosec // chance, not secrecy
}
