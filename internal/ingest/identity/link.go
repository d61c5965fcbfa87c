package identity

import (
	"cmp"
	"hash/fnv"
	"slices"
	"strings"
	"unicode"

	"github.com/bankfeed/bankfeed"
)

const (
	// linkDays is how far the day of a pending item and of the booked entry it
	// became may lie apart, in either direction: some banks date a pending item
	// at the latest day on which it can be booked.
	linkDays = 10
	// maxRivals bounds how many pending rows one booked entry is compared with,
	// for accounts with thousands of equal payments. An entry that is not
	// linked is new and its pending row goes: the set stays right.
	maxRivals = 64
)

// provisional is a stored row that the bank may replace.
type provisional struct {
	row   int32
	words []uint32
}

// pair is a booked entry and the pending row that it may have been.
type pair struct {
	entry, row int32
	alike      int // 0 … 1000
	days       int32
}

// linkable reports whether a provisional row that was not seen yet could be
// what this booked entry was before.
func (l *Listing) linkable(money uint64, day int32) bool {
	return slices.ContainsFunc(l.pending[money], func(p provisional) bool {
		r := &l.rows[p.row]
		return r.open() && apart(r.day, day) <= linkDays
	})
}

// links pairs booked entries with pending rows that were not seen: the most
// alike first, then the nearest. The amount must be the same; texts and days
// often change on the way. The result has the row of each entry, -1 for none;
// where pending items were not asked for, not having seen one means nothing.
func (l *Listing) links(entries []*held, pending bool) []int32 {
	linked := make([]int32, len(entries))
	var pairs []pair
	for i, h := range entries {
		linked[i] = -1
		if !pending || !settled(h.t.Status) {
			continue
		}
		money, day := moneyOf(&h.t), dayNumber(dateOf(&h.t))
		var words []uint32
		rivals := 0
		for _, p := range l.pending[money] { // by day
			r := &l.rows[p.row]
			if !r.open() || apart(r.day, day) > linkDays {
				continue
			}
			if rivals++; rivals > maxRivals {
				break
			}
			if words == nil {
				words = wordsOf(&h.t)
			}
			pairs = append(pairs, pair{int32(i), p.row, alike(words, p.words), apart(r.day, day)})
		}
	}
	slices.SortFunc(pairs, func(a, b pair) int {
		return cmp.Or(cmp.Compare(b.alike, a.alike), cmp.Compare(a.days, b.days), cmp.Compare(a.entry, b.entry), cmp.Compare(l.rows[a.row].id, l.rows[b.row].id))
	})
	for _, p := range pairs {
		if r := &l.rows[p.row]; linked[p.entry] < 0 && r.open() {
			linked[p.entry] = p.row
			r.page = l.page
		}
	}
	return linked
}

// apart is the distance of two days, 0 when one is unknown.
func apart(a, b int32) int32 {
	switch {
	case a == noDay || b == noDay:
		return 0
	case a < b:
		return b - a
	}
	return a - b
}

// wordsOf are the words by which two views of one payment are compared, as a
// sorted set of hashes.
func wordsOf(t *bankfeed.Transaction) []uint32 {
	p := counterparty(t)
	texts := append([]string{p.Name, p.Account.Value, t.AdditionalInfo}, t.Remittance...)
	texts = append(texts, t.Structured...)
	if !placeholder(t.EndToEndID) {
		texts = append(texts, t.EndToEndID)
	}
	words := []uint32{}
	for _, s := range texts {
		for _, w := range strings.FieldsFunc(s, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
			h := fnv.New32a()
			_, _ = h.Write([]byte(strings.ToUpper(w))) // a hash never fails
			words = append(words, h.Sum32())
		}
	}
	slices.Sort(words)
	return slices.Compact(words)
}

// alike tells how much of the shorter text is in the longer one, in thousandths.
func alike(a, b []uint32) int {
	if len(a) == 0 || len(b) == 0 {
		return 0
	}
	common := 0
	for i, j := 0, 0; i < len(a) && j < len(b); {
		switch {
		case a[i] < b[j]:
			i++
		case a[i] > b[j]:
			j++
		default:
			common++
			i++
			j++
		}
	}
	return 1000 * common / min(len(a), len(b))
}
