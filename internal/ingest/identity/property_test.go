package identity

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/bankfeed/bankfeed"
)

// policy is how a bank gives ids.
type policy int

const (
	stable     policy = iota // one for each entry, for ever
	noPending                // pending items have none
	newOnBook                // another one when booked
	blank                    // some booked entries have none
	duplicate                // two entries share one
	changing                 // new at every fetch
	position                 // the place in the list
	daily                    // counted from 1 every day
	distrusted               // never used: the profile says so
	policies
)

func (p policy) String() string {
	return [...]string{"stable", "no id while pending", "new id when booked", "blank", "duplicate", "changing", "position", "daily", "distrusted"}[p]
}

// entry is a movement at the bank.
type entry struct {
	serial  int
	ofDay   int // count within its day
	booked  int // how often it went from pending to booked: 0 or 1
	arrived bankfeed.Transaction
}

// simBank lists its newest arrivals first, as most banks do, whatever their
// booking day; an entry that is booked arrives again.
type simBank struct {
	t        *rapid.T
	policy   policy
	size     int // of a page
	list     []*entry
	serial   int
	mark     int  // serial when the reading began
	canceled bool // since then
	fetches  int
	today    bankfeed.Date
	ofDay    map[bankfeed.Date]int
}

// render shows an entry as the bank does now.
func (b *simBank) render(e *entry) bankfeed.Transaction {
	x := e.arrived
	x.Raw = []byte(strconv.Itoa(e.serial))
	pending := x.Status.Provisional()
	switch b.policy {
	case stable, distrusted:
		x.BankID = fmt.Sprint("T", e.serial)
	case noPending:
		if !pending {
			x.BankID = fmt.Sprint("T", e.serial)
		}
	case newOnBook:
		x.EntryReference = fmt.Sprint("T", e.serial, "-", e.booked)
	case blank:
		if x.BankID = fmt.Sprint("T", e.serial); e.serial%5 == 0 {
			x.BankID = []string{"", " ", "NOTPROVIDED", "nonref"}[e.serial/5%4]
		}
	case duplicate:
		x.BankID = fmt.Sprint("T", e.serial/2)
	case changing:
		x.BankID = fmt.Sprint("T", e.serial, "-", b.fetches)
	case position:
		x.BankID = fmt.Sprint(len(b.list) - slices.Index(b.list, e))
		if pending {
			x.BankID = ""
		} else if b.serial%2 == 0 { // either end of the list may be the first
			x.BankID = fmt.Sprint(slices.Index(b.list, e))
		}
	case daily:
		if !pending {
			x.BankID = fmt.Sprint(e.ofDay)
		}
	}
	return x
}

// fetch lists a page from an offset on.
func (b *simBank) fetch(from bankfeed.Date, offset int) (page []bankfeed.Transaction, more bool) {
	b.fetches++
	var visible []*entry
	for _, e := range b.list {
		if e.arrived.Status.Provisional() || e.arrived.BookingDate >= from {
			visible = append(visible, e)
		}
	}
	end := min(offset+b.size, len(visible))
	for _, e := range visible[min(offset, end):end] {
		page = append(page, b.render(e))
	}
	return page, end < len(visible)
}

func (b *simBank) add(status bankfeed.TransactionStatus) {
	e := &entry{serial: b.serial}
	b.serial++
	amount := rapid.SampledFrom([]string{"-3.00", "-3.0", "-10", "25.50"}).Draw(b.t, "amount")
	if b.policy == duplicate && e.serial%2 == 1 {
		amount = "7.77" // the same entry under the same id cannot be told from itself
	}
	e.arrived = bankfeed.Transaction{
		Status:      status,
		Money:       bankfeed.Money{Amount: bankfeed.MustAmount(amount), Currency: "EUR"},
		BookingDate: b.today.AddDays(-rapid.IntRange(0, 2).Draw(b.t, "late")),
		Creditor:    bankfeed.Party{Name: rapid.SampledFrom([]string{"Coffee", "Shop"}).Draw(b.t, "name")},
	}
	if status.Provisional() && rapid.Bool().Draw(b.t, "dateless") {
		e.arrived.BookingDate = ""
	}
	b.count(e)
	b.list = append([]*entry{e}, b.list...)
}

func (b *simBank) count(e *entry) {
	day := e.arrived.BookingDate
	b.ofDay[day]++
	e.ofDay = b.ofDay[day]
}

// pick draws one of the entries that fit, nil if none does.
func (b *simBank) pick(fits func(*entry) bool) *entry {
	var list []*entry
	for _, e := range b.list {
		if fits(e) {
			list = append(list, e)
		}
	}
	if len(list) == 0 {
		return nil
	}
	return list[rapid.IntRange(0, len(list)-1).Draw(b.t, "entry")]
}

func pendingEntry(e *entry) bool { return e.arrived.Status.Provisional() }

// change lets something happen at the bank. While a list is being read, what
// disappears does so on the first page, where reading it again shows that, and
// did not come during that reading, nor does the like of it come again: between
// two looks at the first page, what comes and goes can hide another entry from a
// reader who counts places.
func (b *simBank) change(reading bool) {
	switch rapid.SampledFrom([]string{"booked", "booked", "booked", "pending", "pending", "book", "book", "cancel", "edit"}).Draw(b.t, "change") {
	case "booked":
		b.add(bankfeed.TransactionBooked)
	case "pending":
		if reading && b.canceled {
			return
		}
		b.add(rapid.SampledFrom([]bankfeed.TransactionStatus{bankfeed.TransactionPending, bankfeed.TransactionHold}).Draw(b.t, "status"))
	case "book":
		if e := b.pick(pendingEntry); e != nil {
			e.arrived.Status, e.arrived.BookingDate, e.booked = bankfeed.TransactionBooked, b.today, 1
			if rapid.Bool().Draw(b.t, "text changes") {
				e.arrived.Creditor.Name += " SA"
			}
			b.count(e)
			b.list = append([]*entry{e}, slices.DeleteFunc(b.list, func(x *entry) bool { return x == e })...)
		}
	case "cancel":
		e := b.pick(func(e *entry) bool {
			return pendingEntry(e) && (!reading || slices.Index(b.list, e) < b.size && e.serial < b.mark)
		})
		if e != nil {
			b.list = slices.DeleteFunc(b.list, func(x *entry) bool { return x == e })
			b.canceled = true
		}
	case "edit":
		// Edited and pushed to the next page at once, an entry looks like two
		// under one id: that costs the trust, which these keep.
		if reading && b.policy <= newOnBook {
			return
		}
		if e := b.pick(func(e *entry) bool { return pendingEntry(e) || e.arrived.BookingDate >= b.today.AddDays(-2) }); e != nil {
			e.arrived.AdditionalInfo += "+"
		}
	}
}

// simHub does with decisions what the engine does.
type simHub struct {
	t       *rapid.T
	bank    *simBank
	rows    map[bankfeed.TransactionID]bankfeed.TransactionRow
	created map[bankfeed.TransactionID]bankfeed.Date
	last    bankfeed.TransactionID
	trust   bankfeed.IDTrust
	start   bankfeed.Date // DeltaFrom less the overlap
	changes int

	// progress
	began     bankfeed.Date
	from      bankfeed.Date
	cursor    int
	pages     int
	first     []byte
	unsettled int
}

func (h *simHub) known(from bankfeed.Date) []Known {
	var known []Known
	for id, r := range h.rows {
		day := dateOf(&r.Transaction)
		if day == "" {
			day = h.created[id]
		}
		if day < from && !r.Status.Provisional() {
			continue
		}
		k := Known{ID: id, Identity: r.Identity, Status: r.Status, Day: day, Amount: r.Money.Amount.String(), Currency: r.Money.Currency}
		if r.Status.Provisional() {
			k.Pending = &r.Transaction
		}
		known = append(known, k)
	}
	slices.SortFunc(known, func(a, b Known) int {
		if a.Day != b.Day {
			return bytes.Compare([]byte(a.Day), []byte(b.Day))
		}
		return int(a.ID - b.ID)
	})
	return known
}

func (h *simHub) insert(t bankfeed.Transaction, id bankfeed.Identity) {
	h.last++
	h.rows[h.last] = bankfeed.TransactionRow{Transaction: t, Identity: id}
	h.created[h.last] = h.bank.today
	h.changes++
}

func (h *simHub) update(id bankfeed.TransactionID, t bankfeed.Transaction, i bankfeed.Identity) {
	require.Contains(h.t, h.rows, id, "an update of a row that is not there")
	h.rows[id] = bankfeed.TransactionRow{Transaction: t, Identity: i}
	h.changes++
}

// sync runs a session: false when it crashed. noise is how often the bank may
// change while it is read.
func (h *simHub) sync(noise int, mayCrash, mayVerify bool) bool {
	var before *Listing
	for reading := 0; ; reading++ {
		require.Less(h.t, reading, 20, "the reading never ends")
		if h.cursor > 0 && (h.trust.Withdrawn || h.unsettled > 0) {
			h.cursor = 0
		}
		if h.cursor == 0 {
			h.bank.mark, h.bank.canceled = h.bank.serial, false
			h.from, h.pages, h.first, h.unsettled, h.began = h.start, 0, nil, 0, h.bank.today
		}
		l := NewListing(h.known(h.from.AddDays(-Margin)), h.trust, h.from, h.cursor > 0)
		l.Confirm(before)
		before = l
		again := false
		for more := true; more && !again; {
			var page []bankfeed.Transaction
			page, more = h.bank.fetch(h.from, h.cursor)
			if h.pages == 0 {
				h.first = l.PageDigest(page)
			}
			d := l.Page(page)
			if d.Reach != "" {
				l.Extend(h.known(d.Reach), d.Reach)
				d = l.Page(page)
				require.Empty(h.t, d.Reach)
			}
			if d.Withdraw != nil {
				require.Equal(h.t, Decision{Withdraw: d.Withdraw}, d)
				require.False(h.t, h.trust.Withdrawn, "withdrawn twice")
				h.trust, again = *d.Withdraw, true
				continue
			}
			for _, i := range d.Insert {
				h.insert(page[i], d.Identities[i])
			}
			for _, m := range d.Update {
				h.update(m.ID, page[m.Index], d.Identities[m.Index])
			}
			h.unsettled = d.Unsettled
			h.pages++
			if h.cursor += h.bank.size; !more {
				h.cursor = 0
			}
			h.noDoubles("a page")
			for noise > 0 && rapid.Bool().Draw(h.t, "meanwhile") {
				noise--
				h.bank.change(true)
			}
			if mayCrash && rapid.IntRange(0, 4).Draw(h.t, "crash") == 0 {
				return false
			}
		}
		h.cursor = 0
		if again {
			continue
		}
		end := End{Pending: true, Stable: h.pages <= 1}
		if !end.Stable && (!mayVerify || rapid.IntRange(0, 5).Draw(h.t, "verify") > 0) {
			page, _ := h.bank.fetch(h.from, 0)
			moved, trust := l.Moved(h.first, page)
			if trust != nil {
				require.False(h.t, h.trust.Withdrawn, "withdrawn twice")
				h.trust = *trust
			}
			if moved {
				continue
			}
			end.Stable = true
		}
		s := l.Finish(end)
		if s.Withdraw != nil {
			require.Equal(h.t, Settled{Withdraw: s.Withdraw}, s)
			require.False(h.t, h.trust.Withdrawn, "withdrawn twice")
			h.trust = *s.Withdraw
			continue
		}
		if s.Restart {
			require.Equal(h.t, Settled{Restart: true}, s)
			continue
		}
		for _, r := range s.Insert {
			h.insert(r.Transaction, r.Identity)
		}
		for _, r := range s.Update {
			id := r.ID
			r.ID = 0
			h.update(id, r.Transaction, r.Identity)
		}
		for _, id := range s.Remove {
			require.Contains(h.t, h.rows, id)
			require.True(h.t, h.rows[id].Status.Provisional(), "only what is provisional is removed")
			delete(h.rows, id)
			h.changes++
		}
		h.noDoubles("the end")
		if end.Stable {
			require.Zero(h.t, s.Unsettled)
			h.start = h.began.AddDays(-overlap)
		}
		return true
	}
}

const overlap = 5

// noDoubles holds at every moment: nothing booked is stored more often than the
// bank has it. A bank whose ids move on to other entries may make a listing
// write one entry over another, until it is found out.
func (h *simHub) noDoubles(when string) {
	if !h.trust.Withdrawn && (h.bank.policy == position || h.bank.policy == daily || h.bank.policy == duplicate) {
		return
	}
	have := map[uint64]int{}
	for _, e := range h.bank.list {
		x := h.bank.render(e)
		have[Of(&x).Fingerprint]++
	}
	for _, r := range h.rows {
		if r.Status.Provisional() {
			continue
		}
		have[r.Fingerprint]--
		require.GreaterOrEqual(h.t, have[r.Fingerprint], 0, "after %s: %s of %s is stored too often", when, r.Money.Amount, r.BookingDate)
	}
}

// equal compares what is stored with what the bank has.
func (h *simHub) equal() {
	var want, got []string
	show := func(t *bankfeed.Transaction) string {
		return fmt.Sprint(t.BookingDate, t.Status, t.Money.Amount, t.Creditor.Name, t.AdditionalInfo)
	}
	for _, e := range h.bank.list {
		x := h.bank.render(e)
		want = append(want, show(&x))
	}
	serials := map[string]int{}
	for _, r := range h.rows {
		got = append(got, show(&r.Transaction))
		serials[string(r.Raw)]++
	}
	// The scale of an amount makes no difference.
	for _, list := range [][]string{want, got} {
		for i := range list {
			list[i] = string(bytes.ReplaceAll([]byte(list[i]), []byte("-3.00"), []byte("-3.0")))
		}
		slices.Sort(list)
	}
	require.Equal(h.t, want, got, "the hub has what the bank has")
	if h.bank.policy == stable && !h.trust.Withdrawn {
		for serial, n := range serials {
			require.Equal(h.t, 1, n, "entry %s", serial)
		}
	}
}

func TestNothingIsLostOrDoubled(t *testing.T) {
	withdrawn := map[policy]int{}
	for p := range policies {
		t.Run(p.String(), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				b := &simBank{t: t, policy: p, size: rapid.IntRange(1, 7).Draw(t, "page size"), today: "2024-02-27", ofDay: map[bankfeed.Date]int{}}
				h := &simHub{t: t, bank: b, rows: map[bankfeed.TransactionID]bankfeed.TransactionRow{}, created: map[bankfeed.TransactionID]bankfeed.Date{},
					trust: bankfeed.IDTrust{Withdrawn: p == distrusted, Recipe: Recipe}, start: "2024-01-01"}
				for range rapid.IntRange(0, 12).Draw(t, "steps") {
					for range rapid.IntRange(0, 6).Draw(t, "changes") {
						b.change(false)
					}
					noise := rapid.IntRange(0, 3).Draw(t, "noise")
					if p == position {
						noise = 0 // a twin that moves into the place of its twin takes its id along, which nobody can tell
					}
					h.sync(noise, true, true)
					b.today = b.today.AddDays(rapid.SampledFrom([]int{0, 0, 1, 3, 12}).Draw(t, "days"))
				}
				if h.cursor > 0 { // what was edited behind a cursor waits for the next listing
					h.sync(0, false, false)
				}
				h.sync(0, false, false)
				h.equal()
				if p == changing || p == position {
					h.sync(0, false, false) // ids are found out when they are listed again
				}
				h.changes = 0
				h.sync(0, false, false)
				require.Zero(t, h.changes, "nothing changed at the bank")
				h.equal()
				if p <= newOnBook {
					require.False(t, h.trust.Withdrawn, h.trust.Reason)
				}
				if h.trust.Withdrawn {
					withdrawn[p]++
				}
			})
		})
	}
	for _, p := range []policy{blank, duplicate, changing, position, daily} {
		require.NotZero(t, withdrawn[p], "%s ids were never found out", p)
	}
}
