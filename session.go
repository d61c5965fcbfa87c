package bankfeed

import "time"

// Session is one run for one connection. It begins with the first call of a
// link or renewal (stage Authentication) and ends when every channel that took
// part has ended.
type Session struct {
	ID         SessionID     `json:"id"`
	ExternalID string        `json:"external_id,omitempty"` // the client's own id
	Status     SessionStatus `json:"status"`
	Stage      Stage         `json:"stage"`
	Type       SessionType   `json:"type"`
	Initiator  Initiator     `json:"initiator"`
	Attended   bool          `json:"attended"`
	CreatedAt  time.Time     `json:"created_at"`
	EndedAt    *time.Time    `json:"ended_at,omitempty"`
	Failure    *Failure      `json:"failure,omitempty"`

	User       UserID       `json:"-"`
	Connection ConnectionID `json:"-"`
	PSU        *PSU         `json:"-"` // sealed at rest
	Runs       []ChannelRun `json:"-"`
	Faults     int          `json:"-"` // how often the hub itself failed to go on
	FollowAll  bool         `json:"-"` // a LIST_ACCOUNTS session is followed by an ALL of its own
	Version    int64        `json:"-"`
}

// Run finds the part of the session that runs on a channel, nil if none does.
func (s *Session) Run(m Mode) *ChannelRun {
	for i := range s.Runs {
		if s.Runs[i].Mode == m {
			return &s.Runs[i]
		}
	}
	return nil
}

// Open reports whether the session still has something to do.
func (s *Session) Open() bool { return s.Status == SessionInitiated || s.Status == SessionInProgress }

// ChannelRun is the part of a session that runs on one channel.
type ChannelRun struct {
	Mode    Mode      `json:"mode"`
	Phase   Phase     `json:"phase"`
	Consent ConsentID `json:"consent,omitempty"`
	// Deadline is when a run that waits for its user gives up.
	Deadline time.Time `json:"deadline,omitzero"`
	// Connected: the bank has answered in this run.
	Connected bool `json:"connected,omitempty"`
	// Read counts what the run got from the bank, so that a run that read
	// nothing can say so.
	Read int `json:"read"`
}

// Phase is how far a channel's run has come.
type Phase string

// Phases of a channel's run.
const (
	PhaseAuth         Phase = "auth"         // waits for its user
	PhaseReady        Phase = "ready"        // authorised; to be picked up
	PhaseAccounts     Phase = "accounts"     // lists accounts
	PhaseTransactions Phase = "transactions" // reads balances and transactions
	PhaseDone         Phase = "done"
)

// SessionType is what a session reads.
type SessionType string

// Session types.
const (
	SessionAll          SessionType = "ALL"
	SessionListAccounts SessionType = "LIST_ACCOUNTS"
)

// SessionStatus is the state of a session.
type SessionStatus string

// Session statuses.
const (
	SessionInitiated  SessionStatus = "Initiated"
	SessionInProgress SessionStatus = "InProgress"
	SessionFinished   SessionStatus = "Finished"
	SessionFailed     SessionStatus = "Failed"
)

// Stage is the stage of a session.
type Stage string

// Stages in their order.
const (
	StageAuthentication  Stage = "Authentication"
	StageAccounts        Stage = "Accounts"
	StageAccountBalances Stage = "AccountBalances"
	StageTransactions    Stage = "Transactions"
)

// Progress is how far the reading of one account on one channel has come in
// one session. It is stored with each page, so that a crash costs at most the
// page that was on its way.
type Progress struct {
	Account  AccountID `json:"account,omitempty"`
	Mode     Mode      `json:"mode,omitempty"`
	Step     Step      `json:"step,omitempty"`
	From     Date      `json:"from,omitempty"`     // first booking day of the listing
	Began    Date      `json:"began,omitempty"`    // the day on which the first page was read
	Cursor   string    `json:"cursor,omitempty"`   // where the next page starts; empty for the first
	First    []byte    `json:"first,omitempty"`    // digest of the first page's ids, to notice a list that moved
	FirstAt  string    `json:"first_at,omitempty"` // cursor of the first page within this listing, if the bank gave one
	Pages    int       `json:"pages,omitempty"`
	Restarts int       `json:"restarts,omitempty"`
	// Unsettled counts items held back because their identity was not yet
	// certain; they live in memory only, so a resumed listing starts over.
	Unsettled int      `json:"unsettled,omitempty"`
	Read      int      `json:"read,omitempty"`
	Carried   bool     `json:"carried,omitempty"` // the cursor is that of an earlier session
	Failure   *Failure `json:"failure,omitempty"`
}

// Step is the next thing to do for an account.
type Step string

// Steps of an account.
const (
	StepBalances     Step = "balances"
	StepTransactions Step = "transactions"
	StepDone         Step = "done"
	StepFailed       Step = "failed"
)
