package oxlin

import "github.com/bankfeed/bankfeed"

// ConnectionStatus is the state of a connection, derived from its channels.
type ConnectionStatus string

// ConnectionStatuses is the vendor's list; the hub's own words are the same.
var ConnectionStatuses = []ConnectionStatus{"RUNNING", "SUCCESS", "PARTIAL_SUCCESS", "FAILED", "CLOSED", "NONE"}

// ChannelStatus is the state of a channel.
type ChannelStatus string

// Channel statuses: those that the vendor is known to send, and no other.
const (
	ChannelEmpty                  ChannelStatus = "EMPTY" // never set up
	ChannelRunning                ChannelStatus = "RUNNING"
	ChannelSuccess                ChannelStatus = "SUCCESS"
	ChannelPartialSuccess         ChannelStatus = "PARTIAL_SUCCESS"
	ChannelAuthFailed             ChannelStatus = "AUTH_FAILED"
	ChannelTokenExpired           ChannelStatus = "TOKEN_EXPIRED"
	ChannelPasswordChangeRequired ChannelStatus = "PASSWORD_CHANGE_REQUIRED"
	ChannelUserActionRequired     ChannelStatus = "USER_ACTION_REQUIRED"
	ChannelChallengeRequired      ChannelStatus = "CHALLENGE_REQUIRED"
	ChannelClosed                 ChannelStatus = "CLOSED"
)

// ChannelStatuses lists them.
var ChannelStatuses = []ChannelStatus{
	ChannelEmpty, ChannelRunning, ChannelSuccess, ChannelPartialSuccess, ChannelAuthFailed, ChannelTokenExpired,
	ChannelPasswordChangeRequired, ChannelUserActionRequired, ChannelChallengeRequired, ChannelClosed,
}

var knownChannelStatus = func() map[ChannelStatus]bool {
	m := make(map[ChannelStatus]bool, len(ChannelStatuses))
	for _, s := range ChannelStatuses {
		m[s] = true
	}
	return m
}()

// channelStatus keeps the hub's inner states off the wire: a channel whose
// bank is down shows the last status it ended with, EMPTY if there was none.
func channelStatus(c bankfeed.Channel) ChannelStatus {
	if c.Status == bankfeed.ChannelRunning {
		return ChannelRunning
	}
	if s := ChannelStatus(c.Final()); knownChannelStatus[s] && s != ChannelRunning {
		return s
	}
	return ChannelEmpty
}

// Connection is the reduced form that events carry.
type Connection struct {
	ID           string           `json:"id"`
	ProviderID   string           `json:"provider_id"`
	Name         string           `json:"name" doc:"The provider's name."`
	Status       ConnectionStatus `json:"status"`
	CreationDate Seconds          `json:"creation_date"`
	Channels     []Channel        `json:"channels" nullable:"false"`
	Accounts     []Account        `json:"accounts,omitzero" nullable:"false" doc:"Of LIST_ACCOUNTS_SUCCESS: what the event's channel listed. Extra."`
}

// Channel is the state of one way to reach the bank.
type Channel struct {
	ChannelDefinitionID string        `json:"channel_definition_id" doc:"The provider's id, then 01 for REDIRECT or 00 for EMBEDDED."`
	Expires             *Seconds      `json:"expires,omitempty" doc:"When the consent behind the channel ends; absent while unknown."`
	Status              ChannelStatus `json:"status"`
	LastSuccessDate     *Seconds      `json:"last_success_date,omitempty"`
	LastEndDate         *Seconds      `json:"last_end_date,omitempty"`

	Action               bankfeed.Action `json:"action,omitempty" enum:"REDIRECT,CREDENTIALS,BANK_SITE,CHALLENGE" doc:"What the user must do. Extra."`
	Failure              *Failure        `json:"failure,omitempty" doc:"Why the last attempt failed, also while status still shows an older success. Extra."`
	NextSyncPossibleDate *Seconds        `json:"next_sync_possible_at,omitempty" doc:"Before this moment the bank will not be asked again. Extra."`
	Challenge            *Challenge      `json:"challenge,omitempty" doc:"A question of the bank that waits for its user while status is RUNNING. Extra."`
}

// Failure says why an attempt ended without success.
type Failure struct {
	Reason bankfeed.FailureReason `json:"reason"`
	Code   string                 `json:"code,omitempty" doc:"The bank's own code."`
	Text   string                 `json:"text,omitempty"`
	Retry  bool                   `json:"retry" doc:"Whether trying again without the user can help."`
}

// Challenge is a question of the bank to its user.
type Challenge struct {
	Kind      bankfeed.ChallengeKind `json:"kind" enum:"CREDENTIALS,METHOD,CODE,REDIRECT,APP"`
	Methods   []ChallengeMethod      `json:"methods,omitempty" nullable:"false" doc:"To choose from; answer with method_id."`
	Method    string                 `json:"method,omitempty" doc:"The chosen method's name."`
	Text      string                 `json:"text,omitempty" doc:"The bank's words to the user."`
	Format    string                 `json:"format,omitempty" doc:"Of the code: integer or characters."`
	MaxLength int                    `json:"max_length,omitempty"`
	Image     []byte                 `json:"image,omitempty"`
	Deadline  Seconds                `json:"deadline"`
}

// ChallengeMethod is one way in which the bank can ask.
type ChallengeMethod struct {
	ID   string `json:"id"`
	Type string `json:"type,omitempty"`
	Name string `json:"name,omitempty"`
}

// RenderConnection draws the reduced form.
func RenderConnection(c bankfeed.Connection) Connection {
	w := Connection{
		ID: id(c.ID), ProviderID: c.ProviderID, Name: c.ProviderName, Status: ConnectionStatus(c.Status),
		CreationDate: SecondsOf(c.CreatedAt), Channels: make([]Channel, len(c.Channels)),
	}
	for i, ch := range c.Channels {
		w.Channels[i] = renderChannel(c.ProviderID, ch)
	}
	return w
}

func renderChannel(providerID string, c bankfeed.Channel) Channel {
	w := Channel{
		ChannelDefinitionID: bankfeed.ChannelDefinitionID(providerID, c.Mode), Expires: secondsOrNil(c.Expires), Status: channelStatus(c),
		LastSuccessDate: secondsOrNil(c.LastSuccessAt), LastEndDate: secondsOrNil(c.LastEndAt), Action: c.Action,
		Failure: renderFailure(c.Failure), NextSyncPossibleDate: secondsOrNil(c.NextTryAt),
	}
	if c.Status == bankfeed.ChannelRunning {
		w.Challenge = RenderChallenge(c.Challenge)
	}
	return w
}

func renderFailure(f *bankfeed.Failure) *Failure {
	if f == nil {
		return nil
	}
	return &Failure{Reason: f.Reason, Code: f.Code, Text: f.Text, Retry: f.Retry}
}

// RenderChallenge draws a challenge; nil stays nil.
func RenderChallenge(c *bankfeed.Challenge) *Challenge {
	if c == nil {
		return nil
	}
	w := &Challenge{
		Kind: c.Kind, Method: c.Method, Text: c.Text, Format: c.Format, MaxLength: c.MaxLen, Image: c.Image, Deadline: SecondsOf(c.Deadline),
	}
	for _, m := range c.Methods {
		w.Methods = append(w.Methods, ChallengeMethod(m))
	}
	return w
}
