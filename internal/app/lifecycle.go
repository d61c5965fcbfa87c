package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/bankfeed/bankfeed/internal/telemetry"
)

// worker runs until its context ends. One that returns earlier has failed and
// is started again.
type worker interface {
	Name() string
	Run(ctx context.Context) error
}

// named makes a worker of a function.
type named struct {
	name string
	run  func(context.Context) error
}

func (w named) Name() string                  { return w.name }
func (w named) Run(ctx context.Context) error { return w.run(ctx) }

// WorkerState is what the health page shows of a worker.
type WorkerState struct {
	Name     string    `json:"name"`
	State    string    `json:"state"` // running, restarting, stopped
	Since    time.Time `json:"since"`
	Restarts int       `json:"restarts"`
}

// Worker states.
const (
	workerRunning    = "running"
	workerRestarting = "restarting"
	workerStopped    = "stopped"
)

// supervisor keeps workers running.
type supervisor struct {
	log     *slog.Logger
	metrics *telemetry.Metrics
	now     func() time.Time
	backOff func() backoff.BackOff

	mu     sync.Mutex
	states []*WorkerState
	wg     sync.WaitGroup
}

// A worker that ran for this long had recovered: its next failure waits the
// first interval again.
const recovered = time.Minute

func newSupervisor(log *slog.Logger, m *telemetry.Metrics, now func() time.Time) *supervisor {
	return &supervisor{log: log, metrics: m, now: now, backOff: func() backoff.BackOff {
		b := backoff.NewExponentialBackOff() // half a second, by 1.5 and some chance
		b.MaxInterval = 30 * time.Second
		return b
	}}
}

// starting keeps wait from returning between two starts, until done is called.
func (s *supervisor) starting() (done func()) {
	s.wg.Add(1)
	return s.wg.Done
}

// start runs a worker until ctx ends.
func (s *supervisor) start(ctx context.Context, w worker) {
	st := &WorkerState{Name: w.Name(), State: workerRunning, Since: s.now()}
	s.mu.Lock()
	s.states = append(s.states, st)
	s.mu.Unlock()
	s.wg.Go(func() {
		defer s.set(st, workerStopped)
		wait := s.backOff()
		for {
			began := s.now()
			err := guarded(ctx, w)
			if ctx.Err() != nil {
				return
			}
			if s.now().Sub(began) >= recovered {
				wait.Reset()
			}
			pause := wait.NextBackOff()
			s.log.ErrorContext(ctx, "worker failed", "worker", w.Name(), "again_in", pause.Round(time.Millisecond).String(), "error", err)
			s.set(st, workerRestarting)
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
			s.metrics.Restarted(w.Name())
			s.set(st, workerRunning)
		}
	})
}

var errEnded = errors.New("it returned although nobody had stopped it")

// guarded turns a panic into an error: one fault must not end the others' work.
func guarded(ctx context.Context, w worker) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	if err := w.Run(ctx); err != nil {
		return err
	}
	return errEnded
}

func (s *supervisor) set(st *WorkerState, state string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state == workerRunning {
		st.Restarts++
	}
	st.State, st.Since = state, s.now()
}

// snapshot lists the workers in the order in which they were started.
func (s *supervisor) snapshot() []WorkerState {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]WorkerState, len(s.states))
	for i, st := range s.states {
		list[i] = *st
	}
	return list
}

// wait returns when all workers have ended, or names those that have not when
// ctx ends first.
func (s *supervisor) wait(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		var late []string
		for _, st := range s.snapshot() {
			if st.State != workerStopped {
				late = append(late, st.Name)
			}
		}
		return fmt.Errorf("still running: %v", late)
	}
}

// stack ends things in the reverse order of their beginning.
type stack struct {
	mu    sync.Mutex
	items []closer
}

type closer struct {
	name  string
	close func(context.Context) error
}

func (s *stack) push(name string, close func(context.Context) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.items = append(s.items, closer{name, close})
}

// close ends everything once; calling it again does nothing. Each part gets
// what is left of the time, and is ended in any case.
func (s *stack) close(ctx context.Context, log *slog.Logger) error {
	s.mu.Lock()
	items := s.items
	s.items = nil
	s.mu.Unlock()
	var errs []error
	for _, c := range slices.Backward(items) {
		began := time.Now()
		err := c.close(ctx)
		if err != nil {
			errs = append(errs, fmt.Errorf("stopping the %s: %w", c.name, err))
		}
		log.DebugContext(ctx, "stopped", "part", c.name, "took", time.Since(began).Round(time.Millisecond).String(), "error", err)
	}
	return errors.Join(errs...)
}
