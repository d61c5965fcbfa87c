package bankfeed

import "time"

// Consent is a PSU's permission for one channel of a connection.
type Consent struct {
	ID           ConsentID     `json:"id"`
	ExternalID   string        `json:"external_id,omitempty"` // the client's own id
	Mode         Mode          `json:"mode"`
	Status       ConsentStatus `json:"status"`
	Previous     ConsentStatus `json:"previous_status,omitempty"`
	Invalidation *Invalidation `json:"invalidation,omitempty"`
	ValidUntil   Date          `json:"valid_until,omitempty"` // as the bank granted it, its local day
	CreatedAt    time.Time     `json:"created_at"`
	ConfirmedAt  *time.Time    `json:"confirmed_at,omitempty"`
	// Accounts the consent reaches, as far as they are known.
	Accounts []ConsentAccount `json:"accounts,omitempty"`

	User            UserID       `json:"-"`
	Connection      ConnectionID `json:"-"`
	FrequencyPerDay int          `json:"-"` // unattended accesses the bank allows a day
	AccountsListed  bool         `json:"-"` // the account list was read under this consent
	FreshUntil      time.Time    `json:"-"` // until when the bank serves deep history after SCA
	Grant           Grant        `json:"-"`
	Session         SessionID    `json:"-"` // the link session that asked for it
	WarnedAt        *time.Time   `json:"-"` // when its end was announced
	DeletedAt       *time.Time   `json:"-"` // when its removal was asked for, which goes on in the background
	Version         int64        `json:"-"`
}

// Grant is what proves a consent to the bank. All of it is sealed at rest.
type Grant struct {
	ConsentID       Secret
	AuthorisationID Secret
	AccessToken     Secret
	RefreshToken    Secret
	TokenExpiresAt  time.Time
	// Links and choices of a running authorisation, in the connector's own form.
	State Secret
}

// ConsentAccount names an account inside a consent.
type ConsentAccount struct {
	ID       AccountID `json:"id"`
	IBAN     string    `json:"iban,omitempty"`
	Currency string    `json:"currency,omitempty"`
}

// Invalidation says when and why a consent stopped working.
type Invalidation struct {
	At          time.Time          `json:"at"`
	Reason      InvalidationReason `json:"reason"`
	Description string             `json:"description,omitempty"` // the bank's code and text
}

// InvalidationReason is the hub's own reading of why; Expired unless the bank
// said otherwise.
type InvalidationReason string

// Invalidation reasons, as the stream writes them.
const (
	InvalidExpired      InvalidationReason = "Expired"
	InvalidRevokedByPSU InvalidationReason = "RevokedByPsu"
	InvalidTerminated   InvalidationReason = "TerminatedByTpp"
	InvalidReplaced     InvalidationReason = "Replaced"
)

// ConsentStatus is the hub's state of a consent:
// received → rejected | confirmed → invalid → deleted.
type ConsentStatus string

// Consent statuses.
const (
	ConsentReceived  ConsentStatus = "received"
	ConsentRejected  ConsentStatus = "rejected"
	ConsentConfirmed ConsentStatus = "confirmed"
	ConsentInvalid   ConsentStatus = "invalid"
	ConsentDeleted   ConsentStatus = "deleted"
)
