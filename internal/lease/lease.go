// Package lease gives each piece of work to one node at a time.
//
// Work is a row that a change puts up (bankfeed.Change.Ready). An Engine claims
// rows that are ready, attended ones first, within the caps of their groups
// over all nodes, and runs each in a goroutine. A claim raises the row's fence;
// the run writes through changes that carry it (bankfeed.Change.Fence), so that
// an owner who was taken over cannot write any more, however late it wakes up.
// A claim lives by heartbeats: a node that dies is taken over when its leases
// end.
//
// What the work is, and when it is done, is not known here.
package lease

import (
	"context"
	"time"

	"github.com/bankfeed/bankfeed"
)

// Claim is work that this node owns.
type Claim struct {
	bankfeed.Fence
	Group    string
	Attended bool
}

// Request asks for work.
type Request struct {
	Kind  bankfeed.WorkKind
	Owner string
	Now   time.Time
	Until time.Time // end of the lease
	Limit int
	Cap   func(group string) int // claims of a group over all nodes
}

// Store holds the rows.
type Store interface {
	// NextWork finds when the next row of a kind can be claimed, caps aside;
	// a past time if one can be claimed now, zero if there is none.
	NextWork(ctx context.Context, kind bankfeed.WorkKind) (time.Time, error)
	// ClaimWork claims rows whose time has come, or whose lease ended before
	// Now: attended ones first, then those that have been ready the longest.
	ClaimWork(ctx context.Context, r Request) ([]Claim, error)
	// RenewWork extends the leases of an owner's claims and returns those that
	// it still has.
	RenewWork(ctx context.Context, owner string, claims []Claim, until time.Time) (held []Claim, err error)
	// ReleaseWork gives claims back that the owner still has, ready at a time,
	// and returns those.
	ReleaseWork(ctx context.Context, owner string, claims []Claim, readyAt time.Time) (released []Claim, err error)
}

// Defaults of an Engine.
const (
	TTL       = 20 * time.Second
	Heartbeat = 5 * time.Second
	Poll      = time.Second
	StopAfter = 10 * time.Second
)

// Config describes an Engine. Store, Kind, Node, Slots, Run and Log are needed.
type Config struct {
	Store Store
	Kind  bankfeed.WorkKind
	Node  string // for whoever looks at the rows
	Slots int    // claims that this node runs at once

	// Cap bounds the claims of a group over all nodes; nil or a value below 1
	// means no bound.
	Cap func(group string) int

	// Run does the work until it has released it with a change, or ctx ends:
	// the engine stops, or the claim is lost. Work that it returns without
	// having released becomes ready again after Backoff; its error is logged.
	Run func(ctx context.Context, c Claim) error

	// TTL is how long after its last heartbeat a claim is taken over. The
	// clocks of the nodes must agree to within a few seconds less than that.
	TTL       time.Duration
	Heartbeat time.Duration
	Poll      time.Duration // how often to look for work that nobody told of
	StopAfter time.Duration // how long Run of the engine waits for its runs
	// Backoff is the pause after the nth failure in a row, n from 1.
	Backoff func(n int) time.Duration
	Now     func() time.Time
	Log     Logger
}

// Logger is what an Engine needs of a *slog.Logger.
type Logger interface {
	ErrorContext(ctx context.Context, msg string, args ...any)
	WarnContext(ctx context.Context, msg string, args ...any)
}

// backoff doubles from a second to five minutes.
func backoff(n int) time.Duration {
	const first, most = time.Second, 5 * time.Minute
	if n > 9 {
		return most
	}
	return min(first<<(n-1), most)
}
