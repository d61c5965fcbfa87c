package sandbox

import (
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Kinds of data. Unattended accesses are counted per consent, account and kind.
const (
	kindAccounts     = "accounts" // the list
	kindDetails      = "details"
	kindBalances     = "balances"
	kindTransactions = "transactions"
)

// reading is an admitted read: whose data, under which consent, as of when.
type reading struct {
	con   *consent
	user  testUser
	state *userState // live; touched under mu only
	now   time.Time
	seed  int64
}

func delayOf(u testUser, us *userState) int64 {
	if us.DelayMS > 0 {
		return us.DelayMS
	}
	if u.has(flawSlow, us) {
		return slowDelayMS
	}
	return 0
}

// open admits a read by its Consent-ID. It locks the bank; on success the
// caller unlocks it.
func (b *Bank) open(c *call) (*reading, error) {
	id := c.r.Header.Get("Consent-ID")
	if id == "" {
		return nil, formatError("Consent-ID", "The header Consent-ID is mandatory here.")
	}
	b.mu.Lock()
	if con := b.state.Consents[id]; con != nil {
		if u, ok := lookupUser(con.PSU); ok {
			if ms := delayOf(u, b.user(u.Login)); ms > 0 {
				b.mu.Unlock()
				if err := wait(c, ms); err != nil {
					return nil, err
				}
				b.mu.Lock()
			}
		}
	}
	rd, err := b.admitRead(c, id)
	if err != nil {
		b.mu.Unlock()
		return nil, err
	}
	return rd, nil
}

// admitRead judges consent and user. The caller holds mu.
func (b *Bank) admitRead(c *call, id string) (*reading, error) {
	con := b.state.Consents[id]
	if !c.opened(con) {
		return nil, &fault{status: 403, code: "CONSENT_UNKNOWN", text: "There is no such consent."}
	}
	b.refresh(con)
	switch con.Status {
	case statusReceived, statusRejected:
		return nil, &fault{status: 401, code: "CONSENT_INVALID", text: "The consent has not been authorised."}
	}
	u, ok := lookupUser(con.PSU)
	if !ok {
		return nil, &fault{status: 401, code: "CONSENT_INVALID", text: "The consent has no user."}
	}
	us := b.user(u.Login)
	b.endAfterSync(c, con, u, us)
	switch {
	case con.Status == statusExpired:
		return nil, &fault{status: 401, code: "CONSENT_EXPIRED", text: "The consent has expired."}
	case con.Status == statusRevoked:
		return nil, &fault{status: 401, code: "CONSENT_INVALID", text: "The consent was revoked by the user."}
	case con.Status == statusTerminated:
		return nil, &fault{status: 401, code: "CONSENT_INVALID", text: "The consent was terminated by the TPP."}
	case con.TokenExpired:
		return nil, &fault{status: 401, code: "TOKEN_EXPIRED", text: "The access token has expired."}
	}
	if err := blocked(u, us, false); err != nil {
		return nil, err
	}
	down := us.Down
	if u.has(flawBankDown, us) {
		down = down503
	}
	if err := outage(down); err != nil {
		return nil, err
	}
	return &reading{con: con, user: u, state: us, now: b.now(), seed: b.state.Seed}, nil
}

// endAfterSync ends the access of the users for whom only the first sync works.
// A sync is over once every account's booked list was read to its end; what
// starts a new one is a read of the account list, or any read later than
// afterSyncGrace. Pages of a running listing never do. The caller holds mu.
func (b *Bank) endAfterSync(c *call, con *consent, u testUser, us *userState) {
	if con.Status != statusValid || c.r.URL.Query().Get("cursor") != "" {
		return
	}
	var end func()
	switch {
	case u.has(flawTokenExpired, us):
		end = func() { con.TokenExpired = true }
	case u.has(flawConsentExpired, us):
		end = func() { b.end(con, statusExpired) }
	case u.has(flawConsentRevoked, us):
		end = func() { b.end(con, statusRevoked) }
	default:
		return
	}
	var last time.Time
	for _, a := range visible(accountsOf(b.state.Seed, u, us), con.Channel) {
		if !con.opens(&a, kindTransactions) {
			continue
		}
		at, read := con.ReadThrough[a.name]
		if !read {
			return
		}
		if at.After(last) {
			last = at
		}
	}
	list := strings.HasSuffix(c.r.URL.Path, "/v1/accounts")
	if !last.IsZero() && (list || b.now().Sub(last) >= afterSyncGrace) {
		end()
		b.changed()
	}
}

// use counts an unattended access or refuses it. The caller holds mu.
func (b *Bank) use(c *call, rd *reading, kind, account string) error {
	if dayOf(rd.con.LastAction) != dayOf(rd.now) { // a TPP sees the date only
		rd.con.LastAction = rd.now
		b.counted()
	}
	if c.attended {
		return nil
	}
	limit, textOnly := rd.con.Frequency, rd.user.has(flawRateLimitText, rd.state)
	if textOnly {
		limit = 1
	}
	key := kind + "|" + account
	var recent []int64
	for _, t := range rd.con.Calls[key] {
		if rd.now.Unix()-t < 24*3600 && t <= rd.now.Unix() {
			recent = append(recent, t)
		}
	}
	if len(recent) >= limit {
		f := &fault{status: 429, code: "ACCESS_EXCEEDED", text: "The consent allows no more accesses without the user at present."}
		if textOnly {
			f.text = textHUB046
		} else {
			f.retry = time.Duration(recent[0]+24*3600-rd.now.Unix()) * time.Second
		}
		return f
	}
	if rd.con.Calls == nil {
		rd.con.Calls = map[string][]int64{}
	}
	rd.con.Calls[key] = append(recent, rd.now.Unix())
	b.counted()
	return nil
}

// resourceID names an account within one consent; the next consent names it differently.
func resourceID(con *consent, a *account) string {
	return uuid.NewSHA1(uuid.NameSpaceOID, []byte(con.ID+"/"+a.name)).String()
}

func (rd *reading) accounts() []account {
	var out []account
	for _, a := range visible(accountsOf(rd.seed, rd.user, rd.state), rd.con.Channel) {
		if rd.con.opens(&a, kindDetails) {
			out = append(out, a)
		}
	}
	return out
}

// ledger takes a snapshot of an account, usable without the lock. The caller holds mu.
func (rd *reading) ledger(a account) *ledger {
	l := &ledger{account: a, today: dayOf(rd.now), shift: rd.state.Shifts[a.name], early: map[int]bool{}}
	for _, p := range rd.state.Posted {
		if p.Account == a.name {
			l.post = append(l.post, p)
		}
	}
	for d := range rd.state.EarlyDays {
		l.early[d] = true
	}
	if !rd.state.Healed {
		switch rd.user.flaw {
		case flawNoIDs, flawDuplicateIDs, flawChangingIDs:
			l.ids = rd.user.flaw
		}
	}
	return l
}

// accountByPath finds the account named in the URL. The caller holds mu.
func (rd *reading) accountByPath(c *call, kind string) (account, error) {
	id := c.value("account")
	for _, a := range rd.accounts() {
		if resourceID(rd.con, &a) != id {
			continue
		}
		if !rd.con.opens(&a, kind) {
			return account{}, &fault{status: 401, code: "CONSENT_INVALID", text: "The consent does not cover this data."}
		}
		return a, nil
	}
	return account{}, errUnknownResource
}

// links lists the sub-resources that a consent opens for an account.
func (rd *reading) links(a *account) []string {
	var out []string
	for _, kind := range []string{kindBalances, kindTransactions} {
		if rd.con.opens(a, kind) {
			out = append(out, kind)
		}
	}
	return out
}

func (b *Bank) listAccounts(c *call) (reply, error) {
	rd, err := b.open(c)
	if err != nil {
		return reply{}, err
	}
	type item struct {
		l       *ledger
		id      string
		links   []string
		balance bool
	}
	withBalance := c.r.URL.Query().Get("withBalance") == "true"
	var items []item
	for _, a := range rd.accounts() {
		items = append(items, item{rd.ledger(a), resourceID(rd.con, &a), rd.links(&a), withBalance && rd.con.opens(&a, kindBalances)})
	}
	err = b.use(c, rd, kindAccounts, "")
	b.mu.Unlock()
	if err != nil {
		return reply{}, err
	}
	list := []accountDetails{}
	for _, it := range items {
		d := it.l.details(it.id, c.base, it.links, it.balance)
		d.IBAN = c.masked(d.IBAN)
		list = append(list, d)
	}
	return reply{status: http.StatusOK, body: map[string]any{"accounts": list}}, nil
}

// readAccount opens a read of one account, or of one item in it, and counts
// it. The bank is not locked when it returns.
func (b *Bank) readAccount(c *call, kind, item string) (*ledger, *reading, error) {
	rd, err := b.open(c)
	if err != nil {
		return nil, nil, err
	}
	defer b.mu.Unlock()
	a, err := rd.accountByPath(c, kind)
	if err != nil {
		return nil, nil, err
	}
	if err := b.use(c, rd, kind, a.name+item); err != nil {
		return nil, nil, err
	}
	l := rd.ledger(a)
	return l, rd, nil
}

func (b *Bank) getAccount(c *call) (reply, error) {
	l, rd, err := b.readAccount(c, kindDetails, "")
	if err != nil {
		return reply{}, err
	}
	withBalance := c.r.URL.Query().Get("withBalance") == "true" && rd.con.opens(&l.account, kindBalances)
	d := l.details(c.value("account"), c.base, rd.links(&l.account), withBalance)
	if c.mask == maskAll {
		d.IBAN = c.masked(d.IBAN)
	}
	return reply{status: http.StatusOK, body: map[string]any{"account": d}}, nil
}

func (b *Bank) getBalances(c *call) (reply, error) {
	l, _, err := b.readAccount(c, kindBalances, "")
	if err != nil {
		return reply{}, err
	}
	return reply{status: http.StatusOK, body: map[string]any{"account": c.reference(l.account), "balances": l.balances()}}, nil
}
