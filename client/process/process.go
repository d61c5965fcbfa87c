package process

import (
	"encoding/json"
	"maps"
	"slices"
	"time"
)

// Status is where a process stands.
type Status string

// Statuses. A process never moves back.
const (
	SyncCreated    Status = "SYNC_CREATED"    // stored; the server's answer is not
	SyncStarted    Status = "SYNC_STARTED"    // the server has begun, its data sources are known
	SyncSuccessful Status = "SYNC_SUCCESSFUL" // the server confirmed that every data source is SUCCESSFUL; the scenario goes on
	SyncFailed     Status = "SYNC_FAILED"     // ended: there is no complete synchronization
	Done           Status = "DONE"            // ended: the scenario's results are there
	Failed         Status = "FAILED"          // ended: the data is there, the scenario could not be finished
)

// moves are the transitions that exist.
var moves = map[Status][]Status{
	SyncCreated:    {SyncStarted, SyncSuccessful, SyncFailed},
	SyncStarted:    {SyncSuccessful, SyncFailed},
	SyncSuccessful: {Done, Failed},
}

// Ended reports whether nothing will change any more.
func (s Status) Ended() bool { return s == SyncFailed || s == Done || s == Failed }

// Failed reports whether it ended without its results.
func (s Status) Failed() bool { return s == SyncFailed || s == Failed }

// Process is one synchronization and what follows it. Its JSON form is what a
// frontend sees.
type Process struct {
	// ID is a random UUID, and the handle of the callback.
	ID       string `json:"id"`
	Scenario string `json:"scenario"`
	// User is the application's own name of its user; it is not shown.
	User string `json:"-"`
	// Params are what the scenario needs, amounts as decimal text.
	Params  map[string]string `json:"params,omitempty"`
	Status  Status            `json:"status"`
	Reason  *Reason           `json:"reason,omitempty"` // why it failed
	Sources []Source          `json:"dataSources,omitempty"`
	// Results are the answers of the scenario's steps, by the step's name. The
	// stream of changes leaves them out and has Steps only.
	Results map[string]json.RawMessage `json:"results,omitempty"`
	Steps   []string                   `json:"steps,omitempty"`
	// Sequence is the number of its last change in the stream of changes.
	Sequence  int64     `json:"sequence"`
	CreatedAt time.Time `json:"createdAt"`
	UpdatedAt time.Time `json:"updatedAt"`
}

// Reason says why a process failed. Code is the server's word where it had one.
type Reason struct {
	Code      string `json:"code"`
	Message   string `json:"message,omitempty"`
	HTTP      int    `json:"httpStatus,omitempty"`
	RequestID string `json:"requestId,omitempty"`
	// Source is the data source that it is about, if one is.
	Source string `json:"dataSourceId,omitempty"`
}

// Codes of reasons that are not the server's.
const (
	CodeNoDataSources = "NO_DATA_SOURCES"   // the user has not connected a bank
	CodeNoAnswer      = "NO_ANSWER"         // the server could not be reached for too long
	CodeTimeout       = "TIMEOUT"           // the server did not come to an end
	CodeTokenExpired  = "TOKEN_EXPIRED"     // and there is no other
	CodeTokenLost     = "TOKEN_UNREADABLE"  // the stored token cannot be opened
	CodeScenario      = "SCENARIO_FAILED"   // the application's own code gave up
	CodeNoScenario    = "UNKNOWN_SCENARIO"  // the application has no code for it any more
	CodeNotSuccessful = "SYNC_UNSUCCESSFUL" // a data source failed without a code
)

// Source is a data source of a process.
type Source struct {
	ID   string `json:"dataSourceId"`
	Bank string `json:"bankName,omitempty"`
	// Status and Code are the server's words; an unknown word counts as still
	// running.
	Status string `json:"status,omitempty"`
	Code   string `json:"code,omitempty"`
}

// Record is a process with what only the service needs. A store keeps all of it.
type Record struct {
	Process
	Work
	// Token is the sealed access token; nil once the process has ended.
	Token []byte
	// Fence counts the claims. Whoever works on a process checks it.
	Fence int64
	// Version grows with every change that is stored: compare-and-set.
	Version int64
	// NextAt is when somebody should look at it; zero once it has ended.
	NextAt time.Time
	// LeaseUntil: somebody works on it until then.
	LeaseUntil time.Time
}

// Work is how far the service has come; it is stored as JSON.
type Work struct {
	// Subset of data sources that was asked for; empty is all.
	Subset []string `json:"subset,omitempty"`
	// CallbackAt is when a callback came that was not yet looked into. Hint are the
	// data sources that it named under a signature.
	CallbackAt  time.Time `json:"callbackAt,omitzero"`
	Hint        []string  `json:"hint,omitempty"`
	CheckedAt   time.Time `json:"checkedAt,omitzero"`   // of the last question about its status
	StartedAt   time.Time `json:"startedAt,omitzero"`   // of the server's answer
	SucceededAt time.Time `json:"succeededAt,omitzero"` // when every data source was SUCCESSFUL
	Failures    int       `json:"failures,omitempty"`   // of calls in a row
}

// Change is one entry of the stream of changes.
type Change struct {
	Sequence int64
	Process  Process // without results
}

// move changes the status if there is such a transition.
func (r *Record) move(to Status) bool {
	if !slices.Contains(moves[r.Status], to) {
		return false
	}
	r.Status = to
	if to.Ended() {
		r.Token, r.NextAt, r.LeaseUntil, r.CallbackAt = nil, time.Time{}, time.Time{}, time.Time{}
	}
	return true
}

// fail ends a process on the failed side of where it is.
func (r *Record) fail(why Reason) bool {
	to := SyncFailed
	if r.Status == SyncSuccessful {
		to = Failed
	}
	if !r.move(to) {
		return false
	}
	r.Reason = &why
	return true
}

// Summary is the process without its results: what the stream of changes has.
func (p Process) Summary() Process {
	p.Steps = slices.Sorted(maps.Keys(p.Results))
	p.Results = nil
	return p
}

// clone keeps a change from reaching a copy that was handed out.
func (r Record) clone() Record {
	r.Params, r.Results = maps.Clone(r.Params), maps.Clone(r.Results)
	r.Sources, r.Subset = slices.Clone(r.Sources), slices.Clone(r.Subset)
	return r
}
