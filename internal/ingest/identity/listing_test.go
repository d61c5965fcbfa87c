package identity

import (
	"fmt"
	"slices"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
)

const booked, pending = bankfeed.TransactionBooked, bankfeed.TransactionPending

// tx is an entry: id, amount, day, text.
func tx(status bankfeed.TransactionStatus, id, amount string, day bankfeed.Date, text string) bankfeed.Transaction {
	return bankfeed.Transaction{Status: status, BankID: id, BookingDate: day, Remittance: []string{text},
		Money: bankfeed.Money{Amount: bankfeed.MustAmount(amount), Currency: "EUR"}}
}

// edited has another content and the same fingerprint.
func edited(t bankfeed.Transaction) bankfeed.Transaction {
	t.AdditionalInfo += "edited"
	return t
}

// stored are rows 1, 2, 3 …
func stored(rows ...bankfeed.Transaction) []Known {
	known := make([]Known, len(rows))
	for i := range rows {
		t := &rows[i]
		known[i] = Known{ID: bankfeed.TransactionID(i + 1), Identity: Of(t), Status: t.Status, Day: t.Day(), Amount: t.Money.Amount.String(), Currency: "EUR"}
		if dateOf(t) == "" {
			known[i].Day = "2024-03-01"
		}
		if t.Status.Provisional() {
			known[i].Pending = t
		}
	}
	return known
}

const windowStart = bankfeed.Date("2024-03-01")

func trusting(known ...Known) *Listing {
	return NewListing(known, bankfeed.IDTrust{}, windowStart, false)
}

func doubting(known ...Known) *Listing {
	return NewListing(known, bankfeed.IDTrust{Withdrawn: true}, windowStart, false)
}

// told is a decision in short: +index, id=index, and what else it says.
func told(d Decision) string {
	switch {
	case d.Withdraw != nil:
		return d.Withdraw.Reason
	case d.Reach != "":
		return "reach " + string(d.Reach)
	}
	var s []string
	for _, i := range d.Insert {
		s = append(s, fmt.Sprintf("+%d", i))
	}
	for _, m := range d.Update {
		s = append(s, fmt.Sprintf("%d=%d", m.ID, m.Index))
	}
	return fmt.Sprint(s, " unchanged ", d.Unchanged, " unsettled ", d.Unsettled)
}

// ended is what Finish says, in short: +text, id=text, -id.
func ended(s Settled) string {
	switch {
	case s.Withdraw != nil:
		return s.Withdraw.Reason
	case s.Restart:
		return "restart"
	}
	var list []string
	for _, r := range s.Insert {
		list = append(list, "+"+r.Remittance[0])
	}
	for _, r := range s.Update {
		list = append(list, fmt.Sprintf("%d=%s", r.ID, r.Remittance[0]))
	}
	for _, id := range s.Remove {
		list = append(list, fmt.Sprintf("-%d", id))
	}
	slices.Sort(list)
	return fmt.Sprint(list, " unsettled ", s.Unsettled)
}

var whole = End{Pending: true, Stable: true}

type page = []bankfeed.Transaction

func TestListing(t *testing.T) {
	a, b := tx(booked, "A", "-1", "2024-03-02", "a"), tx(booked, "B", "-2", "2024-03-02", "b")
	twin := tx(booked, "A2", "-1", "2024-03-02", "a")
	bare := func(t bankfeed.Transaction) bankfeed.Transaction { t.BankID = ""; return t }
	p := tx(pending, "P", "-3", "2024-03-02", "p")
	other := func(x bankfeed.Transaction, amount string, day bankfeed.Date) bankfeed.Transaction {
		x.Money.Amount, x.BookingDate = bankfeed.MustAmount(amount), day
		return x
	}
	asBooked := func(x bankfeed.Transaction) bankfeed.Transaction { x.Status = booked; return x }
	scheduled := tx(bankfeed.TransactionScheduled, "", "-9", "2024-04-01", "standing order")
	old := tx(booked, "A", "-1", "2024-02-20", "a")

	for name, c := range map[string]struct {
		l     *Listing
		pages []page
		want  []string // one for each page; the last one for the end
		end   *End
	}{
		"new, changed, unchanged":                 {trusting(stored(a, b)...), []page{{tx(booked, "C", "1", "2024-03-03", "c"), edited(a), b}}, []string{"[+0 1=1] unchanged 1 unsettled 0", "[] unsettled 0"}, nil},
		"a booked entry that is not listed stays": {trusting(stored(a)...), []page{{}}, []string{"[] unchanged 0 unsettled 0", "[] unsettled 0"}, nil},

		// an entry on two pages
		"listed twice, stored":         {trusting(stored(a, b)...), []page{{a}, {a, b}}, []string{"[] unchanged 1 unsettled 0", "[] unchanged 1 unsettled 0", "[] unsettled 0"}, nil},
		"listed twice, new":            {trusting(), []page{{a}, {a, b}}, []string{"[+0] unchanged 0 unsettled 0", "[+1] unchanged 0 unsettled 0", "[] unsettled 0"}, nil},
		"twins under ids of their own": {trusting(), []page{{a, twin}}, []string{"[+0 +1] unchanged 0 unsettled 0", "[] unsettled 0"}, nil},

		// ids that do not identify
		"no id":                         {trusting(), []page{{a, bare(b)}}, []string{reasonBlank}, nil},
		"no id, not booked":             {trusting(), []page{{bare(p), scheduled}}, []string{"[+0 +1] unchanged 0 unsettled 0", "[] unsettled 0"}, nil},
		"no id, not booked, again":      {trusting(stored(bare(p), scheduled)...), []page{{bare(p), scheduled}}, []string{"[] unchanged 2 unsettled 0", "[] unsettled 0"}, nil},
		"one id on one page":            {trusting(), []page{{a, a}}, []string{reasonDuplicate}, nil},
		"one id on one page, stored":    {trusting(stored(a)...), []page{{a, a}}, []string{reasonDuplicate}, nil},
		"one id on two pages":           {trusting(), []page{{a}, {other(a, "-5", "2024-03-02")}}, []string{"[+0] unchanged 0 unsettled 0", reasonDuplicate}, nil},
		"one id on two pages, stored":   {trusting(stored(a)...), []page{{a}, {other(a, "-5", "2024-03-02")}}, []string{"[] unchanged 1 unsettled 0", reasonDuplicate}, nil},
		"another id":                    {trusting(stored(a)...), []page{{twin}}, []string{"[] unchanged 0 unsettled 1", reasonChanged}, nil},
		"another id, before the window": {trusting(stored(old)...), []page{{func() bankfeed.Transaction { x := old; x.BankID = "Z"; return x }()}}, []string{"[] unchanged 0 unsettled 1", reasonChanged}, nil},
		"a twin before its twin":        {trusting(stored(a)...), []page{{twin}, {a}}, []string{"[] unchanged 0 unsettled 1", "[] unchanged 1 unsettled 1", "[+a] unsettled 0"}, nil},
		"a twin beside its twin":        {trusting(stored(a)...), []page{{twin, a}}, []string{"[+0] unchanged 1 unsettled 0", "[] unsettled 0"}, nil},
		"a twin after its twin":         {trusting(stored(a)...), []page{{a}, {twin}}, []string{"[] unchanged 1 unsettled 0", "[] unchanged 0 unsettled 1", "[+a] unsettled 0"}, nil},
		"ids that move along": {trusting(stored(tx(booked, "1", "-1", "2024-03-02", "a"), tx(booked, "2", "-2", "2024-03-02", "b"))...),
			[]page{{tx(booked, "1", "-9", "2024-03-02", "new"), tx(booked, "2", "-1", "2024-03-02", "a"), tx(booked, "3", "-2", "2024-03-02", "b")}},
			[]string{"[1=0] unchanged 0 unsettled 2", reasonChanged}, nil},
		"corrected by the bank":          {trusting(stored(a)...), []page{{other(a, "-1.10", "2024-03-04")}}, []string{"[1=0] unchanged 0 unsettled 0", "[] unsettled 0"}, nil},
		"moved into the window":          {trusting(stored(tx(booked, "A", "-1", "2024-02-29", "a"))...), []page{{tx(booked, "A", "-1", "2024-03-02", "a")}}, []string{"[1=0] unchanged 0 unsettled 0", "[] unsettled 0"}, nil},
		"id used again a week later":     {trusting(stored(tx(booked, "A", "-1", "2024-02-27", "a"))...), []page{{tx(booked, "A", "-1", "2024-03-05", "a")}}, []string{reasonReused}, nil},
		"id used again for other money":  {trusting(stored(tx(booked, "A", "-1", "2024-02-29", "a"))...), []page{{tx(booked, "A", "-2", "2024-03-01", "a")}}, []string{reasonReused}, nil},
		"id of what was booked, pending": {trusting(stored(old)...), []page{{tx(pending, "A", "-7", "2024-03-01", "a")}}, []string{"[] unchanged 0 unsettled 1", reasonReused}, nil},

		// pending and booked under one id
		"both on one page":             {trusting(), []page{{p, asBooked(p)}}, []string{"[+1] unchanged 0 unsettled 0", "[] unsettled 0"}, nil},
		"both on one page, stored":     {trusting(stored(p)...), []page{{p, asBooked(p)}}, []string{"[1=1] unchanged 0 unsettled 0", "[] unsettled 0"}, nil},
		"both, booked on a later page": {trusting(stored(asBooked(p))...), []page{{p}, {asBooked(p)}}, []string{"[] unchanged 0 unsettled 1", "[] unchanged 1 unsettled 1", "[] unsettled 0"}, nil},
		"both, new, booked later":      {trusting(), []page{{p}, {asBooked(p)}}, []string{"[+0] unchanged 0 unsettled 0", "[] unchanged 0 unsettled 0", "restart"}, nil},
		"both, other money":            {trusting(), []page{{p, other(asBooked(p), "-4", "2024-03-02")}}, []string{reasonDuplicate}, nil},
		"booked with a tip":            {trusting(stored(p)...), []page{{other(asBooked(p), "-4", "2024-03-02")}}, []string{"[1=0] unchanged 0 unsettled 0", "[] unsettled 0"}, nil},
		"back to pending":              {trusting(stored(asBooked(p))...), []page{{p}}, []string{"[] unchanged 0 unsettled 1", "[1=p] unsettled 0"}, nil},

		// pending items are a snapshot
		"no longer pending":                   {trusting(stored(p)...), []page{{a}}, []string{"[+0] unchanged 0 unsettled 0", "[-1] unsettled 0"}, nil},
		"pending not asked for":               {trusting(stored(p)...), []page{{tx(booked, "Q", "-3", "2024-03-03", "p")}}, []string{"[] unchanged 0 unsettled 1", "[+p] unsettled 0"}, &End{Stable: true}},
		"pending under a new id":              {trusting(stored(p)...), []page{{tx(pending, "P2", "-3", "2024-03-02", "p")}}, []string{"[] unchanged 0 unsettled 1", "[] unsettled 0"}, nil},
		"pending lost its id":                 {trusting(stored(p)...), []page{{bare(p)}}, []string{"[] unchanged 0 unsettled 1", "[] unsettled 0"}, nil},
		"pending without an id is edited":     {trusting(stored(bare(p))...), []page{{edited(bare(p))}}, []string{"[1=0] unchanged 0 unsettled 0", "[] unsettled 0"}, nil},
		"a list that moved removes nothing":   {trusting(stored(p)...), []page{{a}}, []string{"[+0] unchanged 0 unsettled 0", "[] unsettled 0"}, &End{Pending: true}},
		"becomes booked":                      {trusting(stored(p)...), []page{{tx(booked, "Q", "-3", "2024-03-12", "other text")}}, []string{"[] unchanged 0 unsettled 1", "[1=other text] unsettled 0"}, nil},
		"becomes booked, dated later before":  {trusting(stored(tx(pending, "P", "-3", "2024-03-12", "p"))...), []page{{tx(booked, "Q", "-3", "2024-03-02", "p")}}, []string{"[] unchanged 0 unsettled 1", "[1=p] unsettled 0"}, nil},
		"eleven days are too many":            {trusting(stored(p)...), []page{{tx(booked, "Q", "-3", "2024-03-13", "p")}}, []string{"[+0] unchanged 0 unsettled 0", "[-1] unsettled 0"}, nil},
		"another amount is another entry":     {trusting(stored(p)...), []page{{tx(booked, "Q", "-3.01", "2024-03-02", "p")}}, []string{"[+0] unchanged 0 unsettled 0", "[-1] unsettled 0"}, nil},
		"still pending beside a like booking": {trusting(stored(p)...), []page{{tx(booked, "Q", "-3", "2024-03-02", "p")}, {p}}, []string{"[] unchanged 0 unsettled 1", "[] unchanged 1 unsettled 1", "[+p] unsettled 0"}, nil},
		"the more alike are linked": {trusting(stored(tx(pending, "P", "-3", "2024-03-02", "bread and butter"), tx(pending, "R", "-3", "2024-03-02", "books"))...),
			[]page{{tx(booked, "X", "-3", "2024-03-04", "CARD books 4711"), tx(booked, "Y", "-3", "2024-03-02", "something")}},
			[]string{"[] unchanged 0 unsettled 2", "[1=something 2=CARD books 4711] unsettled 0"}, nil},
		"then the nearer": {trusting(stored(tx(pending, "P", "-3", "2024-03-02", "x"), tx(pending, "R", "-3", "2024-03-06", "x"))...),
			[]page{{tx(booked, "X", "-3", "2024-03-07", "x")}}, []string{"[] unchanged 0 unsettled 1", "[-1 2=x] unsettled 0"}, nil},
		"without trust too": {doubting(stored(p)...), []page{{tx(booked, "", "-3", "2024-03-05", "p")}}, []string{"[] unchanged 0 unsettled 1", "[1=p] unsettled 0"}, nil},

		// without trust
		"twins on a page":           {doubting(), []page{{a, a, b}}, []string{"[+0 +1 +2] unchanged 0 unsettled 0", "[] unsettled 0"}, nil},
		"twins stored":              {doubting(stored(a, a)...), []page{{a, a, a}}, []string{"[+2] unchanged 2 unsettled 0", "[] unsettled 0"}, nil},
		"one of two is edited":      {doubting(stored(a, edited(a))...), []page{{edited(a), edited(edited(a))}}, []string{"[1=1] unchanged 1 unsettled 0", "[] unsettled 0"}, nil},
		"ids make no difference":    {doubting(stored(a)...), []page{{twin}}, []string{"[] unchanged 1 unsettled 0", "[] unsettled 0"}, nil},
		"over the edge of a page":   {doubting(), []page{{b, a}, {a}}, []string{"[+0 +1] unchanged 0 unsettled 0", "[] unchanged 0 unsettled 1", "restart"}, nil},
		"the list moved":            {doubting(), []page{{b, a}, {a}}, []string{"[+0 +1] unchanged 0 unsettled 0", "[] unchanged 0 unsettled 1", "[] unsettled 1"}, &End{Pending: true}},
		"moved, and a true twin":    {doubting(), []page{{b, a}, {a, edited(a)}}, []string{"[+0 +1] unchanged 0 unsettled 0", "[+1] unchanged 0 unsettled 1", "restart"}, nil},
		"both stored over the edge": {doubting(stored(a, a)...), []page{{b, a}, {a}}, []string{"[+0] unchanged 1 unsettled 0", "[] unchanged 1 unsettled 0", "[] unsettled 0"}, nil},
		"no date, stored before the window": {doubting(func() []Known {
			k := stored(tx(booked, "", "-1", "", "fee"))
			k[0].Day = "2024-02-28"
			return k
		}()...), []page{{tx(booked, "", "-1", "", "fee")}}, []string{"[+0] unchanged 0 unsettled 0", "[] unsettled 0"}, nil},
		"no date, stored in the window": {doubting(stored(tx(booked, "", "-1", "", "fee"))...), []page{{tx(booked, "", "-1", "", "fee")}}, []string{"[] unchanged 1 unsettled 0", "[] unsettled 0"}, nil},

		// resumed at a cursor
		"resumed, all known":        {NewListing(stored(a, b), bankfeed.IDTrust{}, windowStart, true), []page{{b}}, []string{"[] unchanged 1 unsettled 0", "[] unsettled 0"}, nil},
		"resumed, pending not seen": {NewListing(stored(p), bankfeed.IDTrust{}, windowStart, true), []page{{b}}, []string{"[+0] unchanged 0 unsettled 0", "restart"}, nil},
		"resumed, held back":        {NewListing(stored(a), bankfeed.IDTrust{}, windowStart, true), []page{{twin}}, []string{"[] unchanged 0 unsettled 1", "restart"}, nil},
		"resumed, looks different":  {NewListing(stored(a), bankfeed.IDTrust{}, windowStart, true), []page{{edited(a)}}, []string{"[] unchanged 0 unsettled 1", "restart"}, nil},
		"resumed, ids moved along": {NewListing(stored(tx(booked, "1", "-1", "2024-03-02", "a")), bankfeed.IDTrust{}, windowStart, true),
			[]page{{tx(booked, "1", "-9", "2024-03-02", "new")}, {tx(booked, "2", "-1", "2024-03-02", "a")}}, []string{"[] unchanged 0 unsettled 1", "[] unchanged 0 unsettled 2", "restart"}, nil},
		"resumed without trust":      {NewListing(stored(a), bankfeed.IDTrust{Withdrawn: true}, windowStart, true), []page{{b}}, []string{"[+0] unchanged 0 unsettled 0", "restart"}, nil},
		"older than what is known":   {trusting(), []page{{a, tx(booked, "O", "-1", "2024-01-05", "o")}}, []string{"reach 2024-01-05"}, nil},
		"as old as what is known is": {trusting(), []page{{tx(booked, "O", "-1", "2024-01-30", "o")}}, []string{"[+0] unchanged 0 unsettled 0", "[] unsettled 0"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			for i, items := range c.pages {
				d := c.l.Page(items)
				require.Equal(t, c.want[i], told(d), "page %d", i)
				if d.Withdraw != nil {
					require.Equal(t, &bankfeed.IDTrust{Withdrawn: true, Reason: c.want[i], Recipe: Recipe}, d.Withdraw)
				} else if d.Reach == "" {
					require.Len(t, d.Identities, len(items))
				}
			}
			if len(c.want) > len(c.pages) {
				if c.end == nil {
					c.end = &whole
				}
				require.Equal(t, c.want[len(c.pages)], ended(c.l.Finish(*c.end)))
			}
		})
	}
}

// TestConfirm: the second reading of a list that did not change says that the
// twins were two, one of a list that did says that they were not.
func TestConfirm(t *testing.T) {
	a, b := tx(booked, "", "-1", "2024-03-02", "a"), tx(booked, "", "-2", "2024-03-02", "b")
	first := doubting()
	require.Equal(t, "[+0 +1] unchanged 0 unsettled 0", told(first.Page(page{b, a})))
	require.Equal(t, "[] unchanged 0 unsettled 1", told(first.Page(page{a})))
	require.Equal(t, "restart", ended(first.Finish(whole)))

	second := doubting(stored(b, a)...)
	second.Confirm(first)
	require.Equal(t, "[] unchanged 2 unsettled 0", told(second.Page(page{b, a})))
	require.Equal(t, "[] unchanged 0 unsettled 1", told(second.Page(page{a})))
	require.Equal(t, "[+a] unsettled 0", ended(second.Finish(whole)))

	moved := doubting(stored(b, a)...)
	moved.Confirm(first)
	moved.Page(page{tx(booked, "", "-3", "2024-03-02", "new"), b})
	moved.Page(page{a})
	require.Equal(t, "[] unsettled 0", ended(moved.Finish(whole)))
}

// TestTwinsUnderNewIDs: twins cut apart by the edge of a page are two if ids
// stay, and ids stay if one of them was seen in two fetches.
func TestTwinsUnderNewIDs(t *testing.T) {
	first, twin := tx(booked, "A", "-1", "2024-03-02", "a"), tx(booked, "A2", "-1", "2024-03-02", "a")
	read := func(before *Listing, a, b bankfeed.Transaction) *Listing {
		l := trusting()
		l.Confirm(before)
		require.Equal(t, "[+0] unchanged 0 unsettled 0", told(l.Page(page{a})))
		require.Equal(t, "[] unchanged 0 unsettled 1", told(l.Page(page{b})))
		return l
	}
	once := read(nil, first, twin)
	require.Equal(t, "restart", ended(once.Finish(whole)))
	require.Equal(t, "[+a] unsettled 0", ended(read(once, first, twin).Finish(whole)), "in two readings")
	require.Equal(t, reasonChanged, ended(read(once, tx(booked, "X", "-1", "2024-03-02", "a"), tx(booked, "Y", "-1", "2024-03-02", "a")).Finish(whole)))

	l := read(nil, first, twin)
	moved, _ := l.Moved(l.PageDigest(page{first}), page{first})
	require.False(t, moved)
	require.Equal(t, "[+a] unsettled 0", ended(l.Finish(whole)), "on the first page, read again")
}

func TestMoved(t *testing.T) {
	a, b := tx(booked, "A", "-1", "2024-03-02", "a"), tx(booked, "B", "-2", "2024-03-02", "b")
	renamed := page{tx(booked, "X", "-1", "2024-03-02", "a"), tx(booked, "Y", "-2", "2024-03-02", "b")}
	l := trusting()
	digest := l.PageDigest(page{a, b})
	require.Len(t, digest, 32)
	l.Page(page{a, b})
	for name, c := range map[string]struct {
		again page
		moved bool
	}{
		"the same":      {page{a, b}, false},
		"edited":        {page{edited(a), b}, false},
		"another order": {page{b, a}, true},
		"one is new":    {page{tx(booked, "C", "-2", "2024-03-03", "c"), a}, true},
		"a new twin":    {page{a, tx(booked, "B2", "-2", "2024-03-02", "b")}, true},
		"other ids":     {renamed, true},
	} {
		moved, trust := l.Moved(digest, c.again)
		require.Equal(t, c.moved, moved, name)
		require.Nil(t, trust, "%s: one reading does not tell", name)
	}

	again := trusting(stored(a, b)...)
	again.Confirm(l)
	again.Page(renamed)
	moved, trust := again.Moved(again.PageDigest(renamed), page{tx(booked, "V", "-1", "2024-03-02", "a"), tx(booked, "W", "-2", "2024-03-02", "b")})
	require.True(t, moved)
	require.Equal(t, withdraw(reasonChanged), trust, "the second one does")

	d := doubting()
	require.Len(t, d.PageDigest(page{a, b}), 16)
	moved, trust = d.Moved(d.PageDigest(page{a, b}), renamed)
	require.False(t, moved, "without trust ids say nothing")
	require.Nil(t, trust)
}

// TestExtend: a bank that lists more than it was asked for makes nothing double.
func TestExtend(t *testing.T) {
	old, recent, p := tx(booked, "O", "-1", "2024-01-05", "o"), tx(booked, "A", "-2", "2024-03-02", "a"), tx(pending, "P", "-3", "2024-01-07", "p")
	known := stored(old, p, recent)
	l := trusting(known[1], known[2])
	require.Equal(t, "[] unchanged 1 unsettled 0", told(l.Page(page{recent})))
	items := page{old, tx(booked, "Q", "-3", "2024-01-09", "q"), tx(booked, "N", "-1", "2024-01-06", "n")}
	require.Equal(t, "reach 2024-01-05", told(l.Page(items)))
	l.Extend(known, "2024-01-05")
	require.Equal(t, "[+2] unchanged 1 unsettled 1", told(l.Page(items)))
	require.Equal(t, "[2=q] unsettled 0", ended(l.Finish(whole)))
}

// TestManyStrangers: a bank whose ids are all new does not fill the memory with
// a whole list.
func TestManyStrangers(t *testing.T) {
	var rows, listed page
	for i := range 2 * manyStrangers {
		rows = append(rows, tx(booked, fmt.Sprint("A", i), "-1", "2024-03-02", fmt.Sprint(i)))
		listed = append(listed, tx(booked, fmt.Sprint("B", i), "-1", "2024-03-02", fmt.Sprint(i)))
	}
	l := trusting(stored(rows...)...)
	require.Equal(t, fmt.Sprint("[] unchanged 0 unsettled ", manyStrangers-1), told(l.Page(listed[:manyStrangers-1])))
	require.Equal(t, reasonChanged, told(l.Page(listed[manyStrangers-1:manyStrangers+1])))

	t.Run("many twins are no strangers", func(t *testing.T) {
		known := stored(slices.Repeat(page{tx(booked, "", "-1", "2024-03-02", "coffee")}, 2*manyStrangers)...)
		var newer, older page
		for i := range known {
			known[i].Key = Of(&rows[i]).Key
			x := tx(booked, fmt.Sprint("N", i), "-1", "2024-03-02", "coffee")
			newer = append(newer, x)
			x.BankID = rows[i].BankID
			older = append(older, x)
		}
		l := trusting(known...)
		require.Equal(t, fmt.Sprint("[] unchanged 0 unsettled ", len(newer)), told(l.Page(newer)))
		require.Equal(t, fmt.Sprint("[] unchanged ", len(older), " unsettled ", len(newer)), told(l.Page(older)))
		s := l.Finish(whole)
		require.Nil(t, s.Withdraw)
		require.Len(t, s.Insert, len(newer))
	})
}

func TestCostOfAKnownRow(t *testing.T) {
	require.LessOrEqual(t, int(unsafe.Sizeof(row{})+unsafe.Sizeof(int32(0))), 64)
}

// BenchmarkListing reads a list of 100,000 stored entries in pages of 500, with
// one new entry on each.
func BenchmarkListing(b *testing.B) {
	const n, size = 100_000, 500
	rows := make(page, n)
	for i := range rows {
		rows[i] = full()
		rows[i].BankID = fmt.Sprint("T", i)
		rows[i].Remittance = []string{fmt.Sprint("invoice ", i)}
		rows[i].BookingDate = bankfeed.Date("2024-03-01").AddDays(i / 300)
	}
	known := stored(rows...)
	for _, trust := range []bankfeed.IDTrust{{}, {Withdrawn: true}} {
		name := "by id"
		if trust.Withdrawn {
			name = "by fingerprint"
		}
		b.Run("new/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				NewListing(known, trust, windowStart, false)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/row")
		})
		b.Run("read/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				l := NewListing(known, trust, windowStart, false)
				b.StartTimer()
				for at := 0; at < n; at += size {
					items := rows[at : at+size]
					items[0].BankID, items[0].Remittance = fmt.Sprint("N", at), []string{fmt.Sprint("new ", at)}
					if d := l.Page(items); len(d.Insert) != 1 || d.Unchanged != size-1 {
						b.Fatal(told(d))
					}
				}
				l.Finish(whole)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/item")
		})
	}
}
