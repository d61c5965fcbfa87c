package bankfeed

import "time"

// Connection is a user's link to a provider (finAPI: a data source).
type Connection struct {
	ID           ConnectionID     `json:"id"`
	ProviderID   string           `json:"provider_id"`
	ProviderName string           `json:"provider_name"`
	BIC          string           `json:"bic,omitempty"`
	Status       ConnectionStatus `json:"status"`
	CreatedAt    time.Time        `json:"created_at"`
	AutoSync     bool             `json:"auto_sync"`
	Channels     []Channel        `json:"channels"`

	User       UserID    `json:"-"`
	Sandbox    bool      `json:"-"`
	NextSyncAt time.Time `json:"-"` // when the next unattended session is due; zero while the user is needed
	Version    int64     `json:"-"` // grows with each stored change; compare-and-set
	// Removing are accounts whose removal was asked for, which goes on in the
	// background.
	Removing []AccountID `json:"-"`
}

// Channel finds the channel of a mode, nil if the connection has none.
func (c *Connection) Channel(m Mode) *Channel {
	for i := range c.Channels {
		if c.Channels[i].Mode == m {
			return &c.Channels[i]
		}
	}
	return nil
}

// Clone copies deeply enough that changing the copy's channels leaves the
// original alone.
func (c Connection) Clone() Connection {
	c.Channels = append([]Channel(nil), c.Channels...)
	return c
}

// Channel is the state of one way to reach the bank of a connection.
type Channel struct {
	Mode   Mode          `json:"mode"`
	Status ChannelStatus `json:"status"`
	// LastStatus is the last final status that dialects with a closed list can
	// show while Status is RUNNING or UNAVAILABLE.
	LastStatus    ChannelStatus `json:"last_status,omitempty"`
	Expires       *time.Time    `json:"expires,omitempty"` // when the consent behind the channel ends
	LastSuccessAt *time.Time    `json:"last_success_at,omitempty"`
	LastEndAt     *time.Time    `json:"last_end_at,omitempty"`
	Action        Action        `json:"action,omitempty"`
	Failure       *Failure      `json:"failure,omitempty"`
	NextTryAt     *time.Time    `json:"next_try_at,omitempty"`
	Challenge     *Challenge    `json:"challenge,omitempty"`
	Failures      int           `json:"-"` // failed attempts in a row, for the back-off
}

// ChannelStatus is the state of a channel (design: state machines).
type ChannelStatus string

// Channel statuses. Every one but RUNNING is final until the next session.
const (
	ChannelEmpty                  ChannelStatus = "EMPTY"
	ChannelRunning                ChannelStatus = "RUNNING"
	ChannelSuccess                ChannelStatus = "SUCCESS"
	ChannelPartialSuccess         ChannelStatus = "PARTIAL_SUCCESS"
	ChannelAuthFailed             ChannelStatus = "AUTH_FAILED"
	ChannelTokenExpired           ChannelStatus = "TOKEN_EXPIRED"
	ChannelPasswordChangeRequired ChannelStatus = "PASSWORD_CHANGE_REQUIRED"
	ChannelUserActionRequired     ChannelStatus = "USER_ACTION_REQUIRED"
	ChannelChallengeRequired      ChannelStatus = "CHALLENGE_REQUIRED"
	ChannelUnavailable            ChannelStatus = "UNAVAILABLE"
	ChannelClosed                 ChannelStatus = "CLOSED"
)

// NeedsUser reports whether the channel stays as it is until its user acts.
func (s ChannelStatus) NeedsUser() bool {
	switch s {
	case ChannelAuthFailed, ChannelTokenExpired, ChannelPasswordChangeRequired,
		ChannelUserActionRequired, ChannelChallengeRequired:
		return true
	}
	return false
}

// Succeeded reports whether the last run of the channel delivered data.
func (s ChannelStatus) Succeeded() bool {
	return s == ChannelSuccess || s == ChannelPartialSuccess
}

// Final is the last final status: what a dialect shows that knows neither an
// unavailable bank nor the hub's other inner states.
func (c Channel) Final() ChannelStatus {
	if c.Status != ChannelRunning && c.Status != ChannelUnavailable {
		return c.Status
	}
	if c.LastStatus == "" {
		return ChannelEmpty
	}
	return c.LastStatus
}

// Action is what a user must do so that a channel works again.
type Action string

// Actions.
const (
	ActionNone        Action = ""
	ActionRedirect    Action = "REDIRECT"    // visit the bank's consent pages through the hub's start page
	ActionCredentials Action = "CREDENTIALS" // give new credentials
	ActionBankSite    Action = "BANK_SITE"   // do something on the bank's own site, then synchronize
	ActionChallenge   Action = "CHALLENGE"   // answer the bank's challenge
)

// Failure says why something ended without success.
type Failure struct {
	Reason FailureReason `json:"reason"`
	// Code is the bank's own error code, if it sent one.
	Code string `json:"code,omitempty"`
	Text string `json:"text,omitempty"`
	// Retry tells whether trying again without the user can help.
	Retry bool `json:"retry"`
}

// FailureReason is a closed list of causes.
type FailureReason string

// Failure reasons.
const (
	FailCredentials    FailureReason = "wrong_credentials"
	FailPassword       FailureReason = "password_change_required"
	FailUserAction     FailureReason = "user_action_required"
	FailChallenge      FailureReason = "challenge_unanswered"
	FailChallengeWrong FailureReason = "challenge_failed"
	FailRefused        FailureReason = "refused"
	FailAborted        FailureReason = "aborted"
	FailConsentExpired FailureReason = "consent_expired"
	FailConsentRevoked FailureReason = "consent_revoked"
	FailConsentInvalid FailureReason = "consent_invalid"
	FailTokenExpired   FailureReason = "token_expired"
	FailRateLimited    FailureReason = "rate_limited"
	FailQuota          FailureReason = "quota_used_up"
	FailUnavailable    FailureReason = "bank_unavailable"
	FailProtocol       FailureReason = "bank_answer_unreadable"
	FailFormat         FailureReason = "format_not_supported"
	FailAccount        FailureReason = "account_not_accessible"
	FailUnstable       FailureReason = "list_changed_while_read"
	FailOperator       FailureReason = "bank_refused_the_hub"
	FailInternal       FailureReason = "internal_error"
)

// Challenge is a question of the bank that waits for its user.
type Challenge struct {
	Kind     ChallengeKind     `json:"kind"`
	Methods  []ChallengeMethod `json:"methods,omitempty"` // to choose from, when Kind is ChallengeMethodChoice
	Method   string            `json:"method,omitempty"`  // the name of the chosen method
	Text     string            `json:"text,omitempty"`    // the bank's words to the user
	Format   string            `json:"format,omitempty"`  // integer, characters
	MaxLen   int               `json:"max_length,omitempty"`
	Image    []byte            `json:"image,omitempty"`
	Deadline time.Time         `json:"deadline"`
}

// ChallengeKind says what kind of answer is expected.
type ChallengeKind string

// Kinds of challenge.
const (
	ChallengeCredentials  ChallengeKind = "CREDENTIALS"
	ChallengeMethodChoice ChallengeKind = "METHOD"
	ChallengeCode         ChallengeKind = "CODE"
	ChallengeRedirect     ChallengeKind = "REDIRECT"
	ChallengeApp          ChallengeKind = "APP" // confirm in the bank's app
)

// ChallengeMethod is one way in which the bank can challenge its user.
type ChallengeMethod struct {
	ID   string `json:"id"`
	Type string `json:"type,omitempty"` // SMS_OTP, CHIP_OTP, PHOTO_OTP, PUSH_OTP …
	Name string `json:"name,omitempty"`
}

// ConnectionStatus summarizes the channels of a connection.
type ConnectionStatus string

// Connection statuses.
const (
	ConnectionRunning        ConnectionStatus = "RUNNING"
	ConnectionSuccess        ConnectionStatus = "SUCCESS"
	ConnectionPartialSuccess ConnectionStatus = "PARTIAL_SUCCESS"
	ConnectionFailed         ConnectionStatus = "FAILED"
	ConnectionClosed         ConnectionStatus = "CLOSED"
	ConnectionNone           ConnectionStatus = "NONE"
)

// DeriveStatus computes the connection's status from its channels: RUNNING
// wins; then FAILED if any channel needs its user; an unavailable bank counts
// as partial beside a success and as a failure alone; EMPTY channels do not
// count, unless there is nothing else. A connection without channels is
// imported and has none.
func DeriveStatus(channels []Channel) ConnectionStatus {
	var running, needsUser, unavailable, success, partial, closed, failedEmpty bool
	for _, c := range channels {
		switch {
		case c.Status == ChannelRunning:
			running = true
		case c.Status.NeedsUser():
			needsUser = true
		case c.Status == ChannelUnavailable:
			unavailable = true
		case c.Status == ChannelSuccess:
			success = true
		case c.Status == ChannelPartialSuccess:
			partial = true
		case c.Status == ChannelClosed:
			closed = true
		case c.Status == ChannelEmpty && c.Failure != nil:
			failedEmpty = true
		}
	}
	switch {
	case running:
		return ConnectionRunning
	case needsUser:
		return ConnectionFailed
	case (success || partial) && (unavailable || partial):
		return ConnectionPartialSuccess
	case success:
		return ConnectionSuccess
	case unavailable || failedEmpty:
		return ConnectionFailed
	case closed:
		return ConnectionClosed
	}
	return ConnectionNone
}
