package callback

import (
	"context"
	"time"

	"github.com/bankfeed/bankfeed"
)

// Transport makes one attempt at a message and judges the answer; Sender is one.
// If ctx ends first, the result says nothing about the receiver.
type Transport interface {
	Send(ctx context.Context, m Message) Result
}

// Log is the event log as subscriptions read it, without what was only seen.
type Log interface {
	// ReadEvents returns up to q.Limit events after q.After that q selects, in
	// their order. No such event lies between q.After and next without being
	// among them. It looks at a bounded number of rows.
	ReadEvents(ctx context.Context, q LogQuery) (events []bankfeed.Event, next bankfeed.Position, err error)
	// Bounds finds what is left of a lane: floor is the last position that was
	// removed, head the last one given out.
	Bounds(ctx context.Context, tenant bankfeed.TenantID, lane int) (floor, head bankfeed.Position, err error)
}

// LogQuery selects events of one lane. Zero members do not filter.
type LogQuery struct {
	Tenant     bankfeed.TenantID
	Lane       int
	User       bankfeed.UserID
	Connection bankfeed.ConnectionID
	Account    bankfeed.AccountID
	Types      []bankfeed.EventType
	After      bankfeed.Position
	Limit      int
}

// Worlds tells in which world a user lives, also one that was erased;
// bankfeed.ErrNotFound for a stranger.
type Worlds interface {
	SandboxUser(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID) (sandbox bool, err error)
}

// Store keeps targets and deliveries. Every method is one transaction.
//
// Besides, the store does two things by itself. An order of a change
// (bankfeed.CallbackOrder) becomes a waiting delivery of the target of its
// tenant, world and origin, which is made when it is not there, and WorkTarget of
// that target is put up at its ReadyAt, in the transaction of the change. And
// retention passes neither the cursor of a subscription that is active or paused
// nor an event that a waiting delivery of such a target tells of.
type Store interface {
	Leading
	Managing
}

// Leading is what a leader needs: whoever holds the claim of a target's work.
type Leading interface {
	// Target finds a target whatever its status; bankfeed.ErrNotFound.
	Target(ctx context.Context, key Key) (Target, error)
	// Due returns waiting deliveries whose NextAt is not after now, up to limit,
	// in the order of NextAt and then of Position, and when the first of those
	// that were not returned is due; zero if there is none. Those behind another
	// do not count. It costs what it returns, however many wait.
	Due(ctx context.Context, key Key, now time.Time, limit int) (due []Due, next time.Time, err error)
	// Probe returns one waiting delivery that is not behind another, whatever its
	// NextAt: the one with the lowest NextAt, or the newest by its number; nil if
	// none waits.
	Probe(ctx context.Context, key Key, newest bool) (*Due, error)
	// Blocked returns those of the connections that have waiting deliveries.
	Blocked(ctx context.Context, key Key, connections []bankfeed.ConnectionID) ([]bankfeed.ConnectionID, error)
	// Commit stores what became of deliveries and where the leader stands, all
	// or nothing. It returns the numbers of the new rows, in their order, and the
	// target's Version. bankfeed.ErrFenced once another node leads.
	Commit(ctx context.Context, c Commit) (ids []DeliveryID, version int64, err error)
	// Versions finds the Version of targets; those that are gone are missing.
	Versions(ctx context.Context, keys []Key) (map[Key]int64, error)
	// Secrets returns a tenant's secrets for signatures that are live at now, the
	// newest first. If it has none, fresh becomes the first. Sealed at rest.
	Secrets(ctx context.Context, tenant bankfeed.TenantID, fresh bankfeed.Secret, now time.Time) ([]bankfeed.Secret, error)
}

// Due is a delivery to be sent.
type Due struct {
	Delivery
	// Event is nil when retention has removed it; its Snapshot is nil when what
	// it tells of was erased.
	Event *bankfeed.Event
}

// Commit is what a leader writes at once.
type Commit struct {
	Fence bankfeed.Fence
	Key   Key
	Now   time.Time
	// Cursors move, always forward within an epoch.
	Cursors []Cursor
	// New rows are inserted; their ID is 0. They are no repeats: the rows of a
	// lane up to its cursor are exactly those that were committed with it.
	New []Row
	// Changed rows replace what is stored of them, as long as it waits: State,
	// Reason, Attempts, Step, Behind, FirstAt, LastAt, NextAt and EndedAt. One
	// that ended meanwhile is left alone, but for its attempt. They may be repeats,
	// of a commit of which it is not known whether it was stored. What is Behind in
	// either list becomes due at Now if the subscription is not ordered any more.
	Changed []Row
	// Health is written if it is not nil.
	Health *Health
	// Disable, if not empty, sets an active target to Disabled with this reason,
	// and Version grows.
	Disable string
	// Recovered, if set, makes every waiting delivery due at Now whose LastAt is
	// at or after it, those behind another aside.
	Recovered time.Time
	Notes     []Note // added; the newest 20 stay
	// Ordered: for each connection of a row in New or Changed, the waiting
	// delivery of the target with the lowest Lane and Position, if it was Behind,
	// is so no longer and becomes due at Now, after everything else was written.
	Ordered bool
	// Release gives the work back, as in bankfeed.Change.
	Release *bankfeed.Release
}

// Row is a delivery with the attempt that made it what it is.
type Row struct {
	Delivery
	// Attempt is nil when there was none. Its Delivery is 0 in a new row.
	// Attempts of a delivery are listed in full; one that succeeded at once need
	// not have a row of its own for that.
	Attempt *Attempt
}

// Managing is what clients and operators ask for. Targets of another tenant or
// world are unknown. What changes a target makes its Version grow, and puts up
// its work, ready at now.
type Managing interface {
	// AddSubscription stores a new subscription under a number of its own, with
	// its Cursors, and puts up its WorkSubscription. bankfeed.Conflict beyond
	// MaxSubscriptions of a tenant and world.
	AddSubscription(ctx context.Context, t Target, now time.Time) (Target, error)
	// ChangeTarget hands a target that is not deleted to change, whose error ends
	// it, and stores Subscription, URL, Origin, Status and Reason. Deleted ends its
	// waiting deliveries as skipped, in portions if need be, and takes its work
	// away. When a subscription stops being ordered, what was Behind becomes due.
	ChangeTarget(ctx context.Context, key Key, sandbox bool, change func(*Target) error, now time.Time) (Target, error)
	// Targets lists a tenant's targets that are not deleted, by number.
	Targets(ctx context.Context, q TargetQuery) ([]Target, error)
	// Deliveries lists deliveries, newest first by number.
	Deliveries(ctx context.Context, q DeliveryQuery) ([]Delivery, error)
	// Delivery finds one; bankfeed.ErrNotFound.
	Delivery(ctx context.Context, tenant bankfeed.TenantID, sandbox bool, id DeliveryID) (Delivery, error)
	// Attempts lists the attempts of a delivery, from after a number on.
	Attempts(ctx context.Context, tenant bankfeed.TenantID, id DeliveryID, after, limit int) ([]Attempt, error)
	// Counts counts a target's deliveries by state, each up to MaxCount.
	Counts(ctx context.Context, key Key) (Counts, error)
	// Redrive makes up to q.Limit deliveries wait again that q selects and that
	// were given up or skipped: due at now, Step 0, FirstAt zero, Attempts as they
	// were, lowest numbers first, from after q.After on. It returns how many, the last number
	// among them, and the targets concerned. With dry it changes nothing.
	// Deliveries of deleted targets are left out. A Behind row whose turn it is
	// not stays what Commit.Ordered says.
	Redrive(ctx context.Context, q DeliveryQuery, dry bool, now time.Time) (n int, last DeliveryID, targets []TargetID, err error)
	// Replay inserts a waiting delivery, with a Replay number of its own, for
	// each event that q selects, of the world of the target. With dry, or when
	// there are more than q.Limit, it inserts nothing. It returns how many there
	// are, counted up to q.Limit+1, and the number.
	Replay(ctx context.Context, q ReplayQuery, dry bool, now time.Time) (n int, replay int64, err error)
}

// TargetQuery selects targets.
type TargetQuery struct {
	Tenant        bankfeed.TenantID
	Sandbox       bool
	Subscriptions *bool // only these, or only those of requests; nil: both
	After         TargetID
	Limit         int
}

// DeliveryQuery selects deliveries. Zero members do not filter, but for Sandbox.
type DeliveryQuery struct {
	Tenant     bankfeed.TenantID
	Sandbox    bool // of the target
	Target     TargetID
	States     []State
	Types      []bankfeed.EventType
	Causes     []Cause // of the last attempt, if it failed
	User       bankfeed.UserID
	Connection bankfeed.ConnectionID
	Lane       int // with Position
	Position   bankfeed.Position
	From, To   time.Time  // by CreatedAt, the second exclusive
	Before     DeliveryID // of lists: only older ones
	After      DeliveryID // of redrives: only newer ones
	Limit      int
}

// ReplayQuery selects events for one subscription. Zero members do not filter.
// The subscription's own settings narrow it first.
type ReplayQuery struct {
	Key
	Sandbox    bool
	Types      []bankfeed.EventType
	User       bankfeed.UserID
	Connection bankfeed.ConnectionID
	Account    bankfeed.AccountID
	From, To   time.Time // by the event's time, the second exclusive
	Lane       int       // with First and Last
	First      bankfeed.Position
	Last       bankfeed.Position // inclusive
	Limit      int
}

// Counts is how many deliveries of a target stand where.
type Counts struct {
	States map[State]int
	Oldest time.Time // CreatedAt of the oldest that waits
}

// Bounds of what clients may ask.
const (
	MaxSubscriptions = 100     // of a tenant and world
	MaxReplay        = 100_000 // events in one replay
	MaxCount         = 100_000
)
