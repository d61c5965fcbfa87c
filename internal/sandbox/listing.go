package sandbox

import (
	"encoding/base64"
	"encoding/json"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	pageSize    = 100
	bigPageSize = 500
	maxPageSize = 1000
)

// cursor continues a listing. It travels inside the page links, so that the
// pages of one listing count as one access.
type cursor struct {
	Account string `json:"a"` // resource id, so that a cursor fits its listing only
	From    int    `json:"f"`
	To      int    `json:"t"`
	After   string `json:"r,omitempty"` // entryReferenceFrom
	Status  string `json:"s"`
	Balance bool   `json:"b,omitempty"`
	Size    int    `json:"n"`
	Offset  int    `json:"o"`
}

func (q cursor) encode() string {
	data, err := json.Marshal(q)
	if err != nil {
		panic(err) // plain fields only
	}
	return base64.RawURLEncoding.EncodeToString(data)
}

func decodeCursor(s, account string) (cursor, error) {
	bad := formatError("cursor", "The link is not one of this listing.")
	data, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return cursor{}, bad
	}
	var q cursor
	if err := json.Unmarshal(data, &q); err != nil {
		return cursor{}, bad
	}
	if q.Account != account || q.Offset < 0 || q.Size < 1 || q.Size > maxPageSize || !knownStatus(q.Status) {
		return cursor{}, bad
	}
	return q, nil
}

func knownStatus(s string) bool {
	switch s {
	case "booked", "pending", "both", "information", "all":
		return true
	}
	return false
}

// parseListing reads the query of a listing's first page.
func parseListing(c *call, q url.Values, today int) (cursor, error) {
	cur := cursor{Account: c.value("account"), From: firstDay, To: today, Status: q.Get("bookingStatus"),
		After: q.Get("entryReferenceFrom"), Balance: q.Get("withBalance") == "true"}
	if !knownStatus(cur.Status) {
		return cur, formatError("bookingStatus", "The value must be booked, pending, both, information or all.")
	}
	delta := cur.After != "" || q.Get("deltaList") == "true"
	if q.Get("dateFrom") == "" && !delta && cur.Status != "information" {
		return cur, formatError("dateFrom", "The parameter is mandatory here.")
	}
	for name, day := range map[string]*int{"dateFrom": &cur.From, "dateTo": &cur.To} {
		if s := q.Get(name); s != "" {
			d, err := parseDay(s)
			if err != nil {
				return cur, formatError(name, "The value is "+err.Error()+".")
			}
			*day = d
		}
	}
	if cur.From > cur.To && q.Get("dateTo") != "" {
		return cur, &fault{status: 400, code: "PERIOD_INVALID", path: "dateFrom", text: "dateFrom lies after dateTo."}
	}
	if s := q.Get("itemsPerPage"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > maxPageSize {
			return cur, formatError("itemsPerPage", "The value must be a number from 1 to 1000.")
		}
		cur.Size = n
	}
	return cur, nil
}

// acceptsJSON reports whether a TPP that is choosy about formats gets one it asked for.
func acceptsJSON(accept string) bool {
	if accept == "" {
		return true
	}
	for _, part := range strings.Split(accept, ",") {
		media, _, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		switch media {
		case "*/*", "application/*", "application/json", "application/problem+json":
			return true
		}
	}
	return false
}

func (b *Bank) listTransactions(c *call) (reply, error) {
	if !acceptsJSON(c.r.Header.Get("Accept")) {
		return reply{}, &fault{status: 406, code: "REQUESTED_FORMATS_INVALID", text: "The bank sends application/json only."}
	}
	query := c.r.URL.Query()
	rd, err := b.open(c)
	if err != nil {
		return reply{}, err
	}
	unlock := b.mu.Unlock
	defer func() { unlock() }()

	a, err := rd.accountByPath(c, kindTransactions)
	if err != nil {
		return reply{}, err
	}
	today := dayOf(rd.now)
	var cur cursor
	if s := query.Get("cursor"); s != "" {
		if cur, err = decodeCursor(s, c.value("account")); err != nil {
			return reply{}, err
		}
		if cur.Offset > 0 && b.mutate(rd, &a) {
			b.changed()
		}
	} else {
		if cur, err = parseListing(c, query, today); err != nil {
			return reply{}, err
		}
		if rd.user.has(flawShortHistory, rd.state) && cur.From < today-shortHistoryDays && query.Get("dateFrom") != "" {
			return reply{}, &fault{status: 400, code: "PERIOD_INVALID", path: "dateFrom", text: "The bank shows 89 days at most."}
		}
		if cur.Size == 0 {
			cur.Size = sizeOf(rd, &a)
		}
		if err := b.use(c, rd, kindTransactions, a.name); err != nil {
			return reply{}, err
		}
		if query.Get("deltaList") == "true" {
			b.startDelta(rd, &a, &cur)
		}
	}
	if rd.user.has(flawNonsense, rd.state) {
		return reply{status: http.StatusOK, raw: []byte("<!doctype html><title>Wartung</title><p>Heute Nacht werden unsere Systeme gewartet.</p>\n")}, nil
	}
	if rd.user.has(flawChangingIDs, rd.state) {
		rd.state.Fetches++
		b.counted()
	}
	l := rd.ledger(a)
	l.fetch = rd.state.Fetches
	withBalance := cur.Balance && rd.con.opens(&a, kindBalances)
	b.mu.Unlock()
	unlock = func() {}

	rep, more, err := l.report(c, cur, withBalance)
	if err != nil {
		return reply{}, err
	}
	if !more && (cur.Status == "booked" || cur.Status == "both" || cur.Status == "all") {
		b.mu.Lock()
		b.readThrough(rd, a.name)
		b.mu.Unlock()
	}
	return reply{status: http.StatusOK, body: rep}, nil
}

func sizeOf(rd *reading, a *account) int {
	switch {
	case a.perDay > 0:
		return bigPageSize
	case rd.user.flaw == flawMutatingList:
		return mutatingPageSize
	}
	return pageSize
}

// readThrough notes that a list was read to its end, for the users whose
// access ends then. The caller holds mu.
func (b *Bank) readThrough(rd *reading, account string) {
	switch rd.user.flaw {
	case flawTokenExpired, flawConsentExpired, flawConsentRevoked:
	default:
		return
	}
	if _, done := rd.con.ReadThrough[account]; done {
		return
	}
	if rd.con.ReadThrough == nil {
		rd.con.ReadThrough = map[string]time.Time{}
	}
	rd.con.ReadThrough[account] = b.now()
	b.changed()
}

// startDelta narrows a listing to what was booked since the last deltaList,
// that day included. The caller holds mu.
func (b *Bank) startDelta(rd *reading, a *account, cur *cursor) {
	if day, ok := rd.con.DeltaDay[a.name]; ok {
		cur.From = max(cur.From, day)
	}
	if rd.con.DeltaDay == nil {
		rd.con.DeltaDay = map[string]int{}
	}
	rd.con.DeltaDay[a.name] = dayOf(rd.now)
	b.changed()
}

// mutate puts a new entry in front of a list that is being read, where an event
// or the user's flaw says so, and reports whether it did. The caller holds mu.
func (b *Bank) mutate(rd *reading, a *account) bool {
	today := dayOf(rd.now)
	switch {
	case rd.state.Mutations > 0:
		rd.state.Mutations--
	case rd.user.has(flawMutatingList, rd.state) && rd.state.MutatedOn[a.name] != today:
		if rd.state.MutatedOn == nil {
			rd.state.MutatedOn = map[string]int{}
		}
		rd.state.MutatedOn[a.name] = today
	default:
		return false
	}
	b.post(rd.state, posted{Account: a.name, Day: today, Booked: today, Minor: fromCents(-1_234, a.currency),
		Name: "Kiosk am Tor", Purpose: "Booked while the list was being read"})
	return true
}

// report draws one page.
func (l *ledger) report(c *call, cur cursor, withBalance bool) (report, bool, error) {
	own := c.base + "/v1/accounts/" + cur.Account
	lists := &reportLists{Links: map[string]link{"account": {own}}}
	rep := report{Account: c.reference(l.account), Transactions: lists}
	page := func(offset int) link {
		next := cur
		next.Offset = offset
		return link{own + "/transactions?bookingStatus=" + cur.Status + "&cursor=" + next.encode()}
	}
	more := false
	switch cur.Status {
	case "booked", "both", "all":
		from, limit := cur.From, cur.Size
		var after entry
		if cur.After != "" {
			var ok bool
			if after, _, ok = l.find(strings.TrimPrefix(cur.After, "R")); !ok {
				return rep, false, &fault{status: 400, code: "RESOURCE_UNKNOWN", path: "entryReferenceFrom", text: "There is no such entry."}
			}
			from = after.booked
		}
		var list []entry
		list, more = l.page(from, cur.To, cur.Offset, limit)
		if cur.After != "" {
			for i, e := range list {
				if e.day == after.day && e.slot == after.slot && e.seq() == after.seq() {
					list, more = list[:i], false
					break
				}
			}
		}
		lists.Booked = l.drawAll(list, false, own+"/transactions")
		lists.Links["first"] = page(0)
		if more {
			lists.Links["next"] = page(cur.Offset + cur.Size)
		}
		if cur.Offset > 0 {
			lists.Links["previous"] = page(max(0, cur.Offset-cur.Size))
		}
	}
	if cur.Offset == 0 {
		if cur.Status == "pending" || cur.Status == "both" || cur.Status == "all" {
			lists.Pending = l.drawAll(l.pending(), true, own+"/transactions")
		}
		if cur.Status == "information" || cur.Status == "all" {
			lists.Information = l.information()
		}
		if withBalance {
			rep.Balances = l.balances()
		}
	}
	return rep, more, nil
}

func (e entry) seq() int64 {
	if e.fired == nil {
		return 0
	}
	return e.fired.Seq
}

func (b *Bank) getTransaction(c *call) (reply, error) {
	l, _, err := b.readAccount(c, kindTransactions, "/"+c.value("transaction"))
	if err != nil {
		return reply{}, err
	}
	e, pending, ok := l.find(c.value("transaction"))
	if !ok || l.ids != flawNone {
		return reply{}, errUnknownResource
	}
	t := l.draw(e, pending, c.base+"/v1/accounts/"+c.value("account")+"/transactions")
	// The official file nests the element twice.
	return reply{status: http.StatusOK, body: map[string]any{"transactionsDetails": map[string]any{"transactionDetails": t}}}, nil
}
