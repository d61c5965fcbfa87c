package identity

import (
	"cmp"
	"slices"

	"github.com/bankfeed/bankfeed"
)

// paging is a page on its way to a decision.
type paging struct {
	*Listing
	items []bankfeed.Transaction
	d     Decision

	news  []int // items under ids that are not stored
	moved []int // items that came under the id of a stored entry with another fingerprint
}

func (p *paging) all() []int {
	all := make([]int, len(p.items))
	for i := range all {
		all[i] = i
	}
	return all
}

func (p *paging) provisional(i int) bool { return p.items[i].Status.Provisional() }

func (p *paging) day(i int) int32 { return dayNumber(dateOf(&p.items[i])) }

func (p *paging) hold(i int, row int32, doubt bool) {
	p.held = append(p.held, &held{t: p.items[i], id: p.d.Identities[i], row: row, doubt: doubt})
}

func (p *paging) insert(i int) {
	p.d.Insert = append(p.d.Insert, i)
}

// update replaces a stored row by an item, or leaves it when nothing differs.
func (p *paging) update(i int, r *row) {
	id := &p.d.Identities[i]
	if r.content == id.Content {
		p.d.Unchanged++
		if p.same {
			p.d.Same = append(p.d.Same, r.id)
		}
	} else {
		p.d.Update = append(p.d.Update, Match{i, r.id})
	}
	r.see(p.page, &p.items[i], id)
}

func (r *row) see(page int32, t *bankfeed.Transaction, id *bankfeed.Identity) {
	r.page, r.content, r.cash = page, id.Content, moneyOf(t)
	provisional := t.Status.Provisional()
	if r.flags &^= isProvisional; provisional {
		r.flags |= isProvisional
	}
}

// named goes through the items with ids: those of stored rows are recognised,
// others are left for unknown. Booked items come first, because a bank may list
// an entry as booked and still as pending, under one id and with one amount:
// then it is booked.
// Items without an id are returned. A reason ends the trust.
func (p *paging) named() (unnamed []int, reason string) {
	for _, provisional := range [...]bool{false, true} {
		for i := range p.items {
			if p.provisional(i) != provisional {
				continue
			}
			key := p.d.Identities[i].Key
			if key == 0 {
				if settled(p.items[i].Status) {
					return nil, reasonBlank
				}
				unnamed = append(unnamed, i)
				continue
			}
			if row := p.rowOf(key); row >= 0 {
				reason = p.stored(i, row)
			} else {
				reason = p.sighted(i, key)
			}
			if reason != "" {
				return nil, reason
			}
		}
	}
	for _, i := range p.moved {
		p.changedPrint(i)
	}
	return unnamed, ""
}

// stored decides about an item under the id of a stored row.
func (p *paging) stored(i int, at int32) (reason string) {
	r, id, provisional := &p.rows[at], &p.d.Identities[i], p.provisional(i)
	if r.page != 0 { // listed before
		switch {
		case r.content == id.Content:
			if r.page == p.page {
				return reasonDuplicate
			}
			r.page = p.page // the list moved
		case provisional == r.is(isProvisional) || r.cash != moneyOf(&p.items[i]):
			return reasonDuplicate
		case provisional:
			// booked already
		default:
			p.update(i, r) // it was booked meanwhile
		}
		return ""
	}
	switch {
	case r.content == id.Content:
		p.recognised++
		p.update(i, r)
	case provisional && !r.is(isProvisional):
		p.hold(i, at, false) // the booked entry may still come
	case r.is(isProvisional):
		p.update(i, r)
	case p.resumed:
		// Its own entry may have been on an earlier page.
		p.hold(i, at, false)
		if r.print != id.Fingerprint {
			r.flags |= isMoved
		}
		r.see(p.page, &p.items[i], id)
	case r.print == id.Fingerprint:
		p.recognised++
		p.update(i, r)
	default:
		day := p.day(i)
		if r.day < p.from && (r.cash != moneyOf(&p.items[i]) || apart(r.day, day) > movedDays) {
			return reasonReused // by a bank that counts each day from 1, say
		}
		r.flags |= isMoved
		r.see(p.page, &p.items[i], id)
		p.moved = append(p.moved, i)
	}
	return ""
}

// movedDays is how far a booking day may move into the window under its id. It
// is less than a week: weekly payments of one amount are not one that moves.
const movedDays = 3

// changedPrint decides about an item under the id of a booked row that looks
// different now: the bank corrected it, or its ids do not identify.
func (p *paging) changedPrint(i int) {
	id := &p.d.Identities[i]
	at := p.rowOf(id.Key)
	doubt := p.repeated(id.Fingerprint, false)
	if doubt || p.stranger(id, p.day(i)) != nil {
		p.hold(i, at, doubt)
	} else {
		p.d.Update = append(p.d.Update, Match{i, p.rows[at].id})
	}
	p.note(id.Fingerprint, false)
}

// sighted decides whether an item under an id that is not stored was listed
// before by this listing.
func (p *paging) sighted(i int, key uint64) (reason string) {
	id, provisional := &p.d.Identities[i], p.provisional(i)
	s, ok := p.fresh[key]
	switch {
	case !ok:
		p.fresh[key] = sighting{content: id.Content, cash: moneyOf(&p.items[i]), page: p.page, provisional: provisional}
		p.news = append(p.news, i)
	case s.content == id.Content:
		if s.page == p.page {
			return reasonDuplicate
		}
		s.page = p.page // the list moved
		p.fresh[key] = s
	case provisional == s.provisional || s.cash != moneyOf(&p.items[i]):
		return reasonDuplicate
	case provisional:
		// booked already
	default:
		// It was booked meanwhile. What is still held is simply replaced; what
		// was stored has a number that only the store knows: read again.
		if s.held > 0 {
			h := p.held[s.held-1]
			h.t, h.id = p.items[i], *id
			h.doubt = h.doubt || p.repeated(id.Fingerprint, false)
			p.note(id.Fingerprint, false)
		} else {
			p.again = true
		}
		s.content, s.page, s.provisional = id.Content, p.page, false
		p.fresh[key] = s
	}
	return ""
}

// unknown decides about items under ids that are not stored. Pending ones come
// first, so that rows they stand for are no longer open.
func (p *paging) unknown() {
	for _, provisional := range [...]bool{true, false} {
		for _, i := range p.news {
			if p.provisional(i) != provisional {
				continue
			}
			id := &p.d.Identities[i]
			doubt := p.repeated(id.Fingerprint, provisional)
			if doubt || p.waits(i) {
				p.hold(i, -1, doubt)
				s := p.fresh[id.Key]
				s.held = int32(len(p.held))
				p.fresh[id.Key] = s
			} else {
				p.insert(i)
			}
			p.note(id.Fingerprint, provisional)
		}
	}
}

// waits reports whether an item that looks new could be a stored row that the
// list has not shown yet.
func (p *paging) waits(i int) bool {
	id := &p.d.Identities[i]
	if p.provisional(i) {
		lo, hi := p.group(id.Fingerprint)
		return slices.ContainsFunc(p.rows[lo:hi], func(r row) bool { return r.open() })
	}
	if r := p.stranger(id, p.day(i)); r != nil {
		if !r.is(isClaimed) { // the first of its fingerprint
			r.flags |= isClaimed
			p.strangers++
		}
		return true
	}
	return settled(p.items[i].Status) && p.linkable(moneyOf(&p.items[i]), p.day(i))
}

// unnamed decides about items that are known by fingerprint and occurrence:
// all of them without trust, those without an id under it.
func (p *paging) unnamed(list []int) {
	slices.SortStableFunc(list, func(i, j int) int {
		if a, b := p.provisional(i), p.provisional(j); a != b {
			if a {
				return -1 // rows that pending items stand for are no longer open
			}
			return 1
		}
		return cmp.Compare(p.d.Identities[i].Fingerprint, p.d.Identities[j].Fingerprint)
	})
	for len(list) > 0 {
		n, first := 1, list[0]
		for n < len(list) && p.d.Identities[list[n]].Fingerprint == p.d.Identities[first].Fingerprint && p.provisional(list[n]) == p.provisional(first) {
			n++
		}
		p.twins(list[:n])
		list = list[n:]
	}
}

// twins decides about all items of a page with one fingerprint.
func (p *paging) twins(list []int) {
	fingerprint, provisional := p.d.Identities[list[0]].Fingerprint, p.provisional(list[0])
	k := countKey(fingerprint, provisional)
	c := p.counts[k]
	if c.page == 0 {
		c.page = p.page
	}
	c.listed += int32(len(list))
	c.most = max(c.most, int32(len(list)))
	lo, hi := p.group(fingerprint)

	// What is stored as it is listed is the same, whichever occurrence.
	rest := list[:0]
	for _, i := range list {
		if r := p.occurrence(lo, hi, provisional, p.day(i), p.d.Identities[i].Content, true); r != nil {
			p.update(i, r)
			c.given++
		} else {
			rest = append(rest, i)
		}
	}
	// As many as the fullest page shows are certain. A list that moved repeats
	// at the start of a page what the one before had at its end, so the last
	// ones are.
	for j := len(rest) - 1; j >= 0; j-- {
		i := rest[j]
		if c.given >= c.most {
			p.hold(i, -1, true)
			continue
		}
		c.given++
		if r := p.occurrence(lo, hi, provisional, p.day(i), 0, false); r != nil {
			p.update(i, r)
		} else if p.openTwin(lo, hi, provisional) || settled(p.items[i].Status) && p.linkable(moneyOf(&p.items[i]), p.day(i)) {
			p.hold(i, -1, false)
		} else {
			p.insert(i)
		}
	}
	p.counts[k] = c
}

// occurrence finds the first row of a fingerprint that no item was found for,
// with a certain content if exact.
func (l *Listing) occurrence(lo, hi int32, provisional bool, day int32, content uint64, exact bool) *row {
	for i := lo; i < hi; i++ {
		r := &l.rows[i]
		if r.page == 0 && r.is(isProvisional) == provisional && (!exact || r.content == content) && (!l.trusted || r.key == 0) && l.listable(r, day) {
			return r
		}
	}
	return nil
}

// openTwin reports whether a pending item that lost its id could be a row that
// has one and was not listed yet.
func (l *Listing) openTwin(lo, hi int32, provisional bool) bool {
	return provisional && l.trusted && slices.ContainsFunc(l.rows[lo:hi], func(r row) bool { return r.open() })
}
