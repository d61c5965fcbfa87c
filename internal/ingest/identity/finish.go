package identity

import "github.com/bankfeed/bankfeed"

// End says what the caller knows when the last page was given.
type End struct {
	// Pending: the bank was asked for pending items, so that one that is not
	// listed is no longer pending.
	Pending bool
	// Stable: the list did not move while it was read. A list of one page
	// cannot have moved.
	Stable bool
}

// Settled is what the end of a list decides.
type Settled struct {
	Insert []bankfeed.TransactionRow
	Update []bankfeed.TransactionRow // with the numbers of the stored rows
	Remove []bankfeed.TransactionID
	Same   []bankfeed.TransactionID // as in Decision
	// Unsettled counts items that only another reading can decide, because the
	// list was not Stable. Nothing is stored for them: the next listing must
	// begin no later than this one did.
	Unsettled int
	// Restart: the list has to be read from its first page, because what is
	// open depends on pages that this listing did not see, changed on the way,
	// or needs to be confirmed. Nothing else is set.
	Restart bool
	// Withdraw, when set, is the account's new trust. Nothing else is.
	Withdraw *bankfeed.IDTrust
}

// Finish decides about what was held back and about pending rows that are no
// longer listed. The Listing is of no use afterwards.
func (l *Listing) Finish(end End) Settled {
	l.ended = true
	if l.again || l.resumed && (len(l.held) > 0 || end.Pending && l.anyOpen()) {
		return Settled{Restart: true}
	}
	l.page++ // what is found from here on was not on a page
	f := finishing{Listing: l, end: end}
	for _, h := range l.held {
		switch {
		case h.row >= 0:
			f.named(h)
		case h.t.Status.Provisional():
			f.pendingTwin(h)
		}
	}
	var booked []*held
	for _, h := range l.held {
		if h.row < 0 && !h.t.Status.Provisional() && f.isNew(h) {
			booked = append(booked, h)
		}
	}
	if f.reason != "" {
		return Settled{Withdraw: withdraw(f.reason)}
	}
	if f.again {
		return Settled{Restart: true}
	}
	for i, at := range l.links(booked, end.Pending) {
		if at >= 0 {
			f.replace(booked[i], &l.rows[at])
		} else {
			f.insert(booked[i])
		}
	}
	if end.Pending && end.Stable {
		for i := range l.rows {
			if l.rows[i].open() {
				f.s.Remove = append(f.s.Remove, l.rows[i].id)
			}
		}
	}
	return f.s
}

func (l *Listing) anyOpen() bool {
	for i := range l.rows {
		if l.rows[i].open() {
			return true
		}
	}
	return false
}

// finishing is a Listing on its way to what its end decides.
type finishing struct {
	*Listing
	end    End
	s      Settled
	reason string // why trust ends
}

// insert and replace complete a decision; waits leaves it to another reading.
func (f *finishing) insert(h *held) {
	f.s.Insert = append(f.s.Insert, bankfeed.TransactionRow{Transaction: h.t, Identity: h.id})
}

func (f *finishing) replace(h *held, r *row) {
	if r.content != h.id.Content {
		t := h.t
		t.ID = r.id
		f.s.Update = append(f.s.Update, bankfeed.TransactionRow{Transaction: t, Identity: h.id})
	} else if f.same {
		f.s.Same = append(f.s.Same, r.id)
	}
	r.see(f.page, &h.t, &h.id)
}

func (f *finishing) waits() { f.s.Unsettled++ }

// named settles an item under the id of a stored row: a booked one with another
// fingerprint, or a pending one of what was booked.
func (f *finishing) named(h *held) {
	r := &f.rows[h.row]
	if h.t.Status.Provisional() {
		switch {
		case r.cash != moneyOf(&h.t):
			f.reason = reasonReused
		case r.page != 0 || r.day < f.from: // it is booked, the pending list is behind
		case !f.end.Stable:
			f.waits()
		default:
			f.replace(h, r)
		}
		return
	}
	switch {
	case f.stranger(&h.id, dayNumber(dateOf(&h.t))) != nil && f.end.Stable:
		f.reason = reasonChanged
	case !f.end.Stable:
		f.waits()
	default:
		t := h.t
		t.ID = r.id
		f.s.Update = append(f.s.Update, bankfeed.TransactionRow{Transaction: t, Identity: h.id})
	}
}

// pendingTwin settles a pending item: a row of the same fingerprint that was
// not listed otherwise is the same, under whatever id. A row that differs in
// nothing else keeps the id it has.
func (f *finishing) pendingTwin(h *held) {
	if h.doubt && !f.end.Stable {
		f.waits()
		return
	}
	lo, hi := f.group(h.id.Fingerprint)
	var found *row
	for i := lo; i < hi; i++ {
		if r := &f.rows[i]; r.open() && (found == nil || r.content == h.id.Content && found.content != h.id.Content) {
			found = r
		}
	}
	if found != nil {
		f.replace(h, found)
	} else {
		f.insert(h)
	}
}

// isNew settles a booked item as far as stored booked rows go; true leaves it
// to the links.
func (f *finishing) isNew(h *held) bool {
	day := dayNumber(dateOf(&h.t))
	if f.trusted && h.id.Key != 0 {
		if f.stranger(&h.id, day) != nil {
			if f.end.Stable {
				f.reason = reasonChanged
			} else {
				f.waits()
			}
			return false
		}
	}
	if h.doubt && !f.end.Stable {
		f.waits()
		return false
	}
	if h.doubt && !f.trusted && !f.confirmed(h.id.Fingerprint) {
		f.again = true
		return false
	}
	if h.doubt && f.trusted && h.id.Key != 0 && !f.idsStay() {
		if f.before.fresh != nil {
			f.reason = reasonChanged
		}
		f.again = true
		return false
	}
	if !f.trusted || h.id.Key == 0 {
		lo, hi := f.group(h.id.Fingerprint)
		r := f.occurrence(lo, hi, false, day, h.id.Content, true)
		if r == nil {
			r = f.occurrence(lo, hi, false, day, 0, false)
		}
		if r != nil {
			f.replace(h, r)
			return false
		}
	}
	return true
}
