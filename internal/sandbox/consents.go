package sandbox

import (
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/google/uuid"
)

// The consent states this bank uses.
const (
	statusReceived   = "received"
	statusRejected   = "rejected"
	statusValid      = "valid"
	statusRevoked    = "revokedByPsu"
	statusExpired    = "expired"
	statusTerminated = "terminatedByTpp"
)

const (
	maxFrequency  = 4   // unattended accesses per day that the bank grants at most
	maxValidDays  = 180 // longest consent, the SCA period of Regulation (EU) 2022/2360
	linkLifetime  = 30 * time.Minute
	allAccounts   = "allAccounts"
	allWithOwners = "allAccountsWithOwnerName"
)

// consent is an account information consent resource.
type consent struct {
	ID             string               `json:"id"`
	Channel        string               `json:"channel"`
	Segment        string               `json:"segment"`
	Mask           string               `json:"mask,omitempty"`
	PSU            string               `json:"psu"`
	Access         access               `json:"access"`
	Recurring      bool                 `json:"recurring"`
	ValidUntil     int                  `json:"validUntil"` // last day, counted from 1970
	Frequency      int                  `json:"frequency"`
	Status         string               `json:"status"`
	Created        time.Time            `json:"created"`
	LastAction     time.Time            `json:"lastAction"`
	RedirectURI    string               `json:"redirectUri"`
	NokURI         string               `json:"nokUri"`
	Authorisations []string             `json:"authorisations"`
	Chosen         []string             `json:"chosen,omitempty"` // accounts picked on the bank's page
	WrongPasswords int                  `json:"wrongPasswords,omitempty"`
	TokenExpired   bool                 `json:"tokenExpired,omitempty"`
	ReadThrough    map[string]time.Time `json:"readThrough,omitempty"` // account to when its list was first read to the end
	Calls          map[string][]int64   `json:"calls,omitempty"`       // kind and account to the times of unattended accesses
	DeltaDay       map[string]int       `json:"deltaDay,omitempty"`    // account to the day deltaList was last read
}

// access is what a TPP asks for. A nil list was not asked for, an empty one
// leaves the choice to the PSU.
type access struct {
	Accounts                     *[]accountReference `json:"accounts,omitempty"`
	Balances                     *[]accountReference `json:"balances,omitempty"`
	Transactions                 *[]accountReference `json:"transactions,omitempty"`
	AvailableAccounts            string              `json:"availableAccounts,omitempty"`
	AvailableAccountsWithBalance string              `json:"availableAccountsWithBalance,omitempty"`
	AllPSD2                      string              `json:"allPsd2,omitempty"`
}

type consentRequest struct {
	Access     *access `json:"access"`
	Recurring  *bool   `json:"recurringIndicator"`
	ValidUntil *string `json:"validUntil"`
	Frequency  *int    `json:"frequencyPerDay"`
	Combined   *bool   `json:"combinedServiceIndicator"`
}

func (q *consentRequest) check(today int) (validUntil int, err error) {
	switch {
	case q.Access == nil:
		return 0, formatError("access", "The element is missing.")
	case q.Recurring == nil:
		return 0, formatError("recurringIndicator", "The element is missing.")
	case q.ValidUntil == nil:
		return 0, formatError("validUntil", "The element is missing.")
	case q.Frequency == nil:
		return 0, formatError("frequencyPerDay", "The element is missing.")
	case q.Combined == nil:
		return 0, formatError("combinedServiceIndicator", "The element is missing.")
	case *q.Combined:
		return 0, &fault{status: 400, code: "SESSIONS_NOT_SUPPORTED", path: "combinedServiceIndicator", text: "The bank does not combine services."}
	case *q.Frequency < 1:
		return 0, formatError("frequencyPerDay", "The value must be at least 1.")
	}
	day, err := parseDay(*q.ValidUntil)
	if err != nil {
		return 0, formatError("validUntil", "The value is "+err.Error()+".")
	}
	if day < today {
		return 0, &fault{status: 400, code: "PERIOD_INVALID", path: "validUntil", text: "The date lies in the past."}
	}
	a := q.Access
	global := 0
	for _, v := range []string{a.AvailableAccounts, a.AvailableAccountsWithBalance, a.AllPSD2} {
		if v == "" {
			continue
		}
		global++
		if v != allAccounts && v != allWithOwners {
			return 0, formatError("access", "The value must be allAccounts or allAccountsWithOwnerName.")
		}
	}
	detailed := a.Accounts != nil || a.Balances != nil || a.Transactions != nil
	if global > 1 || (global == 1 && detailed) || (global == 0 && !detailed) {
		return 0, formatError("access", "Exactly one kind of access must be asked for.")
	}
	return min(day, today+maxValidDays), nil
}

// callbackURI checks a URI the PSU's browser will be sent to.
func callbackURI(name, value string, required bool) error {
	if value == "" && !required {
		return nil
	}
	u, err := url.Parse(value)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return formatError(name, "The header "+name+" must be an absolute http or https URI.")
	}
	return nil
}

func (b *Bank) createConsent(c *call) (reply, error) {
	if !c.attended {
		return reply{}, formatError("PSU-IP-Address", "The header PSU-IP-Address is mandatory here.")
	}
	h := c.r.Header
	if c.channel == redirect {
		if err := callbackURI("TPP-Redirect-URI", h.Get("TPP-Redirect-URI"), true); err != nil {
			return reply{}, err
		}
		if err := callbackURI("TPP-Nok-Redirect-URI", h.Get("TPP-Nok-Redirect-URI"), false); err != nil {
			return reply{}, err
		}
	}
	var q consentRequest
	if err := c.decode(&q); err != nil {
		return reply{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	validUntil, err := q.check(dayOf(now))
	if err != nil {
		return reply{}, err
	}
	con := &consent{
		ID: uuid.NewString(), Channel: c.channel, Segment: c.segment, Mask: c.mask, PSU: h.Get("PSU-ID"),
		Access: *q.Access, Recurring: *q.Recurring, ValidUntil: validUntil, Frequency: min(*q.Frequency, maxFrequency),
		Status: statusReceived, Created: now, LastAction: now,
		RedirectURI: h.Get("TPP-Redirect-URI"), NokURI: h.Get("TPP-Nok-Redirect-URI"),
	}
	b.prune()
	b.state.Consents[con.ID] = con
	b.changed()

	self := c.base + "/v1/consents/" + con.ID
	links := map[string]link{"self": {self}, "status": {self + "/status"}}
	header := map[string]string{"Location": self, "ASPSP-SCA-Approach": "EMBEDDED"}
	switch {
	case c.channel == embedded:
		links["startAuthorisationWithPsuAuthentication"] = link{self + "/authorisations"}
	case h.Get("TPP-Explicit-Authorisation-Preferred") == "true":
		header["ASPSP-SCA-Approach"] = "REDIRECT"
		links["startAuthorisation"] = link{self + "/authorisations"}
	default:
		header["ASPSP-SCA-Approach"] = "REDIRECT"
		auth := b.newAuthorisation(con)
		links["scaRedirect"] = link{c.pages + "/sca/" + con.Segment + "/" + auth.ID}
		links["scaStatus"] = link{self + "/authorisations/" + auth.ID}
	}
	return reply{status: http.StatusCreated, header: header, body: map[string]any{
		"consentStatus": con.Status, "consentId": con.ID, "_links": links,
	}}, nil
}

// consentByPath finds the consent named in the URL, brought up to date. The caller holds mu.
func (b *Bank) consentByPath(c *call) (*consent, error) {
	con := b.state.Consents[c.value("consent")]
	if !c.opened(con) {
		return nil, &fault{status: 403, code: "CONSENT_UNKNOWN", text: "There is no such consent."}
	}
	b.refresh(con)
	return con, nil
}

// refresh lets time act on a consent. The caller holds mu.
func (b *Bank) refresh(con *consent) {
	now := b.now()
	switch {
	case con.Status == statusValid && dayOf(now) > con.ValidUntil:
		b.end(con, statusExpired)
	case con.Status == statusReceived:
		for _, id := range con.Authorisations {
			if a := b.state.Authorisations[id]; a != nil && a.open() && now.Sub(a.Created) > linkLifetime {
				b.fail(a)
			}
		}
	}
}

// end moves a consent to a final status. The caller holds mu.
func (b *Bank) end(con *consent, status string) {
	con.Status, con.LastAction = status, b.now()
	b.changed()
}

func (b *Bank) getConsent(c *call) (reply, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	con, err := b.consentByPath(c)
	if err != nil {
		return reply{}, err
	}
	granted := con.Access
	if con.Status == statusValid && granted.AllPSD2 == "" && granted.AvailableAccounts == "" && granted.AvailableAccountsWithBalance == "" {
		granted = b.granted(c, con)
	}
	return reply{status: http.StatusOK, body: map[string]any{
		"access": granted, "recurringIndicator": con.Recurring, "validUntil": dayText(con.ValidUntil),
		"frequencyPerDay": con.Frequency, "lastActionDate": dayText(dayOf(con.LastAction)), "consentStatus": con.Status,
		"_links": map[string]link{"account": {c.base + "/v1/accounts"}},
	}}, nil
}

// granted spells out which accounts a detailed consent opened. The caller holds mu.
func (b *Bank) granted(c *call, con *consent) access {
	u, ok := lookupUser(con.PSU)
	if !ok {
		return con.Access
	}
	all := visible(accountsOf(b.state.Seed, u, b.user(u.Login)), con.Channel)
	list := func(asked *[]accountReference, kind string) *[]accountReference {
		if asked == nil {
			return nil
		}
		out := []accountReference{}
		for _, a := range all {
			if con.opens(&a, kind) {
				out = append(out, c.reference(a))
			}
		}
		return &out
	}
	return access{
		Accounts: list(con.Access.Accounts, kindDetails), Balances: list(con.Access.Balances, kindBalances),
		Transactions: list(con.Access.Transactions, kindTransactions),
	}
}

// opens reports whether the consent lets a TPP read this kind of data of an account.
func (con *consent) opens(a *account, kind string) bool {
	acc := &con.Access
	if con.Chosen != nil && !slices.Contains(con.Chosen, a.name) {
		return false
	}
	switch {
	case acc.AllPSD2 != "":
		return true
	case acc.AvailableAccounts != "":
		return kind == kindDetails
	case acc.AvailableAccountsWithBalance != "":
		return kind == kindDetails || kind == kindBalances
	}
	within := func(list *[]accountReference) bool {
		if list == nil {
			return false
		}
		return len(*list) == 0 || slices.ContainsFunc(*list, a.matches)
	}
	switch kind {
	case kindBalances:
		return within(acc.Balances)
	case kindTransactions:
		return within(acc.Transactions)
	}
	return within(acc.Accounts) || within(acc.Balances) || within(acc.Transactions)
}

// bankOffered reports whether the TPP left the choice of accounts to the PSU.
func (a *access) bankOffered() bool {
	for _, list := range []*[]accountReference{a.Accounts, a.Balances, a.Transactions} {
		if list != nil && len(*list) == 0 {
			return true
		}
	}
	return false
}

func (b *Bank) getConsentStatus(c *call) (reply, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	con, err := b.consentByPath(c)
	if err != nil {
		return reply{}, err
	}
	return reply{status: http.StatusOK, body: map[string]string{"consentStatus": con.Status}}, nil
}

func (b *Bank) deleteConsent(c *call) (reply, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	con, err := b.consentByPath(c)
	if err != nil {
		return reply{}, err
	}
	if con.Status == statusReceived || con.Status == statusValid {
		b.end(con, statusTerminated)
	}
	return reply{status: http.StatusNoContent}, nil
}
