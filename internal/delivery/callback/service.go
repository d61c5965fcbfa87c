package callback

import (
	"context"
	"net/url"
	"time"

	"github.com/bankfeed/bankfeed"
)

// Service is what APIs and operators ask of callbacks. It checks what they say and
// tells leaders of what they did.
type Service struct {
	Store interface {
		Managing
		// Target finds a target whatever its status; bankfeed.ErrNotFound.
		Target(ctx context.Context, key Key) (Target, error)
	}
	// URLs checks where a subscription leads; a Sender does.
	URLs interface {
		CheckURL(ctx context.Context, field, rawURL string, live bool) error
	}
	// Changed tells the leader of a target, if it is on this node; nil: nobody is.
	Changed func(Key)
	Now     func() time.Time
}

// Bounds of a subscription's settings.
const (
	MaxName       = 200
	MaxConcurrent = 256
	MaxPerSecond  = 10_000
	MaxRetries    = 50
)

// Check says what is wrong with a subscription that is to be made. field is where
// its members were said.
func (s *Service) Check(ctx context.Context, field string, t Target) error {
	return s.check(ctx, field, &t)
}

// Subscribe makes a subscription that begins at its Cursors.
func (s *Service) Subscribe(ctx context.Context, field string, t Target) (Target, error) {
	if err := s.check(ctx, field, &t); err != nil {
		return Target{}, err
	}
	t.Status = Active
	t, err := s.Store.AddSubscription(ctx, t, s.Now())
	if err == nil {
		s.changed(t.Key)
	}
	return t, err
}

// Edit changes what a client says about a subscription.
func (s *Service) Edit(ctx context.Context, key Key, sandbox bool, field string, edit func(t *Target) error) (Target, error) {
	// Names are looked up before the transaction, not in it.
	draft, err := s.Target(ctx, key, sandbox)
	if err != nil {
		return Target{}, err
	}
	if draft.Subscription == nil {
		return Target{}, errNoSettings
	}
	draft = draft.copied()
	if err := edit(&draft); err != nil {
		return Target{}, err
	}
	if err := s.check(ctx, field, &draft); err != nil {
		return Target{}, err
	}
	return s.change(ctx, key, sandbox, func(t *Target) error {
		if t.Subscription == nil {
			return errNoSettings
		}
		*t = t.copied()
		if err := edit(t); err != nil {
			return err
		}
		t.Origin = Origin(t.URL)
		return nil
	})
}

var errNoSettings = bankfeed.Errorf(bankfeed.Conflict, "the receiver of requests' callbacks has no settings: each request names its own")

// copied may be changed without changing what it was copied from.
func (t Target) copied() Target {
	if t.Subscription != nil {
		s := *t.Subscription
		t.Subscription = &s
	}
	return t
}

// check checks settings, and where they lead.
func (s *Service) check(ctx context.Context, field string, t *Target) error {
	in := func(member string) string { return field + "." + member }
	within := func(member string, n, most int) error {
		if n < 0 || n > most {
			return bankfeed.InvalidField(in(member), "must be a number from 0 to %d", most)
		}
		return nil
	}
	x := t.Subscription
	if len(x.Name) > MaxName {
		return bankfeed.InvalidField(in("name"), "%d bytes at most", MaxName)
	}
	for _, typ := range x.Types {
		if info, ok := typ.Info(); !ok || info.Topic == bankfeed.TopicSeen {
			return bankfeed.InvalidField(in("types"), "names a type that callbacks do not carry")
		}
	}
	if err := within("concurrent", x.Concurrent, MaxConcurrent); err != nil {
		return err
	}
	if err := within("per_second", x.PerSecond, MaxPerSecond); err != nil {
		return err
	}
	if x.Retries != nil {
		if err := within("max_retries", *x.Retries, MaxRetries); err != nil {
			return err
		}
	}
	if err := CheckHeaders(in("headers"), x.Headers); err != nil {
		return err
	}
	if u, err := url.Parse(string(t.URL)); err == nil && u.User != nil && x.Headers.renamed("Authorization") {
		return bankfeed.InvalidField(in("headers"), "names Authorization, which the user in the URL needs")
	}
	t.Origin = Origin(t.URL)
	return s.URLs.CheckURL(ctx, in("url"), string(t.URL), !t.Sandbox)
}

// Set gives a target another status. Pause and resume belong together, and so do
// disable and enable: what was disabled is not resumed by mistake.
func (s *Service) Set(ctx context.Context, key Key, sandbox bool, to Status, from ...Status) (Target, error) {
	return s.change(ctx, key, sandbox, func(t *Target) error {
		if t.Status == to {
			return nil
		}
		for _, f := range from {
			if t.Status == f {
				t.Status, t.Reason = to, ""
				if to != Active {
					t.Reason = "by its client"
				}
				return nil
			}
		}
		return bankfeed.Errorf(bankfeed.Conflict, "it is %s", t.Status)
	})
}

// Delete ends a subscription. Its deliveries stay listed until retention removes
// them; those that wait end as skipped.
func (s *Service) Delete(ctx context.Context, key Key, sandbox bool) error {
	_, err := s.change(ctx, key, sandbox, func(t *Target) error {
		if t.Subscription == nil {
			return bankfeed.Errorf(bankfeed.Conflict, "the receiver of requests' callbacks cannot be deleted: disable it")
		}
		t.Status, t.Reason = Deleted, "by its client"
		return nil
	})
	return err
}

func (s *Service) change(ctx context.Context, key Key, sandbox bool, change func(*Target) error) (Target, error) {
	t, err := s.Store.ChangeTarget(ctx, key, sandbox, change, s.Now())
	if err == nil {
		s.changed(key)
	}
	return t, err
}

func (s *Service) changed(keys ...Key) {
	for _, k := range keys {
		if s.Changed != nil {
			s.Changed(k)
		}
	}
}

// Target finds a target of a client's world that is not deleted.
func (s *Service) Target(ctx context.Context, key Key, sandbox bool) (Target, error) {
	t, err := s.Store.Target(ctx, key)
	if err == nil && (t.Sandbox != sandbox || t.Status == Deleted) {
		err = bankfeed.ErrNotFound
	}
	if err != nil {
		return Target{}, err
	}
	return t, nil
}

// Targets lists targets.
func (s *Service) Targets(ctx context.Context, q TargetQuery) ([]Target, error) {
	return s.Store.Targets(ctx, q)
}

// Counts counts a target's deliveries by state.
func (s *Service) Counts(ctx context.Context, key Key) (Counts, error) {
	return s.Store.Counts(ctx, key)
}

// Deliveries lists deliveries, newest first.
func (s *Service) Deliveries(ctx context.Context, q DeliveryQuery) ([]Delivery, error) {
	return s.Store.Deliveries(ctx, q)
}

// Delivery finds a delivery and its attempts: the newest up to limit, oldest first.
func (s *Service) Delivery(ctx context.Context, tenant bankfeed.TenantID, sandbox bool, id DeliveryID, limit int) (Delivery, []Attempt, error) {
	d, err := s.Store.Delivery(ctx, tenant, sandbox, id)
	if err != nil {
		return Delivery{}, nil, err
	}
	attempts, err := s.Store.Attempts(ctx, tenant, id, max(0, d.Attempts-limit), limit)
	return d, attempts, err
}

// Bounds of one redrive.
const (
	redriveAtOnce = 5000
	maxRedrive    = 200_000
)

// Redrive makes deliveries that were given up or skipped wait again, or counts
// them. more says that it stopped before the end: nothing keeps from asking again.
func (s *Service) Redrive(ctx context.Context, q DeliveryQuery, dry bool) (n int, more bool, err error) {
	for {
		q.Limit = redriveAtOnce
		got, last, targets, err := s.Store.Redrive(ctx, q, dry, s.Now())
		if err != nil {
			return n, false, err
		}
		n += got
		for _, id := range targets {
			if !dry {
				s.changed(Key{q.Tenant, id})
			}
		}
		if last == 0 {
			return n, false, nil
		}
		if q.After = last; n >= maxRedrive {
			return n, true, nil
		}
	}
}

// Replay sends events to a subscription again, under ids of their own, or counts
// them. It is bankfeed.TooLarge beyond MaxReplay events.
func (s *Service) Replay(ctx context.Context, q ReplayQuery, dry bool) (n int, replay int64, err error) {
	t, err := s.Target(ctx, q.Key, q.Sandbox)
	switch {
	case err != nil:
		return 0, 0, err
	case t.Subscription == nil:
		return 0, 0, bankfeed.Errorf(bankfeed.Conflict, "the receiver of requests' callbacks has nothing to replay: redrive a delivery")
	case t.Status == Disabled && !dry:
		return 0, 0, bankfeed.Errorf(bankfeed.Conflict, "it is disabled: enable it first")
	}
	q.Limit = MaxReplay
	n, replay, err = s.Store.Replay(ctx, q, dry, s.Now())
	switch {
	case err != nil:
		return 0, 0, err
	case n > MaxReplay && !dry:
		return n, 0, bankfeed.Errorf(bankfeed.TooLarge, "these are more than %d events: narrow it", MaxReplay)
	}
	if !dry && n > 0 {
		s.changed(q.Key)
	}
	return n, replay, nil
}
