package process

import (
	"context"
	"errors"
	"time"
)

// Store keeps processes and their changes. Every method is one transaction.
type Store interface {
	// Create stores a new process, with its first change. ErrConflict: its id is taken.
	Create(ctx context.Context, r Record) (Record, error)
	// Get reads one. ErrNotFound: there is none.
	Get(ctx context.Context, id string) (Record, error)
	// Save stores r if nobody stored the process since r was read, else
	// ErrConflict. tell adds it to the stream of changes. The answer has the new
	// version, and the new sequence if it was told.
	Save(ctx context.Context, r Record, tell bool) (Record, error)
	// Claim takes up to limit processes that are due and that nobody works on, the
	// longest due first, until the given time. next is when the next one is due;
	// zero if nothing is known of one.
	Claim(ctx context.Context, now, until time.Time, limit int) (due []Record, next time.Time, err error)
	// Changes reads the stream after a sequence. Numbers follow the order of
	// commits: what was read once is never joined by a lower number.
	Changes(ctx context.Context, after int64, limit int) ([]Change, error)
	// Bounds are the first change that is still there and the last one; 0 and the
	// last number given out if none is.
	Bounds(ctx context.Context) (first, last int64, err error)
	// Delete removes a process and its changes; one that is not there is removed already.
	Delete(ctx context.Context, id string) error
	// Prune removes changes before one time, and processes that ended before another.
	Prune(ctx context.Context, changes, ended time.Time) error
}

// Errors of a store.
var (
	ErrNotFound = errors.New("process: there is no such process")
	ErrConflict = errors.New("process: it was changed meanwhile")
)
