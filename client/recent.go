package client

import "github.com/bankfeed/bankfeed"

// recent remembers the last ids that were added, up to a number.
type recent struct {
	ring []bankfeed.UUID
	next int
	set  map[bankfeed.UUID]struct{}
}

func newRecent(n int) *recent {
	return &recent{ring: make([]bankfeed.UUID, 0, n), set: make(map[bankfeed.UUID]struct{}, n)}
}

func (r *recent) has(id bankfeed.UUID) bool {
	_, ok := r.set[id]
	return ok
}

func (r *recent) add(id bankfeed.UUID) {
	if cap(r.ring) == 0 || id == (bankfeed.UUID{}) || r.has(id) {
		return
	}
	if len(r.ring) < cap(r.ring) {
		r.ring = append(r.ring, id)
	} else {
		delete(r.set, r.ring[r.next])
		r.ring[r.next] = id
		r.next = (r.next + 1) % len(r.ring)
	}
	r.set[id] = struct{}{}
}
