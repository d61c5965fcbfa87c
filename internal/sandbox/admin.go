package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/shopspring/decimal"
)

// adminError is a refusal of the administration API.
type adminError struct {
	status int
	text   string
}

func (e *adminError) Error() string { return e.text }

func badRequest(format string, args ...any) error {
	return &adminError{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

func (b *Bank) adminRoutes(mux *http.ServeMux) {
	handle := func(pattern string, op func(*http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, maxBody)
			w.Header().Set("Cache-Control", "no-store")
			out, err := op(r)
			if ferr := b.flushUrgent(); err == nil {
				err = ferr
			}
			var refused *adminError
			switch {
			case errors.As(err, &refused):
				writeJSON(w, refused.status, "application/json", map[string]string{"error": refused.text})
			case err != nil:
				b.log.Error("sandbox: administration failed", "path", r.URL.Path, "err", err)
				writeJSON(w, http.StatusInternalServerError, "application/json", map[string]string{"error": "internal error"})
			default:
				writeJSON(w, http.StatusOK, "application/json", out)
			}
		})
	}
	handle("GET /sandbox/clock", b.getClock)
	handle("POST /sandbox/clock", b.setClock)
	handle("POST /sandbox/events", b.fireEvent)
	handle("GET /sandbox/users", func(*http.Request) (any, error) { return map[string]any{"users": allUsers()}, nil })
	handle("GET /sandbox/state", b.getState)
	handle("POST /sandbox/reset", b.reset)
}

func allUsers() []testUser {
	out := make([]testUser, len(namedUsers))
	for i, u := range namedUsers {
		out[i] = u.complete()
	}
	return out
}

// decodeAdmin reads a body strictly: a misspelt member of a test's request
// must not pass silently.
func decodeAdmin(r *http.Request, out any) error {
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return badRequest("the body cannot be read or is larger than %d bytes", maxBody)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(out); err != nil {
		return badRequest("body: %v", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return badRequest("body: more than one JSON value")
	}
	return nil
}

type clock struct {
	Now    time.Time `json:"now"`
	Offset string    `json:"offset"` // ahead of the real time
}

// clock draws the bank's clock. The caller holds mu.
func (b *Bank) clock() clock {
	return clock{b.now(), time.Duration(b.state.Offset).String()}
}

func (b *Bank) getClock(*http.Request) (any, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.clock(), nil
}

func (b *Bank) setClock(r *http.Request) (any, error) {
	var q struct {
		Advance string     `json:"advance"`
		Set     *time.Time `json:"set"`
	}
	if err := decodeAdmin(r, &q); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case (q.Advance == "") == (q.Set == nil):
		return nil, badRequest(`either "advance" (a duration such as 24h) or "set" (a time of RFC 3339) is needed`)
	case q.Set != nil:
		if y := q.Set.Year(); y < 2000 || y > 2200 {
			return nil, badRequest("set: the year must be from 2000 to 2200")
		}
		b.state.Offset = int64(q.Set.Sub(b.cfg.Now()))
	default:
		d, err := time.ParseDuration(q.Advance)
		if err != nil {
			return nil, badRequest("advance: not a duration such as 24h")
		}
		if y := b.now().Add(d).Year(); y < 2000 || y > 2200 {
			return nil, badRequest("advance: the year must stay from 2000 to 2200")
		}
		b.state.Offset += int64(d)
	}
	b.changed()
	return b.clock(), nil
}

// event is what POST /sandbox/events takes.
type event struct {
	Event    string `json:"event"`
	User     string `json:"user"`     // empty means the whole bank, where the event allows it
	Channel  string `json:"channel"`  // redirect or embedded; consent events only; empty means both
	Account  string `json:"account"`  // name such as current, or IBAN; default current
	Amount   string `json:"amount"`   // in the account's currency
	Name     string `json:"name"`     // counterparty
	Purpose  string `json:"purpose"`  // remittance text
	Pending  bool   `json:"pending"`  // new_transaction: not booked until book_pending
	Delay    string `json:"delay"`    // slow: duration of each call, 0s ends it
	How      string `json:"how"`      // bank_down: 503 (default) or close
	Times    int    `json:"times"`    // mutate_list, new_transaction: how often; default 1
	Currency string `json:"currency"` // account_added; default EUR
}

var currencies = []string{"EUR", "USD", "GBP", "CHF", "PLN", "JPY", "KWD"}

var accountName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,19}$`)

const maxPosted = 10_000

func (b *Bank) fireEvent(r *http.Request) (any, error) {
	var ev event
	if err := decodeAdmin(r, &ev); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if ev.User == "" {
		if err := b.fireOnBank(ev); err != nil {
			return nil, err
		}
		b.changed()
		return map[string]any{"event": ev.Event}, nil
	}
	u, ok := lookupUser(ev.User)
	if !ok {
		return nil, &adminError{http.StatusNotFound, "there is no such test user"}
	}
	detail, err := b.fireOnUser(ev, u, b.user(u.Login))
	if err != nil {
		return nil, err
	}
	b.changed()
	out := map[string]any{"event": ev.Event, "user": ev.User}
	for k, v := range detail {
		out[k] = v
	}
	return out, nil
}

// fireOnBank changes the bank as a whole. The caller holds mu.
func (b *Bank) fireOnBank(ev event) error {
	switch ev.Event {
	case "bank_down":
		how, err := ev.outage()
		if err != nil {
			return err
		}
		b.state.Down = how
	case "bank_up":
		b.state.Down = ""
	case "slow":
		ms, err := ev.delay()
		if err != nil {
			return err
		}
		b.state.DelayMS = ms
	case "clear":
		b.state.Down, b.state.DelayMS = "", 0
	default:
		return badRequest("event %q needs a user, or there is no such event", ev.Event)
	}
	return nil
}

func (ev event) outage() (string, error) {
	switch ev.How {
	case "", down503:
		return down503, nil
	case downClose:
		return downClose, nil
	}
	return "", badRequest(`how: "503" or "close"`)
}

func (ev event) delay() (int64, error) {
	d, err := time.ParseDuration(ev.Delay)
	if err != nil || d < 0 || d > 10*time.Minute {
		return 0, badRequest("delay: not a duration from 0s to 10m")
	}
	return d.Milliseconds(), nil
}

func (ev event) times() (int, error) {
	if ev.Times == 0 {
		return 1, nil
	}
	if ev.Times < 0 || ev.Times > 1000 {
		return 0, badRequest("times: a number from 1 to 1000")
	}
	return ev.Times, nil
}

// fireOnUser changes one user's life and returns what to tell of it. The caller holds mu.
func (b *Bank) fireOnUser(ev event, u testUser, us *userState) (map[string]any, error) {
	today := dayOf(b.now())
	switch ev.Event {
	case "new_transaction":
		return b.newTransaction(ev, u, us, today)
	case "book_pending":
		n := 0
		for i := range us.Posted {
			if p := &us.Posted[i]; p.Booked == notBooked {
				p.Booked = today
				n++
			}
		}
		if us.EarlyDays == nil {
			us.EarlyDays = map[int]bool{}
		}
		us.EarlyDays[today] = true
		return map[string]any{"fired_booked": n}, nil
	case "revoke_consent", "expire_consent", "expire_token":
		return b.endConsents(ev, u)
	case "change_password_required":
		us.PasswordExpired = true
	case "require_user_action":
		us.ActionRequired = true
	case "bank_down":
		how, err := ev.outage()
		if err != nil {
			return nil, err
		}
		us.Down = how
	case "bank_up":
		us.Down = ""
	case "slow":
		ms, err := ev.delay()
		if err != nil {
			return nil, err
		}
		us.DelayMS = ms
	case "mutate_list":
		n, err := ev.times()
		if err != nil {
			return nil, err
		}
		us.Mutations = n
	case "balance_change":
		a, minor, err := b.target(ev, u, us)
		if err != nil {
			return nil, err
		}
		if us.Shifts == nil {
			us.Shifts = map[string]int64{}
		}
		us.Shifts[a.name] += minor
	case "account_added":
		return b.addAccount(ev, u, us, today)
	case "account_closed":
		a, err := b.findAccount(ev, u, us)
		if err != nil {
			return nil, err
		}
		if us.Closed == nil {
			us.Closed = map[string]bool{}
		}
		us.Closed[a.name] = true
	case "clear":
		us.Healed, us.PasswordExpired, us.ActionRequired = true, false, false
		us.Down, us.DelayMS, us.Mutations = "", 0, 0
		for _, c := range b.state.Consents {
			if c.PSU == u.Login {
				c.TokenExpired = false
			}
		}
	case "reset":
		b.state.Users[u.Login] = &userState{}
	default:
		return nil, badRequest("there is no event %q", ev.Event)
	}
	return nil, nil
}

func (b *Bank) findAccount(ev event, u testUser, us *userState) (account, error) {
	name := ev.Account
	if name == "" {
		name = "current"
	}
	for _, a := range accountsOf(b.state.Seed, u, us) {
		if a.name == name || (a.iban != "" && strings.EqualFold(a.iban, name)) {
			return a, nil
		}
	}
	return account{}, &adminError{http.StatusNotFound, "the user has no such account"}
}

// target is the account an event is about and its amount in minor units.
func (b *Bank) target(ev event, u testUser, us *userState) (account, int64, error) {
	a, err := b.findAccount(ev, u, us)
	if err != nil {
		return a, 0, err
	}
	if ev.Amount == "" {
		ev.Amount = formatMinor(fromCents(-1_999, a.currency), a.currency)
	}
	d, err := decimal.NewFromString(ev.Amount)
	if err != nil || len(ev.Amount) > 20 || strings.ContainsAny(ev.Amount, "eE") {
		return a, 0, badRequest("amount: not a decimal number such as -12.34")
	}
	minor := d.Shift(int32(exponent(a.currency)))
	if !minor.IsInteger() || minor.Abs().GreaterThan(decimal.New(1, 14)) {
		return a, 0, badRequest("amount: too large, or more decimals than %s has", a.currency)
	}
	return a, minor.IntPart(), nil
}

func (b *Bank) newTransaction(ev event, u testUser, us *userState, today int) (map[string]any, error) {
	a, minor, err := b.target(ev, u, us)
	if err != nil {
		return nil, err
	}
	n, err := ev.times()
	if err != nil {
		return nil, err
	}
	if len(us.Posted)+n > maxPosted {
		return nil, badRequest("a user takes %d fired transactions at most; the event reset forgets them", maxPosted)
	}
	if len([]rune(ev.Name)) > 70 || len([]rune(ev.Purpose)) > 140 {
		return nil, badRequest("name: 70 characters at most; purpose: 140")
	}
	p := posted{Account: a.name, Day: today, Booked: today, Minor: minor, Name: ev.Name, Purpose: ev.Purpose}
	if p.Name == "" {
		p.Name = "Testgeber GmbH"
	}
	if p.Purpose == "" {
		p.Purpose = "Fired by event"
	}
	if ev.Pending {
		p.Booked = notBooked
	}
	l := &ledger{account: a}
	var ids []string
	for range n {
		made := b.post(us, p)
		ids = append(ids, l.id(entry{day: made.Day, fired: &made}, ev.Pending))
	}
	return map[string]any{"transactionIds": ids}, nil
}

// post adds a fired transaction. The caller holds mu.
func (b *Bank) post(us *userState, p posted) posted {
	b.state.Sequence++
	p.Seq = b.state.Sequence
	us.Posted = append(us.Posted, p)
	return p
}

func (b *Bank) endConsents(ev event, u testUser) (map[string]any, error) {
	if ev.Channel != "" && ev.Channel != redirect && ev.Channel != embedded {
		return nil, badRequest(`channel: "redirect" or "embedded"`)
	}
	n := 0
	for _, c := range b.state.Consents {
		if c.PSU != u.Login || c.Status != statusValid || (ev.Channel != "" && c.Channel != ev.Channel) {
			continue
		}
		n++
		switch ev.Event {
		case "revoke_consent":
			b.end(c, statusRevoked)
		case "expire_consent":
			b.end(c, statusExpired)
		case "expire_token":
			c.TokenExpired = true
		}
	}
	return map[string]any{"consents": n}, nil
}

func (b *Bank) addAccount(ev event, u testUser, us *userState, today int) (map[string]any, error) {
	add := addedAccount{Name: ev.Account, Currency: ev.Currency, Day: today}
	if add.Name == "" {
		add.Name = fmt.Sprintf("extra-%d", len(us.Added)+1)
	}
	if add.Currency == "" {
		add.Currency = "EUR"
	}
	if !accountName.MatchString(add.Name) || !slices.Contains(currencies, add.Currency) || len(us.Added) >= 100 {
		return nil, badRequest("account: a short lower-case name; currency: one of %s; 100 added accounts at most", strings.Join(currencies, ", "))
	}
	for _, a := range accountsOf(b.state.Seed, u, us) {
		if a.name == add.Name {
			return nil, &adminError{http.StatusConflict, "the user has that account already"}
		}
	}
	if us.Closed[add.Name] {
		delete(us.Closed, add.Name)
		return map[string]any{"account": add.Name}, nil
	}
	us.Added = append(us.Added, add)
	return map[string]any{"account": add.Name}, nil
}

// stateView is the part of the state that GET /sandbox/state shows.
type stateView struct {
	Clock    clock                 `json:"clock"`
	Seed     int64                 `json:"seed"`
	Down     string                `json:"down,omitempty"`
	DelayMS  int64                 `json:"delayMs,omitempty"`
	Consents []consentView         `json:"consents"`
	Users    map[string]*userState `json:"users"`
}

type consentView struct {
	ID           string             `json:"consentId"`
	User         string             `json:"user"`
	Channel      string             `json:"channel"`
	Segment      string             `json:"segment"`
	Status       string             `json:"consentStatus"`
	ValidUntil   string             `json:"validUntil"`
	Frequency    int                `json:"frequencyPerDay"`
	Created      time.Time          `json:"created"`
	TokenExpired bool               `json:"tokenExpired,omitempty"`
	Unattended   map[string][]int64 `json:"unattended,omitempty"` // kind|account to unix times
}

func (b *Bank) getState(*http.Request) (any, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	v := stateView{Clock: b.clock(), Seed: b.state.Seed, Down: b.state.Down, DelayMS: b.state.DelayMS, Consents: []consentView{}, Users: b.state.Users}
	for _, c := range b.state.Consents {
		b.refresh(c)
		v.Consents = append(v.Consents, consentView{c.ID, c.PSU, c.Channel, c.Segment, c.Status, dayText(c.ValidUntil), c.Frequency, c.Created, c.TokenExpired, c.Calls})
	}
	slices.SortFunc(v.Consents, func(x, y consentView) int { return x.Created.Compare(y.Created) })
	// Encoded here because the maps are live.
	data, err := json.Marshal(v)
	return json.RawMessage(data), err
}

// reset forgets everything: consents, events, the moved clock.
func (b *Bank) reset(*http.Request) (any, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.state = newState(b.state.Seed)
	b.changed()
	return b.clock(), nil
}
