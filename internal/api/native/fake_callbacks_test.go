package native

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/delivery/callback"
)

// targets is a store of callbacks: tenant 1 has subscription 4 and origin 5 in
// the live world and subscription 6 in the sandbox, each with a delivery of ten
// times its number.
type targets struct {
	list       []callback.Target
	deliveries []callback.Delivery
	asked      []string
	query      callback.DeliveryQuery
	replay     callback.ReplayQuery
	found      int
	told       []callback.Key
	secrets    []callback.SecretInfo
	until      time.Time
	fail       error
}

func newTargets() *targets {
	later, retries := t0.Add(time.Minute), 3
	t := &targets{
		found: 2,
		list: []callback.Target{
			{
				Key: callback.Key{Tenant: 1, ID: 4}, Client: "live", Status: callback.Active, Origin: "https://receiver.example:443",
				URL: "https://me:" + secretText + "@receiver.example/in?key=" + secretText + "&b", CreatedAt: t0,
				Subscription: &callback.Settings{
					Name: "ledger", Types: []bankfeed.EventType{bankfeed.EventSyncFailed}, User: 11, Connection: 101, Account: 101, Ordered: true,
					Concurrent: 4, PerSecond: 50, Retries: &retries,
					Headers: callback.Headers{Signature: "X-Signature", Static: map[string]bankfeed.Secret{"Authorization": "Bearer " + secretText}},
				},
				Health: callback.Health{
					Failures: 7, LastSuccessAt: t0, LastFailureAt: later, LastCause: callback.CauseStatus, LastStatus: 503, OutageSince: t0,
					ProbeAt: later, NotBefore: later,
				},
				Cursors: []callback.Cursor{{Lane: 0, Epoch: installation.Epoch, Position: 1}},
				Notes:   []callback.Note{{Kind: callback.NoteExpired, At: t0, First: 1, Last: 1}},
			},
			{
				Key: callback.Key{Tenant: 1, ID: 5}, Client: "live", Status: callback.Disabled, Reason: "410", Origin: "https://receiver.example:8443",
				CreatedAt: t0, Health: callback.Health{Failures: 1},
			},
			{
				Key: callback.Key{Tenant: 1, ID: 6}, Client: "sandbox", Sandbox: true, Status: callback.Paused, Origin: "http://receiver.example:80",
				URL: "http://receiver.example", Subscription: &callback.Settings{}, CreatedAt: t0,
			},
		},
	}
	for _, x := range t.list {
		t.deliveries = append(t.deliveries, callback.Delivery{
			Tenant: 1, ID: callback.DeliveryID(10 * x.ID), Target: x.ID, Type: bankfeed.EventSyncFailed, User: 11, Connection: 101, Epoch: installation.Epoch,
			Position: 2, Replay: int64(x.ID-4) * 1_772_000_000_000, State: callback.GivenUp, Reason: "the schedule is used up", Attempts: 10, Step: 9,
			CreatedAt: t0, FirstAt: t0, LastAt: later, EndedAt: later,
		})
	}
	return t
}

func (t *targets) note(format string, args ...any) {
	t.asked = append(t.asked, fmt.Sprintf(format, args...))
}

func (t *targets) Target(_ context.Context, key callback.Key) (callback.Target, error) {
	for _, x := range t.list {
		if x.Key == key {
			return x, t.fail
		}
	}
	return callback.Target{}, bankfeed.ErrNotFound
}

func (t *targets) AddSubscription(_ context.Context, x callback.Target, now time.Time) (callback.Target, error) {
	x.ID, x.CreatedAt = 7, now
	t.list = append(t.list, x)
	return x, t.fail
}

func (t *targets) ChangeTarget(_ context.Context, key callback.Key, sandbox bool, change func(*callback.Target) error, _ time.Time) (callback.Target, error) {
	for i := range t.list {
		if x := &t.list[i]; x.Key == key && x.Sandbox == sandbox && x.Status != callback.Deleted {
			return *x, errors.Join(change(x), t.fail)
		}
	}
	return callback.Target{}, bankfeed.ErrNotFound
}

func (t *targets) Targets(_ context.Context, q callback.TargetQuery) (found []callback.Target, err error) {
	for _, x := range t.list {
		if x.Tenant == q.Tenant && x.Sandbox == q.Sandbox && x.ID > q.After && (q.Subscriptions == nil || *q.Subscriptions == (x.Subscription != nil)) &&
			len(found) < q.Limit {
			found = append(found, x)
		}
	}
	return found, t.fail
}

func (t *targets) Deliveries(_ context.Context, q callback.DeliveryQuery) (found []callback.Delivery, err error) {
	t.query = q
	for _, d := range t.deliveries {
		x, _ := t.Target(context.Background(), callback.Key{Tenant: d.Tenant, ID: d.Target})
		if d.Tenant == q.Tenant && x.Sandbox == q.Sandbox && (q.Target == 0 || d.Target == q.Target) {
			found = append(found, d)
		}
	}
	slices.Reverse(found)
	return found[:min(len(found), q.Limit)], t.fail
}

func (t *targets) Delivery(ctx context.Context, tenant bankfeed.TenantID, sandbox bool, id callback.DeliveryID) (callback.Delivery, error) {
	all, _ := t.Deliveries(ctx, callback.DeliveryQuery{Tenant: tenant, Sandbox: sandbox, Limit: 10})
	for _, d := range all {
		if d.ID == id {
			return d, t.fail
		}
	}
	return callback.Delivery{}, bankfeed.ErrNotFound
}

func (t *targets) Attempts(_ context.Context, _ bankfeed.TenantID, id callback.DeliveryID, after, limit int) ([]callback.Attempt, error) {
	t.note("attempts %d after=%d limit=%d", id, after, limit)
	return []callback.Attempt{
		{Delivery: id, Number: 1, At: t0, Node: "0123456789ab", Result: callback.Result{
			Cause: callback.CauseStatus, Status: 503, RetryAfter: 2 * time.Minute, Duration: 1500 * time.Microsecond, Text: "down",
		}},
		{Delivery: id, Number: 2, At: t0.Add(time.Minute), Node: "0123456789ab", Result: callback.Result{Cause: callback.CauseDNS, Text: "the name does not resolve"}},
	}, nil
}

func (t *targets) Counts(context.Context, callback.Key) (callback.Counts, error) {
	return callback.Counts{States: map[callback.State]int{callback.Waiting: 2, callback.Delivered: 40}, Oldest: t0}, t.fail
}

// Redrive finds t.found deliveries, once.
func (t *targets) Redrive(_ context.Context, q callback.DeliveryQuery, dry bool, _ time.Time) (int, callback.DeliveryID, []callback.TargetID, error) {
	if q.After == 99 || t.found == 0 || t.fail != nil {
		return 0, 0, nil, t.fail
	}
	t.query = q
	t.note("redrive dry=%t", dry)
	return t.found, 99, []callback.TargetID{q.Target}, nil
}

func (t *targets) Replay(_ context.Context, q callback.ReplayQuery, dry bool, _ time.Time) (int, int64, error) {
	t.replay = q
	t.note("replay dry=%t", dry)
	return t.found, 1_772_000_000_000, t.fail
}

func (t *targets) First(context.Context, bankfeed.TenantID) (bankfeed.Secret, error) {
	if len(t.secrets) > 0 {
		return "", nil
	}
	t.secrets = []callback.SecretInfo{{ID: 1, CreatedAt: t0}}
	return "whsec_first", nil
}

func (t *targets) List(_ context.Context, tenant bankfeed.TenantID) ([]callback.SecretInfo, error) {
	if tenant != 1 {
		return nil, nil
	}
	return []callback.SecretInfo{{ID: 2, CreatedAt: t0}, {ID: 1, CreatedAt: t0, RetiredAt: t0}}, t.fail
}

func (t *targets) Create(_ context.Context, _ bankfeed.TenantID, until time.Time) (bankfeed.Secret, callback.SecretInfo, error) {
	t.until = until
	return "whsec_new", callback.SecretInfo{ID: 3, CreatedAt: t0}, t.fail
}

func (t *targets) Retire(_ context.Context, tenant bankfeed.TenantID, id int64) error {
	t.note("retire %d", id)
	if id != 2 || tenant != 1 {
		return bankfeed.ErrNotFound
	}
	return t.fail
}
