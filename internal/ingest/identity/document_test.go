package identity

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/bankfeed/bankfeed"
)

// shelf is what is stored of an account.
type shelf struct {
	rows []bankfeed.TransactionRow
	next bankfeed.TransactionID
}

// take stores the first n entries of a document, as a hub does that dies then,
// and reports how often it wrote.
func (s *shelf) take(t require.TestingT, entries []bankfeed.Transaction, n int) (inserted, updated int) {
	d := NewDocument()
	for i := range entries {
		require.True(t, d.Note(&entries[i]), "an id twice")
	}
	for _, r := range s.rows {
		d.Know(&Known{ID: r.ID, Identity: r.Identity, Day: r.Day(), Status: r.Status})
	}
	for _, x := range entries[:n] {
		e := d.Decide(&x)
		switch i := slices.IndexFunc(s.rows, func(r bankfeed.TransactionRow) bool { return r.ID == e.ID }); {
		case e.Same:
			require.GreaterOrEqual(t, i, 0)
		case e.ID == 0:
			s.next++
			x.ID = s.next
			s.rows = append(s.rows, bankfeed.TransactionRow{Transaction: x, Identity: e.Identity})
			inserted++
		default:
			require.GreaterOrEqual(t, i, 0)
			if e.Named {
				x.BankID = s.rows[i].BankID
			}
			x.ID = e.ID
			s.rows[i] = bankfeed.TransactionRow{Transaction: x, Identity: e.Identity}
			updated++
		}
	}
	return inserted, updated
}

// texts are the stored rows as a client sees them.
func (s *shelf) texts() (list []string) {
	for _, r := range s.rows {
		list = append(list, text(r.Transaction))
	}
	slices.Sort(list)
	return list
}

func text(t bankfeed.Transaction) string {
	return fmt.Sprintln(t.BankID, t.BookingDate, t.ValueDate, t.Money.Amount, t.Remittance)
}

func texts(entries []bankfeed.Transaction) (list []string) {
	for _, e := range entries {
		list = append(list, text(e))
	}
	slices.Sort(list)
	return list
}

// drawDocument draws entries that are hard to tell apart: few days, amounts and
// texts, some with ids.
func drawDocument(t *rapid.T, name string) (list []bankfeed.Transaction) {
	ids := map[string]bool{}
	for i := range rapid.IntRange(1, 30).Draw(t, name) {
		x := bankfeed.Transaction{Status: bankfeed.TransactionBooked,
			BookingDate: bankfeed.Date("2026-03-01").AddDays(rapid.IntRange(0, 2).Draw(t, "day")),
			ValueDate:   bankfeed.Date("2026-03-01").AddDays(rapid.IntRange(0, 1).Draw(t, "value")),
			Money:       bankfeed.Money{Amount: bankfeed.MustAmount(rapid.SampledFrom([]string{"-1.00", "-2.50"}).Draw(t, "amount")), Currency: "EUR"},
			Remittance:  []string{rapid.SampledFrom([]string{"coffee", "tea"}).Draw(t, "text")}}
		if id := fmt.Sprint("id", rapid.IntRange(0, 40).Draw(t, "id")); rapid.Bool().Draw(t, "named") && !ids[id] {
			x.BankID, ids[id] = id, true
		}
		_ = i
		list = append(list, x)
	}
	return list
}

func TestADocumentIsStoredAsItIs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		doc, s := drawDocument(t, "doc"), &shelf{}
		s.take(t, doc, len(doc))
		require.Equal(t, texts(doc), s.texts(), "one row for each entry, twins included")
		inserted, updated := s.take(t, doc, len(doc))
		require.Zero(t, inserted+updated, "the same document changes nothing")
		require.Equal(t, texts(doc), s.texts())
	})
}

func TestADocumentThatWasCutOffIsCompletedWithoutDoubles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		doc, s := drawDocument(t, "doc"), &shelf{}
		for range rapid.IntRange(1, 3).Draw(t, "crashes") {
			s.take(t, doc, rapid.IntRange(0, len(doc)).Draw(t, "cut"))
		}
		s.take(t, doc, len(doc))
		require.Equal(t, texts(doc), s.texts())
	})
}

func TestALaterDocumentDoesNotDoubleWhatOverlaps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// Whole days, as an export has them: the last of the first are listed
		// again, with the ones after.
		doc, s := drawDocument(t, "doc"), &shelf{}
		slices.SortStableFunc(doc, func(a, b bankfeed.Transaction) int { return a.BookingDate.Time().Compare(b.BookingDate.Time()) })
		until := rapid.SampledFrom([]bankfeed.Date{"2026-03-01", "2026-03-02", "2026-03-03"}).Draw(t, "until")
		from := rapid.SampledFrom([]bankfeed.Date{"2026-03-01", "2026-03-02", "2026-03-03"}).Draw(t, "from")
		var before, after []bankfeed.Transaction
		for _, x := range doc {
			if x.BookingDate <= until {
				before = append(before, x)
			}
			if x.BookingDate >= min(from, until.AddDays(1)) {
				after = append(after, x)
			}
		}
		s.take(t, before, len(before))
		s.take(t, after, len(after))
		require.Equal(t, texts(doc), s.texts())
	})
}

func TestADocumentTakesAnEntryByItsId(t *testing.T) {
	entry := func(id, day, amount string) bankfeed.Transaction {
		return bankfeed.Transaction{BankID: id, Status: bankfeed.TransactionBooked, BookingDate: bankfeed.Date(day),
			Money: bankfeed.Money{Amount: bankfeed.MustAmount(amount), Currency: "EUR"}}
	}
	s := &shelf{}
	s.take(t, []bankfeed.Transaction{entry("a", "2026-01-02", "-1"), entry("", "2026-01-02", "-1")}, 2)

	inserted, updated := s.take(t, []bankfeed.Transaction{entry("a", "2026-06-30", "-9")}, 1)
	require.Equal(t, []int{0, 1}, []int{inserted, updated}, "another day and amount under its id is the same entry")

	inserted, updated = s.take(t, []bankfeed.Transaction{entry("b", "2026-01-02", "-1")}, 1)
	require.Equal(t, []int{0, 1}, []int{inserted, updated}, "an entry that had no id gets one")

	inserted, updated = s.take(t, []bankfeed.Transaction{entry("", "2026-01-02", "-1")}, 1)
	require.Equal(t, []int{0, 0}, []int{inserted, updated}, "and is recognised when it comes without")
	require.Equal(t, "b", s.rows[1].BankID)

	changed := entry("", "2026-01-02", "-1")
	changed.ValueDate = "2026-01-05"
	s.take(t, []bankfeed.Transaction{changed}, 1)
	require.Equal(t, "b", s.rows[1].BankID, "a change without the id keeps it")
	require.Len(t, s.rows, 2)

	d := NewDocument()
	require.True(t, d.Note(&s.rows[0].Transaction))
	require.False(t, d.Note(&s.rows[0].Transaction))
	none := entry("NOTPROVIDED", "2026-01-02", "-1")
	for range 2 {
		require.True(t, d.Note(&none), "words that say that there is no id may come twice")
	}
}

func TestManyEqualEntriesCostNoMoreThanDifferentOnes(t *testing.T) {
	const n = 100_000
	x := bankfeed.Transaction{Status: bankfeed.TransactionBooked, BookingDate: "2026-03-01", Money: bankfeed.Money{Amount: bankfeed.MustAmount("-1"), Currency: "EUR"}}
	d, id := NewDocument(), Of(&x)
	d.Note(&x)
	for i := range n {
		d.Know(&Known{ID: bankfeed.TransactionID(i + 1), Identity: id, Day: x.BookingDate})
	}
	began := time.Now()
	seen := map[bankfeed.TransactionID]bool{}
	for range n {
		seen[d.Decide(&x).ID] = true
	}
	require.Len(t, seen, n, "each stands for one row")
	require.Zero(t, d.Decide(&x).ID, "one more is new")
	require.Less(t, time.Since(began), 20*time.Second, "the square of it would take minutes")
}
