package webform

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/bankfeed/bankfeed"
)

// Run ends a claimed form or task, or puts it off until it may be time. Whatever
// ends a session that it covers puts it up again before.
func (s *Service) Run(ctx context.Context, f bankfeed.Fence, r bankfeed.Request) error {
	if r.Kind == bankfeed.RequestTask {
		return s.runTask(ctx, f, &r)
	}
	return s.runForm(ctx, f, &r)
}

// lookAgain is when a request looks again at a session that is running, should
// nobody wake it.
const lookAgain = time.Minute

func (s *Service) later(ctx context.Context, f bankfeed.Fence, at time.Time) error {
	return s.Store.FinishWork(ctx, f, bankfeed.Release{ReadyAt: at})
}

// stage is how far an attempt to link a bank has come.
type stage string

const (
	none    stage = "none"    // there is no attempt
	waiting stage = "waiting" // for its user
	reading stage = "reading"
	got     stage = "got" // data
	failed  stage = "failed"
)

// standing is how the last attempt of a form stands.
type standing struct {
	stage   stage
	failure *bankfeed.Failure // of a failed one
	st      bankfeed.ConnectionState
}

func (s *Service) standing(ctx context.Context, tenant bankfeed.TenantID, t *try) (standing, error) {
	if t == nil {
		return standing{stage: none}, nil
	}
	st, err := s.Store.SessionState(ctx, tenant, t.Session)
	if errors.Is(err, bankfeed.ErrNotFound) {
		return standing{stage: failed, failure: &bankfeed.Failure{Reason: bankfeed.FailAborted, Text: "the connection was removed"}}, nil
	}
	if err != nil {
		return standing{}, err
	}
	a := standing{st: st, stage: failed}
	ch := st.Connection.Channel(t.Mode)
	switch n := st.Session; {
	case n == nil || ch == nil || st.Connection.Status == bankfeed.ConnectionClosed:
		a.failure = &bankfeed.Failure{Reason: bankfeed.FailAborted, Text: "the connection was removed"}
	case n.Open():
		a.stage = reading
		if run := n.Run(t.Mode); run != nil && run.Phase == bankfeed.PhaseAuth {
			a.stage = waiting
		}
	case ch.LastSuccessAt != nil && !ch.LastSuccessAt.Before(n.CreatedAt):
		a.stage = got
	case ch.Failure != nil:
		a.failure = ch.Failure
	default:
		a.failure = n.Failure
	}
	return a, nil
}

// hopeless reports a failure that another try of the same user cannot mend.
func hopeless(d *form, f *bankfeed.Failure) bool {
	fixed := d.Bank != "" || d.Type == Update
	return fixed && f != nil && (f.Reason == bankfeed.FailOperator || f.Reason == bankfeed.FailFormat)
}

// runForm looks whether a form has come to its end.
func (s *Service) runForm(ctx context.Context, f bankfeed.Fence, r *bankfeed.Request) error {
	d, err := read[form](r)
	if err != nil {
		return err
	}
	if r.EndedAt != nil {
		return s.tidy(ctx, f, r, &d)
	}
	a, err := s.standing(ctx, f.Tenant, d.Try)
	if err != nil {
		return err
	}
	now := s.now()
	over := !r.ExpiresAt.After(now)
	switch {
	case a.stage == reading:
		return s.later(ctx, f, now.Add(lookAgain)) // what the user has agreed to is not given up half-way
	case a.stage == got:
		return s.succeed(ctx, f, r, &d)
	case a.stage == failed && (over || hopeless(&d, a.failure)):
		code, message := codeOf(a.failure)
		return s.endForm(ctx, f.Tenant, &f, r, ending{status: CompletedWithError, code: code, message: message})
	case over:
		return s.endForm(ctx, f.Tenant, &f, r, ending{status: Expired})
	}
	return s.later(ctx, f, r.ExpiresAt)
}

func (s *Service) succeed(ctx context.Context, f bankfeed.Fence, r *bankfeed.Request, d *form) error {
	e := ending{status: Completed, connection: d.Try.Connection}
	if d.Type == Import {
		twin, err := s.twin(ctx, f.Tenant, r, d.Try.Connection)
		if err != nil {
			return err
		}
		if twin != 0 {
			e = ending{status: CompletedWithError, code: CodeEntityExists, message: "the accounts are there already, as another bank connection"}
		}
	}
	return s.endForm(ctx, f.Tenant, &f, r, e)
}

// twin finds another connection to the same bank that has all accounts of this
// one: whoever adds them up would count them twice.
func (s *Service) twin(ctx context.Context, tenant bankfeed.TenantID, r *bankfeed.Request, id bankfeed.ConnectionID) (bankfeed.ConnectionID, error) {
	all, err := s.Store.Connections(ctx, tenant, r.User)
	if err != nil {
		return 0, err
	}
	i := slices.IndexFunc(all, func(c bankfeed.Connection) bool { return c.ID == id })
	if i < 0 {
		return 0, bankfeed.ErrNotFound
	}
	accounts, err := s.Store.Accounts(ctx, tenant, r.User, bankfeed.AccountFilter{Connection: id})
	if err != nil || len(accounts) == 0 {
		return 0, err
	}
	for j := range all {
		c := &all[j]
		if c.ID == id || c.ProviderID != all[i].ProviderID || !c.Imported() {
			continue
		}
		others, err := s.Store.Accounts(ctx, tenant, r.User, bankfeed.AccountFilter{Connection: c.ID})
		if err != nil {
			return 0, err
		}
		missing := func(a bankfeed.Account) bool {
			return !slices.ContainsFunc(others, func(b bankfeed.Account) bool { return same(a, b) })
		}
		if slices.ContainsFunc(accounts, missing) {
			continue
		}
		if stays, err := s.stays(ctx, tenant, r, c.ID); err != nil || stays {
			return c.ID, err
		}
	}
	return 0, nil
}

// stays reports whether a connection counts beside that of a form. What another
// form is about to remove does not. Of two that are undecided the older one keeps
// its own: else either would give way to the other.
func (s *Service) stays(ctx context.Context, tenant bankfeed.TenantID, r *bankfeed.Request, id bankfeed.ConnectionID) (bool, error) {
	forms, err := s.Store.Requests(ctx, tenant, r.User, bankfeed.RequestWebForm, 0, MaxListed)
	if err != nil {
		return false, err
	}
	for i := range forms {
		f := &forms[i]
		if f.ID == r.ID || !slices.ContainsFunc(f.Members, func(m bankfeed.RequestMember) bool { return m.Connection == id }) {
			continue
		}
		d, err := read[form](f)
		switch {
		case err != nil:
			return false, err
		case d.Type != Import:
			continue
		case f.EndedAt != nil:
			return d.Result == id, nil
		}
		return f.ID < r.ID, nil
	}
	return true, nil
}

// same reports whether two connections list the same account.
func same(a, b bankfeed.Account) bool {
	return a.Currency == b.Currency && slices.ContainsFunc(a.Identifiers, func(i bankfeed.Identifier) bool {
		return i.Type != bankfeed.IdentOther && slices.Contains(b.Identifiers, i)
	})
}

// ending is how a form or a task ends.
type ending struct {
	status     string
	connection bankfeed.ConnectionID
	code       Code
	message    string
}

// endForm ends a form and lets its task go on. The form's own work stays up: it
// takes away what the attempts have left. f is set for whoever has claimed it; a
// user who gives up has not.
func (s *Service) endForm(ctx context.Context, tenant bankfeed.TenantID, f *bankfeed.Fence, r *bankfeed.Request, e ending) error {
	d, err := read[form](r)
	if err != nil {
		return err
	}
	user, err := s.Store.User(ctx, tenant, r.User)
	if err != nil {
		return err
	}
	now := s.now()
	d.Result, d.Code, d.Message = e.connection, e.code, e.message
	r.Status, r.EndedAt = e.status, &now
	changed, err := write(r, d)
	if err != nil {
		return err
	}
	scribe := s.scribe(tenant)
	ref := scribe.RequestRef(r)
	ref.Code, ref.Message = string(e.code), e.message
	ref.Sources = slices.DeleteFunc(ref.Sources, func(m bankfeed.SourceRef) bool { return m.Connection != e.connection })
	draft := scribe.DraftRequest(bankfeed.EventRequestFinished, now, user, ref)
	draft.Callbacks = r.Calls(bankfeed.MomentFinished, latest(now, r.NotBefore))
	c := &bankfeed.Change{Tenant: tenant, User: r.User, Requests: []bankfeed.Request{changed}, Events: []bankfeed.Draft{draft}}
	if f != nil {
		c.Fence, c.Release = f, &bankfeed.Release{ReadyAt: now}
	} else {
		c.Ready = []bankfeed.WorkItem{s.work(tenant, r.ID, now)}
	}
	if d.Task != 0 {
		c.Ready = append(c.Ready, s.work(tenant, d.Task, now))
	}
	return s.apply(ctx, c)
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// tidy removes the connections that an ended form began and that came to nothing,
// also one that a crash kept it from writing down. It comes in work of its own,
// so that no crash keeps it from being done.
func (s *Service) tidy(ctx context.Context, f bankfeed.Fence, r *bankfeed.Request, d *form) error {
	if d.Type == Import {
		for _, m := range r.Members {
			if m.Connection == d.Result {
				continue
			}
			if err := s.remove(ctx, f.Tenant, r.User, m.Connection); err != nil {
				return err
			}
		}
		if err := s.forgotten(ctx, f.Tenant, r, d.Result); err != nil {
			return err
		}
	}
	return s.Store.FinishWork(ctx, f, bankfeed.Release{Done: true})
}

// forgotten removes what a form began without writing it down.
func (s *Service) forgotten(ctx context.Context, tenant bankfeed.TenantID, r *bankfeed.Request, keep bankfeed.ConnectionID) error {
	sessions, err := s.Store.SessionsByExternalID(ctx, tenant, r.User, s.uuid(tenant, r.ID).String())
	if err != nil {
		return err
	}
	for _, n := range sessions {
		known := n.Connection == keep || slices.ContainsFunc(r.Members, func(m bankfeed.RequestMember) bool { return m.Connection == n.Connection })
		if known {
			continue
		}
		st, err := s.Store.ConnectionState(ctx, tenant, r.User, n.Connection)
		if errors.Is(err, bankfeed.ErrNotFound) {
			continue
		}
		// Others may name their sessions as they like: nothing is removed that is older, or has data.
		if err == nil && !st.Connection.CreatedAt.Before(r.CreatedAt) && !st.Connection.Imported() {
			err = s.remove(ctx, tenant, r.User, n.Connection)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// remove is content if there is nothing to remove.
func (s *Service) remove(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id bankfeed.ConnectionID) error {
	err := s.Links.DeleteConnection(ctx, tenant, user, id)
	if errors.Is(err, bankfeed.ErrNotFound) {
		return nil
	}
	return err
}
