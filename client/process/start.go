package process

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/client"
)

// Order is what a process begins with.
type Order struct {
	// ID is a random UUID of the caller, which makes Start repeatable: where there
	// is such a process already, that is the answer. Empty: one is made.
	ID       string
	Scenario string
	// User is the application's own name of its user, for its own use.
	User string
	// Token is the user's access token.
	Token bankfeed.Secret
	// Params are kept with the process for its scenario, amounts as decimal text.
	Params map[string]string
	// DataSources narrows the synchronization to some; empty is all.
	DataSources []string
}

// Start stores a process and asks for the synchronization. The error is about
// the order or the store. What the server said is in the process: an answer that is
// not 2xx ends it as SYNC_FAILED. If no answer came, whether the server has begun is
// unknown: the process stays SYNC_CREATED, and Run asks again with the same
// handle, which at worst joins what is running.
//
// The call goes on if ctx ends meanwhile.
func (s *Service) Start(ctx context.Context, o Order) (Process, error) {
	sc, ok := s.o.Scenarios[o.Scenario]
	switch {
	case !ok:
		return Process{}, bankfeed.InvalidField("Scenario", "is not one of the service's")
	case o.Token == "":
		return Process{}, bankfeed.InvalidField("Token", "is needed")
	case o.ID != "" && !randomUUID(o.ID):
		return Process{}, bankfeed.InvalidField("ID", "must be a random UUID (version 4), in lower case")
	case len(o.User) > maxParam:
		return Process{}, bankfeed.InvalidField("User", "must have %d bytes at most", maxParam)
	}
	for name, v := range o.Params {
		if len(name)+len(v) > maxParam {
			return Process{}, bankfeed.InvalidField("Params", "one has more than %d bytes", maxParam)
		}
	}
	if sc.Check != nil {
		if err := sc.Check(o.Params); err != nil {
			return Process{}, err
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stepTimeout)
	defer cancel()
	now := s.now()
	r := Record{
		Process: Process{ID: o.ID, Scenario: o.Scenario, User: o.User, Params: o.Params, Status: SyncCreated, CreatedAt: now, UpdatedAt: now},
		Work:    Work{Subset: o.DataSources}, Fence: 1, NextAt: now, LeaseUntil: now.Add(lease),
	}
	if r.ID == "" {
		r.ID = uuid.NewString()
	}
	sealed, err := s.o.Sealer.Encrypt([]byte(o.Token), []byte(r.ID))
	if err != nil {
		return Process{}, err
	}
	r.Token = sealed
	if r, err = s.o.Store.Create(ctx, r); errors.Is(err, ErrConflict) {
		return s.Get(ctx, r.ID)
	} else if err != nil {
		return Process{}, err
	}
	s.stream.signal()
	w := &worker{s: s, r: r, token: o.Token}
	if err = w.synchronize(ctx); errors.Is(err, errTaken) {
		return s.Get(ctx, r.ID) // a callback was faster, or Run went on with it
	}
	s.nudge()
	return w.r.Process, err
}

// randomUUID keeps out ids that somebody could guess: who knows one may send
// callbacks for it.
func randomUUID(s string) bool {
	id, err := uuid.Parse(s)
	return err == nil && id.Version() == 4 && id.String() == s
}

// synchronize asks for the synchronization and stores what was answered.
func (w *worker) synchronize(ctx context.Context) error {
	s := w.s
	var answer client.SyncResult
	err := w.call(ctx, func(ctx context.Context, token bankfeed.Secret) (err error) {
		order := client.SyncRequest{CallbackHandle: w.r.ID, DataSourceIDs: w.r.Subset}
		if s.o.CallbackURL != "" {
			order.CallbackURL = s.o.CallbackURL + s.o.Scenarios[w.r.Scenario].Path
		}
		answer, err = s.o.API.Synchronize(ctx, token, order)
		return err
	})
	var refused *client.Error
	var ended *endError
	switch {
	case err == nil:
	case errors.As(err, &refused):
		return w.abort(ctx, reasonOf(refused))
	case errors.As(err, &ended):
		return w.abort(ctx, ended.Reason)
	case s.now().Sub(w.r.CreatedAt) >= s.o.AnswerWithin:
		s.o.Log.WarnContext(ctx, "process: the synchronization got no answer", "process", w.r.ID, "err", err)
		return w.abort(ctx, Reason{Code: CodeNoAnswer, Message: "the server could not be reached"})
	default:
		s.o.Log.InfoContext(ctx, "process: the synchronization got no answer and is asked for again", "process", w.r.ID, "err", err)
		return w.save(ctx, func(r *Record) error {
			r.release(s.now().Add(backoff(r.Failures)))
			r.Failures++
			return nil
		})
	}
	// Whoever holds the claim meanwhile, this answer belongs to the process.
	r, err := s.change(ctx, w.r.ID, 0, func(r *Record) error { return w.answered(r, sourcesOf(answer)) })
	if err == nil {
		w.r = r
	}
	return err
}

// answered stores what the server answered. A callback may have been faster:
// then nothing moves back.
func (w *worker) answered(r *Record, sources []Source) error {
	now := w.s.now()
	switch r.Status {
	case SyncCreated:
		r.Sources, r.StartedAt, r.Failures = sources, now, 0
		if len(sources) == 0 {
			r.fail(Reason{Code: CodeNoDataSources, Message: "the user has no data source"})
			return nil
		}
		r.move(SyncStarted)
	case SyncStarted, SyncSuccessful:
		if !nameBanks(r, sources) {
			return errUnchanged
		}
		return nil
	default:
		return errUnchanged
	}
	r.release(w.s.nextPoll(r, now))
	if !r.CallbackAt.IsZero() {
		r.NextAt = now
	}
	return nil
}

// nameBanks adds the banks' names, which a callback does not have.
func nameBanks(r *Record, sources []Source) (changed bool) {
	for i, have := range r.Sources {
		for _, src := range sources {
			if src.ID == have.ID && have.Bank != src.Bank {
				r.Sources[i].Bank, changed = src.Bank, true
			}
		}
	}
	return changed
}

func (w *worker) abort(ctx context.Context, why Reason) error {
	return w.save(ctx, func(r *Record) error {
		if !r.fail(why) {
			return errUnchanged
		}
		return nil
	})
}

// release lets others have the process, from the given time on.
func (r *Record) release(next time.Time) {
	r.LeaseUntil, r.NextAt = time.Time{}, next
}

func sourcesOf(answer client.SyncResult) (list []Source) {
	for _, d := range answer.BankConnections {
		if d.DataSourceID != "" {
			list = append(list, Source{ID: d.DataSourceID, Bank: d.BankName})
		}
	}
	return list
}
