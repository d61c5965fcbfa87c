package identity

import (
	"cmp"
	"slices"
	"sort"

	"github.com/bankfeed/bankfeed"
)

// Document recognises the transactions of one account in a document that a
// client hands in. It differs from a Listing in what is known for sure: a
// document does not move while it is read, and its ids are the client's own
// word. So nothing has to be held back, and an id is never doubted.
//
// The document is read twice. First every entry is given to Note; then every
// stored row of the account to Know; then every entry, in the same order, to
// Decide. An entry with an id is the row of that id, wherever that stands. One
// without is the n-th of its fingerprint in the document, and stored rows of the
// fingerprint are occurrences 1 to n: first those without an id, then those
// whose id the document does not name. A row that the document does not mention
// stays as it is. It costs about 100 bytes for each entry with an id, and for
// each stored row of the document's days.
type Document struct {
	keys        map[uint64]struct{} // of the document
	first, last bankfeed.Date
	rows        []documentRow
	byKey       []int32 // rows with a key, by key
	sorted      bool
}

type documentRow struct {
	id                  bankfeed.TransactionID
	key, print, content uint64
	next                int32 // from here on, the first that no entry was found for
	class               class
}

// class says which entries a row may stand for beside the one of its id.
type class uint8

const (
	unnamed class = iota // it has no id
	loose                // it has one that the document does not name
	bound                // its id is in the document
)

// NewDocument begins a document's entries of one account.
func NewDocument() *Document { return &Document{keys: map[uint64]struct{}{}} }

// Note takes notice of an entry. It reports false for an id that another entry
// has too, which makes no sense in one document.
func (d *Document) Note(t *bankfeed.Transaction) bool {
	day := dateOf(t)
	if d.first == "" || day < d.first {
		d.first = day
	}
	d.last = max(d.last, day)
	var room [512]byte
	key := keyOf(room[:0], t)
	if key == 0 {
		return true
	}
	n := len(d.keys)
	d.keys[key] = struct{}{}
	return len(d.keys) > n
}

// Window is the days whose stored rows matter. Where whole is set, rows of any
// other day do too: they may have an id that the document names.
func (d *Document) Window() (first, last bankfeed.Date, whole bool) {
	return d.first, d.last, len(d.keys) > 0
}

// Know takes a stored row, in any order, and keeps it if the document could mean
// it. A fingerprint includes the day, so rows of other days are of interest for
// their ids only.
func (d *Document) Know(k *Known) {
	c := loose
	if k.Key == 0 {
		c = unnamed
	} else if _, ok := d.keys[k.Key]; ok {
		c = bound
	}
	if c == bound || k.Day >= d.first && k.Day <= d.last {
		d.rows = append(d.rows, documentRow{id: k.ID, key: k.Key, print: k.Fingerprint, content: k.Content, class: c})
	}
}

func (d *Document) sort() {
	slices.SortFunc(d.rows, func(a, b documentRow) int {
		return cmp.Or(a.order(b.print, b.class, b.content), cmp.Compare(a.id, b.id))
	})
	for i := range d.rows {
		d.rows[i].next = int32(i)
		if d.rows[i].class == bound {
			d.byKey = append(d.byKey, int32(i))
		}
	}
	slices.SortStableFunc(d.byKey, func(i, j int32) int { return cmp.Compare(d.rows[i].key, d.rows[j].key) })
	d.sorted = true
}

func (r *documentRow) order(print uint64, c class, content uint64) int {
	return cmp.Or(cmp.Compare(r.print, print), cmp.Compare(r.class, c), cmp.Compare(r.content, content))
}

// Entry is what an entry of a document means.
type Entry struct {
	Identity bankfeed.Identity
	ID       bankfeed.TransactionID // of the stored row; 0: it is new
	Same     bool                   // as it is stored: nothing to write
	// Named: the entry has no id, but the row has one, which it keeps.
	Named bool
}

// Decide tells what the next entry means.
func (d *Document) Decide(t *bankfeed.Transaction) Entry {
	if !d.sorted {
		d.sort()
	}
	e := Entry{Identity: Of(t)}
	r := d.named(e.Identity.Key)
	if r == nil {
		r = d.occurrence(&e.Identity, unnamed)
	}
	if r == nil && e.Identity.Key == 0 {
		if r = d.occurrence(&e.Identity, loose); r != nil {
			e.Named, e.Identity.Key = true, r.key
		}
	}
	if r == nil {
		return e
	}
	e.ID = r.id
	e.Same = r.content == e.Identity.Content && r.key == e.Identity.Key
	return e
}

func (d *Document) named(key uint64) *documentRow {
	i := sort.Search(len(d.byKey), func(i int) bool { return d.rows[d.byKey[i]].key >= key })
	if i < len(d.byKey) && d.rows[d.byKey[i]].key == key {
		return &d.rows[d.byKey[i]]
	}
	return nil
}

// occurrence takes a row of the fingerprint that no entry was found for: one
// that is stored as it is handed in, else the first.
func (d *Document) occurrence(id *bankfeed.Identity, c class) *documentRow {
	r := d.free(func(r *documentRow) int { return r.order(id.Fingerprint, c, id.Content) })
	if r == nil {
		r = d.free(func(r *documentRow) int { return r.order(id.Fingerprint, c, r.content) })
	}
	if r != nil {
		r.next++
	}
	return r
}

// free finds the first row of a range that no entry was found for. Rows that
// were taken point behind themselves, and every search shortens the way: any
// number of equal entries costs no more than different ones.
func (d *Document) free(compare func(*documentRow) int) *documentRow {
	first := sort.Search(len(d.rows), func(i int) bool { return compare(&d.rows[i]) >= 0 })
	at := int32(first)
	for int(at) < len(d.rows) && d.rows[at].next != at {
		at = d.rows[at].next
	}
	for i := int32(first); i < at; {
		i, d.rows[i].next = d.rows[i].next, at
	}
	if int(at) == len(d.rows) || compare(&d.rows[at]) != 0 {
		return nil
	}
	return &d.rows[at]
}
