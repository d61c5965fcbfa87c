package oxlin

import (
	"github.com/bankfeed/bankfeed"
)

// EventType names an event on a queue.
type EventType string

// Event types. SYNC_ALL_STARTED, SYNC_ALL_SUCCESS and the five that ask for a
// user are on the vendor's page; the others follow their pattern.
const (
	SyncAllStarted EventType = "SYNC_ALL_STARTED"
	SyncAllSuccess EventType = "SYNC_ALL_SUCCESS"
	SyncAllFailed  EventType = "SYNC_ALL_FAILED"

	AuthStarted       EventType = "AUTH_STARTED"
	AuthSuccess       EventType = "AUTH_SUCCESS"
	ProviderConnected EventType = "PROVIDER_CONNECTED"

	AuthFailed             EventType = "AUTH_FAILED"
	TokenExpired           EventType = "TOKEN_EXPIRED"
	PasswordChangeRequired EventType = "PASSWORD_CHANGE_REQUIRED"
	UserActionRequired     EventType = "USER_ACTION_REQUIRED"
	ChallengeRequired      EventType = "CHALLENGE_REQUIRED"

	ListAccountsStarted     EventType = "LIST_ACCOUNTS_STARTED"
	ListAccountsSuccess     EventType = "LIST_ACCOUNTS_SUCCESS"
	ListAccountsFailed      EventType = "LIST_ACCOUNTS_FAILED"
	ListTransactionsStarted EventType = "LIST_TRANSACTIONS_STARTED"
	ListTransactionsSuccess EventType = "LIST_TRANSACTIONS_SUCCESS"
	ListTransactionsFailed  EventType = "LIST_TRANSACTIONS_FAILED"

	ConsentCreated  EventType = "CONSENT_CREATED"
	ConsentUpdated  EventType = "CONSENT_UPDATED"
	ConsentDeleted  EventType = "CONSENT_DELETED"
	ConsentExpiring EventType = "CONSENT_EXPIRING"

	ConnectionCreated EventType = "CONNECTION_CREATED"
	ConnectionDeleted EventType = "CONNECTION_DELETED"
)

// EventTypes lists them in the order of a connection's life.
var EventTypes = []EventType{
	ConnectionCreated, SyncAllStarted, AuthStarted, AuthFailed, TokenExpired, PasswordChangeRequired, UserActionRequired, ChallengeRequired,
	AuthSuccess, ProviderConnected, ListAccountsStarted, ListAccountsSuccess, ListAccountsFailed, ListTransactionsStarted,
	ListTransactionsSuccess, ListTransactionsFailed, ConsentCreated, ConsentUpdated, ConsentExpiring, ConsentDeleted, SyncAllSuccess,
	SyncAllFailed, ConnectionDeleted,
}

// faces is what an event of the hub is called here. channel.action_required is
// named by its reason instead; what is missing has no face on a queue.
var faces = map[bankfeed.EventType]EventType{
	bankfeed.EventConnectionCreated:     ConnectionCreated,
	bankfeed.EventConnectionDeleted:     ConnectionDeleted,
	bankfeed.EventSyncStarted:           SyncAllStarted,
	bankfeed.EventSyncSucceeded:         SyncAllSuccess,
	bankfeed.EventSyncFailed:            SyncAllFailed,
	bankfeed.EventAuthStarted:           AuthStarted,
	bankfeed.EventAuthSucceeded:         AuthSuccess,
	bankfeed.EventProviderConnected:     ProviderConnected,
	bankfeed.EventAccountsListStarted:   ListAccountsStarted,
	bankfeed.EventAccountsListSucceeded: ListAccountsSuccess,
	bankfeed.EventAccountsListFailed:    ListAccountsFailed,
	bankfeed.EventTransactionsStarted:   ListTransactionsStarted,
	bankfeed.EventTransactionsSucceeded: ListTransactionsSuccess,
	bankfeed.EventTransactionsFailed:    ListTransactionsFailed,
	bankfeed.EventConsentCreated:        ConsentCreated,
	bankfeed.EventConsentUpdated:        ConsentUpdated,
	bankfeed.EventConsentDeleted:        ConsentDeleted,
	bankfeed.EventConsentExpiring:       ConsentExpiring,
}

var reasons = map[bankfeed.ChannelStatus]EventType{
	bankfeed.ChannelAuthFailed:             AuthFailed,
	bankfeed.ChannelTokenExpired:           TokenExpired,
	bankfeed.ChannelPasswordChangeRequired: PasswordChangeRequired,
	bankfeed.ChannelUserActionRequired:     UserActionRequired,
	bankfeed.ChannelChallengeRequired:      ChallengeRequired,
}

// Categories groups event types, as the vendor's page does.
var Categories = []string{"global", "login", "choose_bank", "synchronization", "consent"}

// ResourceType is the same for the whole topic "connections".
const ResourceType = "CONNECTION"

// Event is one entry of a queue.
type Event struct {
	ID                  string     `json:"id" doc:"Grows within one user's events; gaps are normal."`
	EventType           EventType  `json:"event_type"`
	ResourceType        string     `json:"resource_type" enum:"CONNECTION"`
	CreationDate        Seconds    `json:"creation_date"`
	ChannelDefinitionID string     `json:"channel_definition_id" doc:"The channel it is about; for an event of the whole connection the one that started or ended last."`
	Category            string     `json:"category" doc:"Extra."`
	Resource            Connection `json:"resource" doc:"The connection when the event happened."`
}

// RenderEvent draws an event as queues show it. It is a pure function of the
// event: the same bytes today and after any update of the hub. ok is false for
// an event that has no face here, and for one that was erased.
func RenderEvent(e bankfeed.Event) (w Event, ok bool) {
	if e.Snapshot == nil || e.Snapshot.Connection == nil {
		return Event{}, false
	}
	s, c := e.Snapshot, *e.Snapshot.Connection
	face, ok := faces[e.Type]
	if e.Type == bankfeed.EventActionRequired {
		face, ok = reasons[s.Reason]
	}
	if !ok {
		return Event{}, false
	}
	info, _ := e.Type.Info()
	w = Event{
		ID: id(e.Position), EventType: face, ResourceType: ResourceType, CreationDate: SecondsOf(e.At), Category: info.Category,
		ChannelDefinitionID: bankfeed.ChannelDefinitionID(c.ProviderID, eventMode(s)), Resource: RenderConnection(c),
	}
	if e.Type == bankfeed.EventAccountsListSucceeded {
		w.Resource.Accounts = make([]Account, 0, len(s.Accounts))
		for _, a := range s.Accounts {
			w.Resource.Accounts = append(w.Resource.Accounts, RenderAccount(a, c))
		}
	}
	return w, true
}

// eventMode is the channel that an event names. The vendor never leaves it
// out, so an event of the whole connection names the channel that started or
// ended last: a running one before one at rest, then the newest end, then the
// first. An imported connection has no channel; its provider's PSD2 one stands
// in.
func eventMode(s *bankfeed.Snapshot) bankfeed.Mode {
	switch {
	case s.Channel != "":
		return s.Channel
	case s.Consent != nil && s.Consent.Mode != "":
		return s.Consent.Mode
	case len(s.Connection.Channels) == 0:
		return bankfeed.Redirect
	}
	last := s.Connection.Channels[0]
	for _, c := range s.Connection.Channels[1:] {
		if later(c, last) {
			last = c
		}
	}
	return last.Mode
}

func later(a, b bankfeed.Channel) bool {
	if runs := a.Status == bankfeed.ChannelRunning; runs != (b.Status == bankfeed.ChannelRunning) {
		return runs
	}
	return a.LastEndAt != nil && (b.LastEndAt == nil || a.LastEndAt.After(*b.LastEndAt))
}
