package masstransit

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/bankfeed/bankfeed"
)

// Ledger is what arrived at an endpoint, in order, repeats included.
type Ledger struct {
	mu      sync.Mutex
	entries []Entry
	copies  map[bankfeed.UUID]int
	changed chan struct{}
}

// Entry is one delivery.
type Entry struct {
	Judgement
	Exchange    string
	Redelivered bool          // the broker gave it out before
	Original    bankfeed.UUID // of a replay: the id that it was first sent under
	// Subject is what its order is kept for: an account or a consent; empty for a
	// call of a bank, which has no order.
	Subject  string
	Accounts []string // subjects of the accounts that a consent lists
	// Operation is created, updated or deleted; empty where the message has none.
	Operation string
	Body      []byte // nil if the endpoint forgets
}

func newLedger() *Ledger {
	return &Ledger{copies: map[bankfeed.UUID]int{}, changed: make(chan struct{})}
}

func (l *Ledger) add(d *amqp.Delivery, j Judgement, forget bool) {
	e := Entry{Judgement: j, Exchange: d.Exchange, Redelivered: d.Redelivered}
	if text, ok := d.Headers["MT-OriginalMessageId"].(string); ok {
		e.Original = guid(text)
	}
	e.subjects()
	if forget {
		e.envelope = value{}
	} else {
		e.Body = slices.Clone(d.Body)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = append(l.entries, e)
	l.copies[e.ID]++
	close(l.changed)
	l.changed = make(chan struct{})
}

func (e *Entry) subjects() {
	e.Operation = e.Text("meta.operation")
	switch e.Type {
	case AccountMessage:
		e.Subject = "account " + e.Text("data.id")
	case TransactionMessage, SessionFinishedMessage:
		e.Subject = "account " + e.Text("embedded.account.id")
	case ConsentMessage:
		e.Subject = "consent " + e.Text("data.id")
		for _, account := range e.envelope.get("message", "embedded", "accounts").items {
			e.Accounts = append(e.Accounts, "account "+account.get("id").text)
		}
	}
}

// Entries returns a copy of the list.
func (l *Ledger) Entries() []Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.entries)
}

// Received counts deliveries, repeats included.
func (l *Ledger) Received() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.entries)
}

// Distinct counts messages by id.
func (l *Ledger) Distinct() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.copies)
}

// Wait returns when n different messages have arrived, or with the context's error.
func (l *Ledger) Wait(ctx context.Context, n int) error {
	for {
		l.mu.Lock()
		have, changed := len(l.copies), l.changed
		l.mu.Unlock()
		if have >= n {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d messages arrived: %w", have, n, ctx.Err())
		}
	}
}

// Verdicts counts deliveries by verdict.
func (l *Ledger) Verdicts() map[Verdict]int {
	counts := map[Verdict]int{}
	for _, e := range l.Entries() {
		counts[e.Verdict]++
	}
	return counts
}

// Rejected returns what was not consumed.
func (l *Ledger) Rejected() []Entry {
	return slices.DeleteFunc(l.Entries(), func(e Entry) bool { return e.Verdict == Consumed })
}

// Lost returns those of the expected messages that never arrived.
func (l *Ledger) Lost(expected []bankfeed.UUID) []bankfeed.UUID {
	l.mu.Lock()
	defer l.mu.Unlock()
	var lost []bankfeed.UUID
	for _, id := range expected {
		if l.copies[id] == 0 {
			lost = append(lost, id)
		}
	}
	return lost
}

// Unexpected returns what arrived and is not among the expected.
func (l *Ledger) Unexpected(expected []bankfeed.UUID) []bankfeed.UUID {
	known := map[bankfeed.UUID]bool{}
	for _, id := range expected {
		known[id] = true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var others []bankfeed.UUID
	for id := range l.copies {
		if !known[id] {
			others = append(others, id)
		}
	}
	return others
}

// Repeated returns the messages that came more than once, with how often beyond
// the first time.
func (l *Ledger) Repeated() map[bankfeed.UUID]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	repeated := map[bankfeed.UUID]int{}
	for id, n := range l.copies {
		if n > 1 {
			repeated[id] = n - 1
		}
	}
	return repeated
}

// Disorder is a message that arrived after one that stands later in the log.
type Disorder struct {
	Subject      string
	Late, Before bankfeed.UUID // Late came after Before
}

func (d Disorder) String() string {
	return fmt.Sprintf("%s: %s after %s", d.Subject, d.Late, d.Before)
}

// OutOfOrder compares, for each account and each consent, the last copies of its
// messages with the order of the log, which is that of the positions in their
// ids. Replays and restored logs are orders of their own. With types, only those
// count, for an exchange that was held back catches up later than the others.
func (l *Ledger) OutOfOrder(types ...string) []Disorder {
	return outOfOrder(l.Entries(), types, func(Entry) string { return "" })
}

// OutOfOrderByProducer is OutOfOrder within what one process sent. A leader that
// lost its term without knowing may still send late copies of what the next one
// sent already.
func (l *Ledger) OutOfOrderByProducer(types ...string) []Disorder {
	return outOfOrder(l.Entries(), types, func(e Entry) string { return e.Producer })
}

// place is one order of positions.
type place struct {
	subject, producer string
	epoch             bankfeed.Epoch
	tenant            bankfeed.TenantID
	lane              int
}

func outOfOrder(entries []Entry, types []string, producer func(Entry) string) []Disorder {
	groups := map[place]map[bankfeed.UUID]int{}
	for i, e := range entries {
		epoch, tenant, lane, _, ok := bankfeed.ParseEventID(e.ID)
		if !ok || e.Subject == "" || len(types) > 0 && !slices.Contains(types, e.Type) {
			continue
		}
		p := place{e.Subject, producer(e), epoch, tenant, lane}
		if groups[p] == nil {
			groups[p] = map[bankfeed.UUID]int{}
		}
		groups[p][e.ID] = i // the last copy's
	}
	var found []Disorder
	for p, last := range groups {
		order := make([]bankfeed.UUID, 0, len(last))
		for id := range last {
			order = append(order, id)
		}
		slices.SortFunc(order, func(a, b bankfeed.UUID) int { return cmp.Compare(last[a], last[b]) })
		for i := 1; i < len(order); i++ {
			if position(order[i]) < position(order[i-1]) {
				found = append(found, Disorder{p.subject, order[i], order[i-1]})
			}
		}
	}
	return found
}

// Early returns, as Before, every SessionFinished that first arrived ahead of a
// transaction of its account that stands before it in the log, and every created
// consent that was ahead of a message of one of its accounts.
func (l *Ledger) Early() []Disorder {
	var found []Disorder
	entries := l.Entries()
	enders := map[string][]Entry{} // by account, in the order of arrival
	seen := map[bankfeed.UUID]bool{}
	for _, e := range entries {
		_, _, _, p, ok := bankfeed.ParseEventID(e.ID)
		if !ok || seen[e.ID] {
			continue
		}
		seen[e.ID] = true
		switch {
		case e.Type == SessionFinishedMessage:
			enders[e.Subject] = append(enders[e.Subject], e)
		case e.Type == ConsentMessage && e.Operation == "created":
			for _, account := range e.Accounts {
				enders[account] = append(enders[account], e)
			}
		case e.Type == TransactionMessage || e.Type == AccountMessage:
			for _, ender := range enders[e.Subject] {
				waitsFor := TransactionMessage
				if ender.Type == ConsentMessage {
					waitsFor = AccountMessage
				}
				if e.Type == waitsFor && sameLog(e.ID, ender.ID) && p < position(ender.ID) {
					found = append(found, Disorder{e.Subject, e.ID, ender.ID})
				}
			}
		}
	}
	return found
}

// Report is one line for the log of a test.
func (l *Ledger) Report(expected []bankfeed.UUID) string {
	repeats := 0
	for _, n := range l.Repeated() {
		repeats += n
	}
	var verdicts []string
	for verdict, n := range l.Verdicts() {
		verdicts = append(verdicts, fmt.Sprintf("%s %d", verdict, n))
	}
	slices.Sort(verdicts)
	return fmt.Sprintf("%d expected, %d received (%s): lost %d, repeated %d, out of order %d, ahead of their time %d",
		len(expected), l.Received(), strings.Join(verdicts, ", "), len(l.Lost(expected)), repeats, len(l.OutOfOrder()), len(l.Early()))
}

func position(id bankfeed.UUID) bankfeed.Position {
	_, _, _, p, _ := bankfeed.ParseEventID(id)
	return p
}

func sameLog(a, b bankfeed.UUID) bool {
	epochA, tenantA, laneA, _, _ := bankfeed.ParseEventID(a)
	epochB, tenantB, laneB, _, _ := bankfeed.ParseEventID(b)
	return epochA == epochB && tenantA == tenantB && laneA == laneB
}
