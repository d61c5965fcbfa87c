package store

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/secret"
)

// The forms in which entities lie in their rows: the root package's own JSON
// tags are made for the log and leave out what is not for readers, so each form
// adds what a snapshot leaves out.

type connectionDoc struct {
	ProviderName string       `json:"provider_name"`
	BIC          string       `json:"bic,omitempty"`
	AutoSync     bool         `json:"auto_sync"`
	Channels     []channelDoc `json:"channels"`

	Removing []bankfeed.AccountID `json:"removing,omitempty"`
}

type channelDoc struct {
	bankfeed.Channel
	Failures int `json:"failures,omitempty"`
}

// consentDoc leaves out the accounts: they name their IBANs and are sealed.
type consentDoc struct {
	bankfeed.Consent
	FrequencyPerDay int                `json:"frequency_per_day,omitempty"`
	AccountsListed  bool               `json:"accounts_listed,omitempty"`
	FreshUntil      time.Time          `json:"fresh_until,omitzero"`
	Session         bankfeed.SessionID `json:"session,omitempty"`
	DeletedAt       *time.Time         `json:"deleted_at,omitempty"`
}

// grantDoc spells out the secrets of a grant, for sealing only.
type grantDoc struct {
	ConsentID       string    `json:"consent_id,omitempty"`
	AuthorisationID string    `json:"authorisation_id,omitempty"`
	AccessToken     string    `json:"access_token,omitempty"`
	RefreshToken    string    `json:"refresh_token,omitempty"`
	TokenExpiresAt  time.Time `json:"token_expires_at,omitzero"`
	State           string    `json:"state,omitempty"`
}

// consentSecret is the sealed part of a consent.
type consentSecret struct {
	grantDoc
	Accounts []bankfeed.ConsentAccount `json:"accounts,omitempty"`
}

// historyDoc is what is kept of a version of a consent for good, also when its
// user is erased: nothing in it names a person or an account.
type historyDoc struct {
	Mode       bankfeed.Mode               `json:"mode"`
	Previous   bankfeed.ConsentStatus      `json:"previous_status,omitempty"`
	Reason     bankfeed.InvalidationReason `json:"reason,omitempty"`
	ValidUntil bankfeed.Date               `json:"valid_until,omitempty"`
	Confirmed  *time.Time                  `json:"confirmed_at,omitempty"`
	Session    bankfeed.SessionID          `json:"session,omitempty"`
}

func historyOf(k *bankfeed.Consent) historyDoc {
	h := historyDoc{Mode: k.Mode, Previous: k.Previous, ValidUntil: k.ValidUntil, Confirmed: k.ConfirmedAt, Session: k.Session}
	if k.Invalidation != nil {
		h.Reason = k.Invalidation.Reason
	}
	return h
}

func sealGrant(g bankfeed.Grant) grantDoc {
	return grantDoc{string(g.ConsentID), string(g.AuthorisationID), string(g.AccessToken), string(g.RefreshToken), g.TokenExpiresAt, string(g.State)}
}

func (d grantDoc) grant() bankfeed.Grant {
	return bankfeed.Grant{ConsentID: bankfeed.Secret(d.ConsentID), AuthorisationID: bankfeed.Secret(d.AuthorisationID),
		AccessToken: bankfeed.Secret(d.AccessToken), RefreshToken: bankfeed.Secret(d.RefreshToken),
		TokenExpiresAt: d.TokenExpiresAt, State: bankfeed.Secret(d.State)}
}

type accountDoc struct {
	bankfeed.Account
	LastReadAt time.Time                `json:"last_read_at,omitzero"`
	Failure    *bankfeed.Failure        `json:"failure,omitempty"`
	Raw        string                   `json:"raw,omitempty"` // as text, because an encoder would rewrite JSON inside JSON
	Access     []bankfeed.AccountAccess `json:"access,omitempty"`
	Trust      bankfeed.IDTrust         `json:"trust,omitzero"`
	Withheld   []bankfeed.AccountAccess `json:"withheld,omitempty"`
}

type sessionDoc struct {
	Type      bankfeed.SessionType  `json:"type"`
	Initiator bankfeed.Initiator    `json:"initiator"`
	Attended  bool                  `json:"attended"`
	Failure   *bankfeed.Failure     `json:"failure,omitempty"`
	Runs      []bankfeed.ChannelRun `json:"runs"`
	FollowAll bool                  `json:"follow_all,omitempty"`
	Faults    int                   `json:"faults,omitempty"`
}

// What is sealed is bound to its owner and its use, so that one blob never
// opens in place of another's.
const (
	sealConsent     = "consent"
	sealAccount     = "account"
	sealTransaction = "transaction"
	sealPSU         = "psu"
	sealLink        = "link"
	sealReturn      = "return"
	sealEvent       = "event"
	sealRequest     = "request"
)

func ownerAAD(use string, tenant bankfeed.TenantID, user bankfeed.UserID) []byte {
	return secret.AAD(use, int64(tenant), int64(user))
}

// sealer is the sealer of a user; ErrErased once the user's key is destroyed.
func (s *Store) sealer(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID) (*secret.Sealer, error) {
	return s.userKeys.Sealer(ctx, tenant, user)
}

// owner seals and opens the records of one user.
type owner struct {
	*secret.Sealer
	tenant bankfeed.TenantID
	user   bankfeed.UserID
}

func (s *Store) owner(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID) (owner, error) {
	sealer, err := s.sealer(ctx, tenant, user)
	return owner{sealer, tenant, user}, err
}

func (o owner) seal(use string, v any) ([]byte, error) {
	plain, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("sealing a record (%s): %w", use, err)
	}
	return o.Seal(nil, plain, ownerAAD(use, o.tenant, o.user)), nil
}

func (o owner) open(use string, sealed []byte, v any) error {
	if sealed == nil {
		return nil
	}
	plain, err := o.Open(nil, sealed, ownerAAD(use, o.tenant, o.user))
	if err == nil {
		err = json.Unmarshal(plain, v)
	}
	if err != nil {
		return fmt.Errorf("opening a record (%s): %w", use, err)
	}
	return nil
}

// sealReturn seals where a link takes its user back to: the URL may hold a secret,
// as that of a web form does. Its column is text.
func (o owner) sealReturn(to string) string {
	if to == "" {
		return ""
	}
	return base64.StdEncoding.EncodeToString(o.Seal(nil, []byte(to), ownerAAD(sealReturn, o.tenant, o.user)))
}

// openReturn reads a URL as it is, too: links that were under way when the hub
// was brought up to date have it so.
func (o owner) openReturn(stored string) (string, error) {
	if stored == "" || strings.Contains(stored, ":") {
		return stored, nil
	}
	sealed, err := base64.StdEncoding.DecodeString(stored)
	if err == nil {
		var plain []byte
		if plain, err = o.Open(nil, sealed, ownerAAD(sealReturn, o.tenant, o.user)); err == nil {
			return string(plain), nil
		}
	}
	return "", fmt.Errorf("opening a record (%s): %w", sealReturn, err)
}
