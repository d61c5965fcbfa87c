package bankfeed

import "time"

// Change is a decision: what becomes different, and the facts that follow. The
// store persists one Change as one transaction, state and events together, or
// not at all. Whoever decides builds it with plain functions and without a
// database; nil and empty parts stay as they are.
type Change struct {
	Tenant TenantID
	User   UserID

	// Fence, when set, must still hold, else nothing is written and the
	// commit fails with ErrFenced: another node has taken the work over.
	Fence *Fence
	// Release gives the fenced work back with this change.
	Release *Release
	// Ready puts work up for claiming; work that is up already becomes ready
	// no later than it was. Ended takes work away whoever has it.
	Ready []WorkItem
	Ended []WorkItem

	NewConnection *Connection
	Connection    *Connection // compare-and-set on Version
	NewSession    *Session
	Session       *Session // compare-and-set on Version
	// Alias is the external id of a request that joined Session.
	Alias    string
	Consents []Consent // inserted when Version is 0, else compare-and-set
	// Forget are accounts whose rows go, with the ledger and the progress of
	// reading them. It comes before Accounts, which may hold what stays of one.
	Forget       []AccountID
	Accounts     []Account // inserted or replaced whole
	Transactions TransactionChanges
	Progress     []Progress
	Accesses     []QuotaUse
	Refunds      []QuotaUse // accesses that the bank answered with a limit: nothing was read
	Links        []Link     // inserted or replaced whole
	Requests     []Request  // inserted when Version is 0, else compare-and-set
	Import       *Import    // inserted when Version is 0, else compare-and-set
	Delete       *Deletion

	Events []Draft
}

// TransactionChanges are the rows that one page of a listing touches.
type TransactionChanges struct {
	Insert []TransactionRow
	Update []TransactionRow
	Delete []TransactionID
}

// TransactionRow is a transaction with what identifies it inside its account.
type TransactionRow struct {
	Transaction
	Identity
}

// Identity is how a stored transaction is recognised when its bank lists it
// again.
type Identity struct {
	Key         uint64 // of the identity: the bank's id, or fingerprint and occurrence
	Fingerprint uint64 // of the content that a bank does not change
	Content     uint64 // of everything that makes an update when it differs
}

// Draft is an event before it has a position.
type Draft struct {
	Type       EventType
	At         time.Time
	Connection ConnectionID
	Account    AccountID
	Session    SessionID
	Snapshot   *Snapshot
	// Callbacks deliver the event beside what subscriptions do.
	Callbacks []CallbackOrder
}

// QuotaUse is one unattended access, written down before the call is made.
type QuotaUse struct {
	Consent ConsentID
	Account AccountID // 0 for the account list
	Kind    AccessKind
	At      time.Time
}

// AccessKind is what a bank counts unattended accesses for.
type AccessKind string

// Kinds of access.
const (
	AccessAccounts     AccessKind = "accounts"
	AccessDetails      AccessKind = "details"
	AccessBalances     AccessKind = "balances"
	AccessTransactions AccessKind = "transactions"
)

// Link is a way back for a PSU's browser: the hub's own start page for one
// channel of a session, and the state parameter that returns from the bank.
type Link struct {
	// Token is the hash of the secret in the start page's URL.
	Token []byte
	// State is the hash of the state parameter that is on its way through the
	// bank; empty before the redirect and after the return, so that each
	// value works once.
	State       []byte
	User        UserID
	Connection  ConnectionID
	Session     SessionID
	Mode        Mode
	Consent     ConsentID
	RedirectURL string // where the client wants its user back
	// Credentials wait here, sealed, for the PSU's browser to bring its
	// address (10 minutes at most).
	Credentials Secret
	CreatedAt   time.Time
	ExpiresAt   time.Time
	EndedAt     *time.Time
}

// Deletion removes what is left of a connection, or one consent of it. The
// history of consents and the log stay; transactions are removed before, in
// portions.
type Deletion struct {
	Connection ConnectionID
	Consent    ConsentID   // 0: the whole connection
	Accounts   []AccountID // those that go with the consent
}

// WorkKind is a kind of work that nodes claim.
type WorkKind string

// Kinds of work.
const (
	WorkSession WorkKind = "session" // the number is the session's
	WorkRemoval WorkKind = "removal" // of a connection, whose number it is
	WorkErasure WorkKind = "erasure" // of a user, whose number it is
	WorkReplay  WorkKind = "replay"  // of events to a stream, whose number it is
	// WorkBlanking blanks what a user's log says of removals, once that was told.
	WorkBlanking WorkKind = "blanking" // of a user, whose number it is
	// WorkImport stores a document that was handed in, in the session whose number
	// it is. Whoever brings the document does it; nodes only end what nobody
	// goes on with.
	WorkImport WorkKind = "import"
	// WorkRequest ends a request, whose number it is, once its sessions have.
	WorkRequest WorkKind = "request"
	// WorkTarget sends what is due to a receiver of requests' callbacks, whose
	// number it is.
	WorkTarget WorkKind = "target"
	// WorkSubscription leads a subscription, whose number it is.
	WorkSubscription WorkKind = "subscription"
	// WorkReport computes a report, whose number it is.
	WorkReport WorkKind = "report"
)

// WorkItem is a piece of work that one node at a time may do.
type WorkItem struct {
	Tenant   TenantID
	Kind     WorkKind
	ID       int64
	Group    string // capped together: a provider, a target
	Attended bool   // goes first
	ReadyAt  time.Time
}

// Fence proves that a node still owns the work it claimed.
type Fence struct {
	Kind   WorkKind
	Tenant TenantID
	ID     int64
	Number int64
}

// Release gives claimed work back: done for good, or until it is ready again.
type Release struct {
	Done    bool
	ReadyAt time.Time
}

// Errors of a commit.
var (
	// ErrFenced: another node has taken over; stop without writing anything.
	ErrFenced = &Error{Kind: Conflict, Text: "another node has taken this work over"}
	// ErrConflict: somebody changed the same rows; read again and decide again.
	ErrConflict = &Error{Kind: Conflict, Text: "changed by another request at the same time"}
	// ErrBusy: the connection has an open session already.
	ErrBusy = &Error{Kind: Conflict, Text: "a session of this connection is already running"}
	// ErrErased: the user is being erased.
	ErrErased = &Error{Kind: NotFound, Text: "unknown resource"}
)

// Committed says where the events of a change came to stand. Readers are woken
// with it.
type Committed struct {
	Tenant TenantID
	User   UserID
	Lane   int
	First  Position // 0 when the change had no events
	Last   Position
	Topics Topics // of the events
}
