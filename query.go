package bankfeed

import (
	"slices"
	"time"
)

// AccountFilter narrows a list of accounts; zero parts match everything.
type AccountFilter struct {
	Connection ConnectionID
	Removed    bool // also those that their bank no longer lists
}

// TransactionFilter narrows a list of transactions, which comes newest day
// first; zero parts match everything.
type TransactionFilter struct {
	Accounts  []AccountID
	Statuses  []TransactionStatus
	From, To  Date // by Transaction.Day, both inclusive
	Min, Max  *Amount
	CreatedAt time.Time      // first stored at this time or later
	Before    TransactionKey // only what comes after this one in the list
	Offset    int
	Limit     int
}

// TransactionKey is a place in a list of transactions.
type TransactionKey struct {
	Day Date
	ID  TransactionID
}

// ConnectionState is everything that is stored about one connection, as a
// decision needs it.
type ConnectionState struct {
	User       User
	Connection Connection
	// Session is the open one, or the one that was asked for; nil if there is
	// none.
	Session  *Session
	Consents []Consent // newest first, also those that are being removed
	Accounts []Account // removed ones included
	Progress []Progress
}

// Consent finds a consent by its number, nil if it is not there.
func (s *ConnectionState) Consent(id ConsentID) *Consent {
	for i := range s.Consents {
		if s.Consents[i].ID == id {
			return &s.Consents[i]
		}
	}
	return nil
}

// Confirmed finds the confirmed consent of a channel, nil if there is none.
func (s *ConnectionState) Confirmed(m Mode) *Consent {
	for i := range s.Consents {
		if s.Consents[i].Mode == m && s.Consents[i].Status == ConsentConfirmed {
			return &s.Consents[i]
		}
	}
	return nil
}

// Account finds an account by its number, nil if it is not there.
func (s *ConnectionState) Account(id AccountID) *Account {
	for i := range s.Accounts {
		if s.Accounts[i].ID == id {
			return &s.Accounts[i]
		}
	}
	return nil
}

// Spent lists the accounts removed by request that no consent could list any
// more: there is nothing to recognise them for.
func (s *ConnectionState) Spent() (ids []AccountID) {
	for _, a := range s.Accounts {
		lives := func(x AccountAccess) bool { k := s.Consent(x.Consent); return k != nil && k.Status == ConsentConfirmed }
		if a.Status == AccountDeleted && !slices.ContainsFunc(a.Withheld, lives) {
			ids = append(ids, a.ID)
		}
	}
	return ids
}

// Linking is a request to link a channel, or to renew it.
type Linking struct {
	Tenant   TenantID
	User     UserID
	Sandbox  bool         // of the client: it sees sandbox providers only, a live one none of them
	Provider string       // for a new connection
	Renew    ConnectionID // for an existing one
	Channels []LinkChannel
	// RedirectURL is where the PSU ends up afterwards; empty shows a page of
	// the hub.
	RedirectURL       string
	PSU               *PSU // set when the request told the PSU's address
	SessionExternalID string
	ConsentExternalID string
}

// LinkChannel is one channel to link. Credentials are for EMBEDDED ones.
type LinkChannel struct {
	Mode     Mode
	Login    Secret
	Password Secret
}

// Linked is what came of it so far.
type Linked struct {
	Connection Connection
	Session    Session
	Steps      []LinkStep
}

// LinkStep is what a channel needs next from its user: a visit to a URL, or an
// answer to a challenge. Neither: the channel is on its way.
type LinkStep struct {
	Mode        Mode
	RedirectURL string
	Challenge   *Challenge
}

// Answer is a PSU's answer to a challenge.
type Answer struct {
	Tenant     TenantID
	User       UserID
	Connection ConnectionID
	Mode       Mode // empty: the one channel that has a challenge
	PSU        *PSU
	Login      Secret
	Password   Secret
	MethodID   string
	Code       Secret
}

// SyncOrder asks for a session.
type SyncOrder struct {
	Tenant     TenantID
	User       UserID
	Connection ConnectionID
	Type       SessionType
	PSU        *PSU // attended when set
	Initiator  Initiator
	ExternalID string
}
