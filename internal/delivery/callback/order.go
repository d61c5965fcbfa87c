package callback

import "github.com/bankfeed/bankfeed"

// order keeps what an ordered subscription promises: of a connection, one
// delivery is under way at a time, and what follows one that fails waits.
type order struct {
	on     bool
	chains map[bankfeed.ConnectionID][]*item // behind one that is under way
	busy   map[bankfeed.ConnectionID]bool    // one is under way
	// blocked connections have a waiting delivery: what is new goes behind it. A
	// connection may stand here for longer than that; the store sees to it that
	// the first of those that wait is not behind anything.
	blocked map[bankfeed.ConnectionID]bool
	ready   []*item // next of a chain
}

func newOrder() order {
	return order{chains: map[bankfeed.ConnectionID][]*item{}, busy: map[bankfeed.ConnectionID]bool{}, blocked: map[bankfeed.ConnectionID]bool{}}
}

// keeps reports whether the item has a place to keep.
func (o *order) keeps(i *item) bool { return i.Connection != 0 && (o.on || len(o.busy) > 0) }

// waits puts an item behind the one of its connection that is under way, and
// reports whether there is one.
func (o *order) waits(i *item) bool {
	if !o.keeps(i) || !o.busy[i.Connection] {
		return false
	}
	o.chains[i.Connection] = append(o.chains[i.Connection], i)
	return true
}

// begins notes that an item is under way.
func (o *order) begins(i *item) {
	if o.on && i.Connection != 0 {
		o.busy[i.Connection] = true
	}
}

// ended lets the next of a connection go.
func (o *order) ended(c bankfeed.ConnectionID) {
	delete(o.busy, c)
	if chain := o.chains[c]; len(chain) > 0 {
		o.ready = append(o.ready, chain[0])
		if o.chains[c] = chain[1:]; len(chain) == 1 {
			delete(o.chains, c)
		}
		o.busy[c] = true // it is, soon
	}
}

// block takes away what waits behind an item that failed, or takes long.
func (o *order) block(c bankfeed.ConnectionID) []*item {
	if !o.on || c == 0 {
		return nil
	}
	o.blocked[c] = true
	chain := o.chains[c]
	delete(o.chains, c)
	return chain
}

// clear takes away everything that is not under way, oldest first within a
// connection.
func (o *order) clear() (list []*item) {
	for _, i := range o.ready {
		delete(o.busy, i.Connection)
	}
	list, o.ready = o.ready, nil
	for c, chain := range o.chains {
		list = append(list, chain...)
		delete(o.chains, c)
	}
	return list
}
