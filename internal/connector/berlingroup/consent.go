package berlingroup

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/connector"
)

var errUnattended = errors.New("a consent needs its PSU present, with an address")

// consentRequest is the body of POST /v1/consents. Empty lists leave it to the
// PSU to choose accounts on the bank's side.
type consentRequest struct {
	Access          access        `json:"access"`
	Recurring       bool          `json:"recurringIndicator"`
	ValidUntil      bankfeed.Date `json:"validUntil"`
	FrequencyPerDay int           `json:"frequencyPerDay"`
	Combined        bool          `json:"combinedServiceIndicator"`
}

type access struct {
	Accounts     []struct{} `json:"accounts"`
	Balances     []struct{} `json:"balances"`
	Transactions []struct{} `json:"transactions"`
}

// longest asks for the longest consent that the bank grants (1.3.12,
// validUntil).
const longest bankfeed.Date = "9999-12-31"

// CreateConsent implements connector.Consenter. When it fails after the bank
// has made a consent, the step still carries the grant, so that the consent
// can be deleted.
func (c *Connector) CreateConsent(ctx context.Context, a connector.Access, r connector.ConsentRequest) (connector.ConsentStep, error) {
	if a.PSU == nil || a.PSU.IP == "" {
		return connector.ConsentStep{}, &connector.Error{Reason: bankfeed.FailInternal, Err: errUnattended}
	}
	base, err := endpoint(a)
	if err != nil {
		return connector.ConsentStep{}, err
	}
	a.Grant = bankfeed.Grant{AccessToken: a.Grant.AccessToken, RefreshToken: a.Grant.RefreshToken, TokenExpiresAt: a.Grant.TokenExpiresAt}
	if err := checkLogin(r.PSUID); err != nil {
		return connector.ConsentStep{}, err
	}
	f := &flow{c: c, a: a, base: base, state: state{PSUID: string(r.PSUID), RedirectURI: r.RedirectURI, NokRedirectURI: r.NokRedirectURI}}
	body := consentRequest{
		Access:    access{[]struct{}{}, []struct{}{}, []struct{}{}},
		Recurring: r.Recurring, ValidUntil: r.ValidUntil, FrequencyPerDay: max(1, r.FrequencyPerDay),
	}
	if body.ValidUntil == "" {
		body.ValidUntil = longest
	}
	q := &call{context: bankfeed.CallCreateConsent, phase: phaseCreate, method: http.MethodPost, url: base.String() + "/v1/consents",
		header: http.Header{}, body: body, limit: maxConsentBody, secrets: []bankfeed.Secret{r.PSUID}}
	if r.PSUID != "" {
		q.header.Set("PSU-ID", string(r.PSUID))
	}
	f.redirects(q.header)
	err = c.exchange(ctx, a, base, q, func(ans answer) error {
		if err := f.take(q, ans); err != nil {
			return err
		}
		if f.a.Grant.ConsentID == "" {
			return unreadable(ans.status, errors.New("the answer has no consentId"))
		}
		return nil
	})
	if err != nil {
		return connector.ConsentStep{Grant: f.a.Grant}, err
	}
	return f.run(ctx)
}

// Continue implements connector.Consenter. After a refusal the stored grant
// stays good for another try if the error says so.
func (c *Connector) Continue(ctx context.Context, a connector.Access, in connector.Input) (connector.ConsentStep, error) {
	base, err := endpoint(a)
	if err != nil {
		return connector.ConsentStep{}, err
	}
	s, err := unseal(a.Grant.State)
	if err != nil {
		return connector.ConsentStep{}, &connector.Error{Reason: bankfeed.FailInternal, Err: err}
	}
	for name, href := range s.Links { // the endpoint may have moved meanwhile
		if !leadsOn(name) {
			continue
		}
		if _, err := resolve(base, base.String(), href); err != nil {
			return connector.ConsentStep{}, unreadable(0, err)
		}
	}
	if err := checkLogin(in.PSUID); err != nil {
		return connector.ConsentStep{}, err
	}
	if in.PSUID != "" {
		s.PSUID = string(in.PSUID)
	}
	f := &flow{c: c, a: a, base: base, state: s, in: in}
	if in == (connector.Input{}) && s.Links["scaStatus"] != "" {
		if err := f.poll(ctx); err != nil {
			return connector.ConsentStep{}, err
		}
	}
	return f.run(ctx)
}

// ConsentStatus implements connector.Consenter. For a valid consent it also
// asks what the bank granted, which may be less than what was asked for; a
// bank that does not tell leaves ValidUntil and FrequencyPerDay empty.
func (c *Connector) ConsentStatus(ctx context.Context, a connector.Access) (connector.ConsentInfo, error) {
	base, err := endpoint(a)
	if err != nil {
		return connector.ConsentInfo{}, err
	}
	got, err := c.readConsent(ctx, a, base, "/status")
	var e *connector.Error
	if errors.As(err, &e) && e.Reason == bankfeed.FailConsentExpired {
		return connector.ConsentInfo{State: connector.ConsentExpired, Raw: e.Code}, nil
	}
	if err != nil {
		return connector.ConsentInfo{}, err
	}
	info := connector.ConsentInfo{State: consentState(got.consentStatus), Raw: connector.Bound(got.consentStatus, 64)}
	if info.State != connector.ConsentValid {
		return info, nil
	}
	got, err = c.readConsent(ctx, a, base, "")
	if ctx.Err() != nil {
		return connector.ConsentInfo{}, err
	}
	if err == nil {
		info.ValidUntil = got.validUntil
		if n, err := strconv.Atoi(got.frequency); err == nil && n > 0 {
			info.FrequencyPerDay = n
		}
	}
	return info, nil
}

// checkLogin refuses a login that cannot be sent: it travels in a header.
func checkLogin(id bankfeed.Secret) error {
	if header(string(id)) {
		return nil
	}
	return &connector.Error{Reason: bankfeed.FailCredentials, Err: errors.New("the login has control characters")}
}

func (c *Connector) readConsent(ctx context.Context, a connector.Access, base *url.URL, what string) (got authorisation, err error) {
	q := &call{context: bankfeed.CallGetConsentStatus, phase: phaseConsent, method: http.MethodGet, url: consentURL(base, a) + what, limit: maxConsentBody}
	err = c.exchange(ctx, a, base, q, func(ans answer) error {
		if got, err = readAuthorisation(ans); err != nil {
			return err
		}
		if got.consentStatus == "" && what != "" {
			return unreadable(ans.status, errors.New("the answer has no consentStatus"))
		}
		return nil
	})
	return got, err
}

// consentState reads the standard's words; any other leaves the consent
// pending.
func consentState(status string) connector.ConsentState {
	switch status {
	case "valid":
		return connector.ConsentValid
	case "rejected":
		return connector.ConsentRejected
	case "expired":
		return connector.ConsentExpired
	case "revokedByPsu":
		return connector.ConsentRevoked
	case "terminatedByTpp":
		return connector.ConsentTerminated
	}
	return connector.ConsentPending // received, partiallyAuthorised
}

// DeleteConsent implements connector.Consenter.
func (c *Connector) DeleteConsent(ctx context.Context, a connector.Access) error {
	base, err := endpoint(a)
	if err != nil {
		return err
	}
	q := &call{context: bankfeed.CallDeleteConsent, phase: phaseConsent, method: http.MethodDelete, url: consentURL(base, a), limit: maxConsentBody}
	err = c.exchange(ctx, a, base, q, func(answer) error { return nil })
	var e *connector.Error
	if errors.As(err, &e) && gone(e) {
		return nil
	}
	return err
}

// gone reports whether a refusal means that the bank knows no such consent,
// or none that could still be ended.
func gone(e *connector.Error) bool {
	switch e.Code {
	case "CONSENT_UNKNOWN", "CONSENT_EXPIRED", "RESOURCE_UNKNOWN", "RESOURCE_EXPIRED", "STATUS_INVALID":
		return e.Status < 500
	}
	return e.Status == http.StatusNotFound || e.Status == http.StatusGone
}

func consentURL(base *url.URL, a connector.Access) string {
	return base.String() + "/v1/consents/" + url.PathEscape(string(a.Grant.ConsentID))
}
