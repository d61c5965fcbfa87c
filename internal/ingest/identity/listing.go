package identity

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/bankfeed/bankfeed"
)

// Margin is how many days before its window a listing knows the stored rows,
// for banks that move a booking day or list more than they were asked for.
const Margin = 31

// Known is a stored transaction as a listing has to know it.
type Known struct {
	ID bankfeed.TransactionID
	bankfeed.Identity
	Status           bankfeed.TransactionStatus
	Day              bankfeed.Date // as Transaction.Day gives it
	Amount, Currency string        // as stored; the scale does not matter
	// Pending is the whole transaction, of a provisional row only: its texts
	// help to find the booked entry that it became.
	Pending *bankfeed.Transaction
}

// Listing is one reading of the list of an account's transactions. It is given
// the stored rows, then every page in the order of the list, then the end, and
// says after each what to store. What it says must be stored, all of it or none
// together with the place of the next page, before the next page is given to
// it; it looks up nothing in between. It is not safe for concurrent use.
//
// With trust in the bank's ids, an entry is what its id says. Ids that turn out
// not to identify (placeholders on booked entries, duplicates, ids used again
// or given anew) withdraw the trust: Withdraw is set, nothing of that decision
// may be stored, and a new Listing without trust starts at the first page.
//
// Without trust an entry is its fingerprint and how many of the same were
// listed before it. Stored rows of a fingerprint, by day and number, are
// occurrences 1 to n, so nothing has to be rewritten when trust ends. The trap
// is a list that moves while it is read: an entry pushed over the edge of a
// page is listed twice and looks like a twin. A single page is a view of one
// moment, though, so there are at least as many of a fingerprint as the fullest
// page shows. Up to that number twins are certain and go out at once; those
// beyond it wait for the end. That the first page still looks the same does not
// prove that the list stood still in between, so they count once a second
// reading has listed as many; see Confirm. Rows once stored are recognised, so
// twins that a page's edge cut apart cost one reading more, once. Under trust
// pending items without an id are treated so, and unknown ids that repeat an
// entry of an earlier page wait for the end and for any id that was seen twice.
type Listing struct {
	trusted, resumed bool
	same             bool  // say which rows are listed as they are stored
	from, reach      int32 // first day of the window, and of the known rows

	rows    []row // by fingerprint, day and number
	byKey   []int32
	pending map[uint64][]provisional // by money

	page   int32
	fresh  map[uint64]sighting // by key: what this listing brought itself
	counts map[uint64]count    // by fingerprint and whether it is provisional
	held   []*held
	again  bool
	ended  bool     // Finish was called
	before struct { // the reading before
		counts map[uint64]count    // if it came to its end
		fresh  map[uint64]sighting // nil without one
	}

	strangers, recognised int  // stored entries under other ids, and under their own
	proven                bool // an id was seen in two fetches
}

// row is a stored transaction. 56 bytes, and 4 in byKey, are what a stored row
// costs a listing.
type row struct {
	id                        bankfeed.TransactionID
	key, print, content, cash uint64
	day                       int32
	page                      int32 // where it was last seen; 0: not yet
	flags                     uint8
}

const (
	isProvisional uint8 = 1 << iota
	isMoved             // its id came with the content of another entry
	isClaimed           // its content came under another id
)

func (r *row) is(f uint8) bool { return r.flags&f != 0 }

// open rows can still become the booked entry of another identity.
func (r *row) open() bool { return r.page == 0 && r.is(isProvisional) }

// sighting is an entry with an id that was not stored when the listing began.
type sighting struct {
	content     uint64
	cash        uint64
	page        int32
	held        int32 // its place in held plus 1
	provisional bool
}

// count says how often a fingerprint was listed.
type count struct {
	page   int32 // the first that showed it, apart from rows recognised by id
	listed int32 // on all pages
	most   int32 // on one page: there are at least so many
	given  int32 // assigned to stored rows, new, or held as certain
}

// held is an item that waits for the end of the list.
type held struct {
	t     bankfeed.Transaction
	id    bankfeed.Identity
	row   int32 // the stored row of its id; -1 if there is none
	doubt bool  // it may be an entry of an earlier page, listed again
}

// Decision is what one page means. Indexes are those of its items.
type Decision struct {
	// Identities of all items.
	Identities []bankfeed.Identity
	Insert     []int
	Update     []Match
	// Unchanged counts items that are stored as they are; Same has the numbers
	// of these rows, after NameUnchanged.
	Unchanged int
	Same      []bankfeed.TransactionID
	// Unsettled counts items held back so far, of earlier pages too. They live
	// in memory only: while there are any, a listing cannot be resumed at a
	// cursor but starts over.
	Unsettled int
	// Reach, when set, is a day before the first that the listing knows: the
	// page was not looked at. Call Extend and give the page again.
	Reach bankfeed.Date
	// Withdraw, when set, is the account's new trust. Nothing else is.
	Withdraw *bankfeed.IDTrust
}

// Match is an item that replaces a stored row.
type Match struct {
	Index int
	ID    bankfeed.TransactionID
}

// NewListing begins a listing from a day on. known are all provisional rows of
// the account and every other one from Margin days before that day on; a row
// that is missing will be taken for new. resumed tells that it goes on at a
// cursor and that earlier pages were stored by a listing that is gone: then not
// having seen a row means nothing.
func NewListing(known []Known, trust bankfeed.IDTrust, from bankfeed.Date, resumed bool) *Listing {
	l := &Listing{
		trusted: !trust.Withdrawn, resumed: resumed, from: dayNumber(from), reach: dayNumber(from.AddDays(-Margin)),
		pending: map[uint64][]provisional{}, fresh: map[uint64]sighting{}, counts: map[uint64]count{},
	}
	l.rows = make([]row, 0, len(known))
	for i := range known {
		l.add(&known[i])
	}
	l.index()
	return l
}

// NameUnchanged makes decisions name the rows that are listed as they are
// stored. Call it before the first page.
func (l *Listing) NameUnchanged() { l.same = true }

func (l *Listing) add(k *Known) {
	r := row{id: k.ID, key: k.Key, print: k.Fingerprint, content: k.Content, cash: cash(canonical(k.Amount), k.Currency), day: dayNumber(k.Day)}
	if k.Status.Provisional() {
		r.flags = isProvisional
		p := provisional{row: int32(len(l.rows))}
		if k.Pending != nil {
			p.words = wordsOf(k.Pending)
		}
		l.pending[r.cash] = append(l.pending[r.cash], p)
	}
	l.rows = append(l.rows, r)
}

// index sorts the rows; what points at them follows.
func (l *Listing) index() {
	order := make([]int32, len(l.rows))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(i, j int32) int {
		a, b := &l.rows[i], &l.rows[j]
		return cmp.Or(cmp.Compare(a.print, b.print), cmp.Compare(a.day, b.day), cmp.Compare(a.id, b.id))
	})
	rows, to := make([]row, len(order)), make([]int32, len(order))
	for i, old := range order {
		rows[i], to[old] = l.rows[old], int32(i)
	}
	l.rows = rows
	for _, list := range l.pending {
		for i := range list {
			list[i].row = to[list[i].row]
		}
		slices.SortFunc(list, func(a, b provisional) int {
			return cmp.Or(cmp.Compare(rows[a.row].day, rows[b.row].day), cmp.Compare(rows[a.row].id, rows[b.row].id))
		})
	}
	for _, h := range l.held {
		if h.row >= 0 {
			h.row = to[h.row]
		}
	}
	l.byKey = slices.Grow(l.byKey[:0], len(rows))
	if l.trusted {
		for i := range rows {
			if rows[i].key != 0 {
				l.byKey = append(l.byKey, int32(i))
			}
		}
		slices.SortStableFunc(l.byKey, func(i, j int32) int { return cmp.Compare(rows[i].key, rows[j].key) })
	}
}

// Confirm tells a new reading of the same list what the one before has seen, by
// which it judges twins and whether ids stay. nil is no reading.
func (l *Listing) Confirm(before *Listing) {
	if before == nil || before.trusted != l.trusted {
		return
	}
	l.before.fresh = before.fresh
	if before.ended && !before.resumed {
		l.before.counts = before.counts
	}
}

// confirmed reports whether two readings listed the fingerprint equally often.
func (l *Listing) confirmed(fingerprint uint64) bool {
	k := countKey(fingerprint, false)
	return l.before.counts != nil && l.before.counts[k].listed == l.counts[k].listed
}

// Extend answers Decision.Reach: known are the stored rows from that day on.
// Rows that the listing has already are left as they are.
func (l *Listing) Extend(known []Known, from bankfeed.Date) {
	for i := range known {
		k := &known[i]
		if day := dayNumber(k.Day); !k.Status.Provisional() && day != noDay && day < l.reach {
			l.add(k)
		}
	}
	l.reach = min(l.reach, dayNumber(from))
	l.index()
}

// Page decides about the next page.
func (l *Listing) Page(items []bankfeed.Transaction) Decision {
	p := paging{Listing: l, items: items, d: Decision{Identities: make([]bankfeed.Identity, len(items))}}
	var first bankfeed.Date
	for i := range items {
		p.d.Identities[i] = Of(&items[i])
		if d := dateOf(&items[i]); d != "" && (first == "" || d < first) && dayNumber(d) != noDay {
			first = d
		}
	}
	if first != "" && dayNumber(first) < l.reach {
		return Decision{Reach: first}
	}
	l.page++
	unnamed := p.all()
	if l.trusted {
		var reason string
		if unnamed, reason = p.named(); reason != "" {
			return Decision{Withdraw: withdraw(reason)}
		}
	}
	if l.resumed && len(unnamed) > 0 {
		l.again = true // occurrences count from the first page
	}
	p.unnamed(unnamed)
	if l.trusted {
		p.unknown()
		if l.strangers >= manyStrangers && l.strangers > l.recognised {
			return Decision{Withdraw: withdraw(reasonChanged)}
		}
	}
	slices.Sort(p.d.Insert)
	slices.SortFunc(p.d.Update, func(a, b Match) int { return cmp.Compare(a.Index, b.Index) })
	p.d.Unsettled = len(l.held)
	return p.d
}

// PageDigest stands for the entries of a page in their order: 16 bytes for what
// they are and whether they are booked, and under trust 16 for the ids of booked
// ones.
func (l *Listing) PageDigest(items []bankfeed.Transaction) []byte {
	prints, keys := make([]byte, 0, 8*len(items)), make([]byte, 0, 8*len(items))
	for i := range items {
		id := Of(&items[i])
		prints = binary.BigEndian.AppendUint64(prints, countKey(id.Fingerprint, items[i].Status.Provisional()))
		if settled(items[i].Status) {
			keys = binary.BigEndian.AppendUint64(keys, id.Key)
		}
	}
	p := sha256.Sum256(prints)
	if !l.trusted {
		return p[:16]
	}
	k := sha256.Sum256(keys)
	return append(p[:16:16], k[:16]...)
}

// Moved compares the first page, read again after the last, with the digest it
// had: a list that moved has to be read again. Where the page shows the same
// entries, but no id that was ever seen, it may be the ids that move. If stored
// entries came under other ids and fewer under their own, or nothing came under
// an id of the reading before, it is: then the list is read again with the trust
// that is returned.
func (l *Listing) Moved(first []byte, items []bankfeed.Transaction) (moved bool, trust *bankfeed.IDTrust) {
	again := l.PageDigest(items)
	if bytes.Equal(first, again) {
		l.proven = l.proven || slices.ContainsFunc(items, l.hasID)
		return false, nil
	}
	if !l.trusted || l.resumed || len(first) != len(again) || !bytes.Equal(first[:16], again[:16]) || slices.ContainsFunc(items, l.hasID) {
		return true, nil
	}
	if l.strangers > l.recognised || l.before.fresh != nil && !l.idsStay() {
		return true, withdraw(reasonChanged)
	}
	return true, nil
}

// idsStay reports whether an id was seen in two fetches.
func (l *Listing) idsStay() bool {
	if l.proven || l.recognised > 0 {
		return true
	}
	for key := range l.fresh {
		if _, ok := l.before.fresh[key]; ok {
			return true
		}
	}
	return false
}

// hasID reports whether the id of an item is stored or was listed.
func (l *Listing) hasID(t bankfeed.Transaction) bool {
	key := Of(&t).Key
	_, fresh := l.fresh[key]
	return fresh || key != 0 && l.rowOf(key) >= 0
}

// Why trust ends, as the account keeps it.
const (
	reasonBlank     = "a booked entry without an id"
	reasonDuplicate = "one id for several entries"
	reasonReused    = "an id given again to another entry"
	reasonChanged   = "ids that change between fetches"
)

// manyStrangers ends trust without waiting for the end of a list: a bank whose
// ids are new at every fetch would have the whole list held in memory.
const manyStrangers = 100

func withdraw(reason string) *bankfeed.IDTrust {
	return &bankfeed.IDTrust{Withdrawn: true, Reason: reason, Recipe: Recipe}
}

// rowOf finds the row of an id, -1 if none is stored.
func (l *Listing) rowOf(key uint64) int32 {
	i := sort.Search(len(l.byKey), func(i int) bool { return l.rows[l.byKey[i]].key >= key })
	if i < len(l.byKey) && l.rows[l.byKey[i]].key == key {
		return l.byKey[i]
	}
	return -1
}

// group finds the rows of a fingerprint: first and the one past the last.
func (l *Listing) group(fingerprint uint64) (lo, hi int32) {
	i := sort.Search(len(l.rows), func(i int) bool { return l.rows[i].print >= fingerprint })
	n := sort.Search(len(l.rows)-i, func(n int) bool { return l.rows[i+n].print > fingerprint })
	return int32(i), int32(i + n)
}

// countKey is where counts keeps a fingerprint. Pending and booked entries are
// counted apart: one does not stand for the other.
func countKey(fingerprint uint64, provisional bool) uint64 {
	if provisional {
		return ^fingerprint
	}
	return fingerprint
}

// note remembers on which page a fingerprint came first.
func (l *Listing) note(fingerprint uint64, provisional bool) {
	k := countKey(fingerprint, provisional)
	if c := l.counts[k]; c.page == 0 {
		c.page = l.page
		l.counts[k] = c
	}
}

// repeated reports whether an earlier page listed the fingerprint, so that the
// item may be the same entry, pushed over the edge of a page.
func (l *Listing) repeated(fingerprint uint64, provisional bool) bool {
	if c := l.counts[countKey(fingerprint, provisional)]; c.page != 0 && c.page < l.page {
		return true
	}
	for i, hi := l.group(fingerprint); i < hi; i++ {
		if r := &l.rows[i]; r.page != 0 && r.page < l.page && !r.is(isMoved) && r.is(isProvisional) == provisional {
			return true
		}
	}
	return false
}

// stranger finds a stored entry that the item, which came under another id,
// could be: one of the same fingerprint that its own id did not bring.
func (l *Listing) stranger(id *bankfeed.Identity, day int32) *row {
	for i, hi := l.group(id.Fingerprint); i < hi; i++ {
		r := &l.rows[i]
		if !r.is(isProvisional) && (r.page == 0 || r.is(isMoved)) && l.listable(r, day) {
			return r
		}
	}
	return nil
}

// listable reports whether a row can be meant by an item of its fingerprint.
// Rows of items with a date have that date. Of those without one, the bank
// cannot list what was stored before the window began: they were booked by then.
func (l *Listing) listable(r *row, day int32) bool {
	return day != noDay || r.is(isProvisional) || r.day >= l.from
}

// settled entries are those that the bank booked; only they need an id.
func settled(s bankfeed.TransactionStatus) bool {
	return s == bankfeed.TransactionBooked || s == bankfeed.TransactionDone
}

const noDay = math.MinInt32

// dayNumber counts days since 1970.
func dayNumber(d bankfeed.Date) int32 {
	t, err := time.Parse(time.DateOnly, string(d))
	if err != nil {
		return noDay
	}
	return int32(t.Unix() / (24 * 60 * 60)) // exact: midnight UTC
}

func moneyOf(t *bankfeed.Transaction) uint64 {
	return cash(t.Money.Amount.Canonical(), t.Money.Currency)
}

func cash(amount, currency string) uint64 {
	var room [64]byte
	return sum(field(field(room[:0], amount), currency))
}

// canonical drops what Amount.Canonical does not write.
func canonical(amount string) string {
	if strings.Contains(amount, ".") {
		amount = strings.TrimRight(strings.TrimRight(amount, "0"), ".")
	}
	if amount == "-0" || amount == "" {
		return "0"
	}
	return amount
}
