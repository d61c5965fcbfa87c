package ingest

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/connector"
)

// ledger counts the unattended accesses of one consent, because a bank allows
// only so many in 24 hours for each account and kind. One access is one listing
// with all its pages, or one balance read. An attended run counts nothing.
type ledger struct {
	attended bool
	consent  bankfeed.ConsentID
	perDay   int
	now      func() time.Time

	mu   sync.Mutex
	uses []bankfeed.QuotaUse
}

const quotaWindow = 24 * time.Hour

func (r *run) openLedger(ctx context.Context, k *bankfeed.Consent, attended bool) (*ledger, error) {
	l := &ledger{attended: attended, consent: k.ID, perDay: k.FrequencyPerDay, now: r.now}
	if l.perDay == 0 {
		l.perDay = 4 // RTS Art. 36(5)(b)
	}
	if attended {
		return l, nil
	}
	var err error
	l.uses, err = r.Store.Accesses(ctx, r.fence.Tenant, k.ID, r.now().Add(-quotaWindow))
	return l, err
}

// left is how many accesses remain, and when the next one becomes free if none
// does.
func (l *ledger) left(a bankfeed.AccountID, k bankfeed.AccessKind) (n int, free time.Time) {
	if l.attended {
		return 1 << 30, time.Time{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	since, used := l.now().Add(-quotaWindow), []time.Time{}
	for _, u := range l.uses {
		if u.Account == a && u.Kind == k && u.At.After(since) {
			used = append(used, u.At)
		}
	}
	if n = l.perDay - len(used); n <= 0 {
		free = used[-n].Add(quotaWindow) // the oldest of those that count
	}
	return n, free
}

// spend writes an access down before the call is made; the call must not be
// made without it. It returns a refusal when none is left.
func (l *ledger) spend(ctx context.Context, r *run, a bankfeed.AccountID, k bankfeed.AccessKind) (*bankfeed.QuotaUse, *connector.Error, error) {
	if l.attended {
		return nil, nil, nil
	}
	n, free := l.left(a, k)
	if n <= 0 {
		return nil, &connector.Error{Reason: bankfeed.FailQuota, Text: "the unattended accesses of the last 24 hours are used up",
			RetryAfter: free.Sub(l.now())}, nil
	}
	use := bankfeed.QuotaUse{Consent: l.consent, Account: a, Kind: k, At: l.now()}
	l.mu.Lock()
	l.uses = append(l.uses, use)
	l.mu.Unlock()
	return &use, nil, r.commitRows(ctx, func(_ *bankfeed.ConnectionState, c *bankfeed.Change) error {
		c.Accesses = []bankfeed.QuotaUse{use}
		return nil
	})
}

// unanswered gives an access back that brought nothing but refusals: a limit
// burns no quota.
func unanswered(use *bankfeed.QuotaUse, calls []bankfeed.BankCall) *bankfeed.QuotaUse {
	if slices.ContainsFunc(calls, func(b bankfeed.BankCall) bool { return b.Status != http.StatusTooManyRequests }) {
		return nil
	}
	return use
}
