package bankfeed

import "time"

// EventType names a kind of fact.
type EventType string

// Event types. EventTypes describes each; docs/events.md is made from it.
const (
	EventConnectionCreated EventType = "connection.created"
	EventConnectionDeleted EventType = "connection.deleted"

	EventSyncStarted   EventType = "sync.started"
	EventSyncSucceeded EventType = "sync.succeeded"
	EventSyncFailed    EventType = "sync.failed"

	EventAuthStarted           EventType = "channel.auth_started"
	EventAuthSucceeded         EventType = "channel.auth_succeeded"
	EventProviderConnected     EventType = "channel.provider_connected"
	EventAccountsListStarted   EventType = "channel.accounts_list_started"
	EventAccountsListSucceeded EventType = "channel.accounts_list_succeeded"
	EventAccountsListFailed    EventType = "channel.accounts_list_failed"
	EventTransactionsStarted   EventType = "channel.transactions_list_started"
	EventTransactionsSucceeded EventType = "channel.transactions_list_succeeded"
	EventTransactionsFailed    EventType = "channel.transactions_list_failed"
	EventActionRequired        EventType = "channel.action_required"

	EventAccountCreated EventType = "account.created"
	EventAccountUpdated EventType = "account.updated"
	EventAccountRemoved EventType = "account.removed"

	EventTransactionCreated EventType = "transaction.created"
	EventTransactionUpdated EventType = "transaction.updated"
	EventTransactionRemoved EventType = "transaction.removed"

	// Only where a stream asks for what did not change, and only for it.
	EventAccountSeen     EventType = "account.seen"
	EventTransactionSeen EventType = "transaction.seen"

	EventAccountFinished EventType = "session.account_finished"

	EventConsentCreated  EventType = "consent.created"
	EventConsentUpdated  EventType = "consent.updated"
	EventConsentDeleted  EventType = "consent.deleted"
	EventConsentExpiring EventType = "consent.expiring"

	EventBankCalled EventType = "bank.called"
	EventUserErased EventType = "user.erased"

	EventRequestFinished   EventType = "request.finished"
	EventRequestUserNeeded EventType = "request.user_needed"
)

// Topic groups event types for readers that want only some of them.
type Topic uint8

// Topics. TopicConnections is what an Oxlin queue subscribes to as
// "connections"; the log keeps an index of its own for it.
const (
	TopicData        Topic = 0
	TopicConnections Topic = 1
	// TopicSeen is read by streams that ask for it, and by nobody else.
	TopicSeen Topic = 2
)

// Topics is a set of topics, by Topic.
type Topics [3]bool

// With is the union of both.
func (t Topics) With(o Topics) Topics {
	for i := range t {
		t[i] = t[i] || o[i]
	}
	return t
}

// Meet reports whether any topic is in both.
func (t Topics) Meet(o Topics) bool {
	for i := range t {
		if t[i] && o[i] {
			return true
		}
	}
	return false
}

// EventInfo describes an event type: the row of the event table.
type EventInfo struct {
	Type     EventType
	Topic    Topic
	Category string // global, login, choose_bank, synchronization, consent, data
	Meaning  string
	Carries  string // the parts of the snapshot that are set beside user and connection
}

// EventTypes is the event table, in the order of a connection's life.
var EventTypes = []EventInfo{
	{EventConnectionCreated, TopicConnections, "global", "A user began to link a bank.", "session"},
	{EventConnectionDeleted, TopicConnections, "global", "The connection and its data were removed.", ""},
	{EventSyncStarted, TopicConnections, "global", "A session began.", "session"},
	{EventAuthStarted, TopicConnections, "login", "A channel asks its bank for access.", "session, channel"},
	{EventActionRequired, TopicConnections, "login", "A channel needs its user; `reason` says what for.", "session, channel, reason"},
	{EventAuthSucceeded, TopicConnections, "login", "The bank grants access on a channel.", "session, channel"},
	{EventProviderConnected, TopicConnections, "choose_bank", "The bank answered the first call for data.", "session, channel"},
	{EventAccountsListStarted, TopicConnections, "synchronization", "A channel begins to list accounts.", "session, channel"},
	{EventAccountsListSucceeded, TopicConnections, "synchronization", "The account list of a channel is complete.", "session, channel, accounts"},
	{EventAccountsListFailed, TopicConnections, "synchronization", "The account list could not be read.", "session, channel, failure"},
	{EventTransactionsStarted, TopicConnections, "synchronization", "A channel begins to read balances and transactions.", "session, channel"},
	{EventTransactionsSucceeded, TopicConnections, "synchronization", "Balances and transactions of a channel were read.", "session, channel"},
	{EventTransactionsFailed, TopicConnections, "synchronization", "Balances or transactions of a channel could not be read.", "session, channel, failure"},
	{EventAccountCreated, TopicData, "data", "An account was found.", "session, account"},
	{EventAccountUpdated, TopicData, "data", "An account or one of its balances changed.", "session, account"},
	{EventAccountRemoved, TopicData, "data", "The bank no longer lists the account, or it was removed by request or with its consent.", "session, account"},
	{EventTransactionCreated, TopicData, "data", "A transaction was found.", "session, account, transaction"},
	{EventTransactionUpdated, TopicData, "data", "A transaction changed, or a pending one was booked.", "session, account, transaction"},
	{EventTransactionRemoved, TopicData, "data", "A pending transaction disappeared without being booked.", "session, account, transaction"},
	{EventAccountSeen, TopicSeen, "data", "An account was listed again without a change. Only streams with `unchanged: publish` see it.", "session, account"},
	{EventTransactionSeen, TopicSeen, "data", "A transaction was listed again without a change. Only streams with `unchanged: publish` see it.", "session, account, transaction"},
	{EventAccountFinished, TopicData, "data", "All transactions of one account were read in this session.", "session, account, last_transaction"},
	{EventConsentCreated, TopicConnections, "consent", "A consent was confirmed and its accounts are known.", "consent"},
	{EventConsentUpdated, TopicConnections, "consent", "A consent stopped working.", "consent"},
	{EventConsentExpiring, TopicConnections, "consent", "A consent ends soon; its user should renew it.", "consent"},
	{EventConsentDeleted, TopicConnections, "consent", "A consent was removed; the snapshot is its last state.", "consent"},
	{EventBankCalled, TopicData, "data", "One HTTP call to a bank.", "session, call"},
	{EventSyncSucceeded, TopicConnections, "global", "A session ended with data, wholly or in part. The last event of its session.", "session"},
	{EventSyncFailed, TopicConnections, "global", "A session ended without data, or with a channel that needs its user. The last event of its session.", "session, failure"},
	{EventRequestUserNeeded, TopicData, "global", "A request cannot go on without its user.", "request"},
	{EventRequestFinished, TopicData, "global", "A request ended: the last of the sessions that it covers has.", "request"},
	{EventUserErased, TopicData, "global", "The user's data was erased.", ""},
}

var eventInfo = func() map[EventType]EventInfo {
	m := make(map[EventType]EventInfo, len(EventTypes))
	for _, i := range EventTypes {
		m[i.Type] = i
	}
	return m
}()

// Info finds the row of the event table; ok is false for an unknown type.
func (t EventType) Info() (EventInfo, bool) {
	i, ok := eventInfo[t]
	return i, ok
}

// Topic is the topic of the type.
func (t EventType) Topic() Topic { return eventInfo[t].Topic }

// SnapshotSchema is the version of Snapshot that is written today. Readers
// know every version ever written.
const SnapshotSchema = 1

// Event is one immutable fact in the log.
type Event struct {
	Epoch    Epoch
	Tenant   TenantID
	Lane     int
	Position Position
	Type     EventType
	At       time.Time
	User     UserID
	// Connection, Account and Session are set as far as the fact has them.
	Connection ConnectionID
	Account    AccountID
	Session    SessionID
	// Snapshot is nil once what it tells of was removed, or the user was erased.
	Snapshot *Snapshot
}

// ID names the event to the outside.
func (e Event) ID() UUID { return EventID(e.Epoch, e.Tenant, e.Lane, e.Position) }

// Snapshot is everything that any dialect prints of an event, frozen at commit,
// so that its message body is a pure function of the event and never changes.
type Snapshot struct {
	Schema     int           `json:"schema"`
	Initiator  Initiator     `json:"initiator,omitempty"`
	Build      string        `json:"build"` // the build that wrote the event
	Node       string        `json:"node"`  // the node that wrote it
	User       UserRef       `json:"user"`
	Session    *SessionRef   `json:"session,omitempty"`
	Connection *Connection   `json:"connection,omitempty"`
	Channel    Mode          `json:"channel,omitempty"` // the channel the event is about
	Reason     ChannelStatus `json:"reason,omitempty"`  // of channel.action_required
	Failure    *Failure      `json:"failure,omitempty"`

	Account         *Account      `json:"account,omitempty"`
	Accounts        []Account     `json:"accounts,omitempty"`
	Transaction     *Transaction  `json:"transaction,omitempty"`
	LastTransaction TransactionID `json:"last_transaction,omitempty"`
	Consent         *Consent      `json:"consent,omitempty"`
	Call            *BankCall     `json:"call,omitempty"`
	Request         *RequestRef   `json:"request,omitempty"`
}

// UserRef names a user in a snapshot.
type UserRef struct {
	ID              UserID          `json:"id"`
	UUID            UUID            `json:"uuid"`
	ExternalID      string          `json:"external_id,omitempty"`
	BusinessContext BusinessContext `json:"business_context"`
}

// SessionRef names a session in a snapshot.
type SessionRef struct {
	ID         SessionID     `json:"id"`
	UUID       UUID          `json:"uuid"`
	ExternalID string        `json:"external_id,omitempty"`
	Type       SessionType   `json:"type"`
	Status     SessionStatus `json:"status"`
	Stage      Stage         `json:"stage"`
	Attended   bool          `json:"attended"`
	TraceID    UUID          `json:"trace_id"`
}

// BankCall is one HTTP exchange with a bank. It holds no credentials, and no
// body unless the bank answered with an error.
type BankCall struct {
	ExecutionID UUID          `json:"execution_id"`
	Context     CallContext   `json:"context"`
	Method      string        `json:"method"`
	URL         string        `json:"url"`    // account and consent ids masked
	Status      int           `json:"status"` // 0 when no HTTP answer came
	Duration    time.Duration `json:"duration_ns"`
	Attended    bool          `json:"attended"`
	RequestID   string        `json:"request_id"` // X-Request-ID
	Exception   string        `json:"exception,omitempty"`
	ErrorBody   string        `json:"error_body,omitempty"`
	At          time.Time     `json:"at"`
}

// CallContext says what a call to a bank was for; a closed list, as the stream
// writes it.
type CallContext string

// Call contexts.
const (
	CallRetrieveScaURL    CallContext = "RetrieveScaUrl"
	CallCreateConsent     CallContext = "CreateConsent"
	CallGetConsentStatus  CallContext = "GetConsentStatus"
	CallDeleteConsent     CallContext = "DeleteConsent"
	CallUpdatePsuData     CallContext = "UpdatePsuData"
	CallGetToken          CallContext = "GetToken"
	CallRefreshToken      CallContext = "RefreshToken"
	CallGetAccounts       CallContext = "GetAccounts"
	CallGetAccount        CallContext = "GetAccount"
	CallGetBalances       CallContext = "GetBalances"
	CallGetTransactions   CallContext = "GetTransactions"
	CallGetHolds          CallContext = "GetHolds"
	CallDownloadStatement CallContext = "DownloadStatement"
)
