package webform

import (
	"context"
	"errors"
	"slices"

	"github.com/bankfeed/bankfeed"
)

// runTask takes a task one step further.
func (s *Service) runTask(ctx context.Context, f bankfeed.Fence, r *bankfeed.Request) error {
	d, err := read[task](r)
	if err != nil {
		return err
	}
	switch r.Status {
	case NotYetStarted:
		return s.start(ctx, f, r, d)
	case WebFormRequired:
		return s.afterForm(ctx, f, r, d)
	}
	return s.judge(ctx, f, r, d)
}

// start asks for a session, or joins the one that is running.
func (s *Service) start(ctx context.Context, f bankfeed.Fence, r *bankfeed.Request, d task) error {
	n, _, err := s.Syncs.Synchronize(ctx, bankfeed.SyncOrder{Tenant: f.Tenant, User: r.User, Connection: d.Connection, PSU: d.PSU,
		Initiator: bankfeed.ByUser, ExternalID: s.uuid(f.Tenant, r.ID).String()})
	if k := bankfeed.ErrorKindOf(err); err != nil && (k == bankfeed.NotFound || k == bankfeed.Conflict) {
		return s.endTask(ctx, f, r, d, ending{status: CompletedWithError, code: CodeInternal, message: "the bank connection is not there any more"})
	}
	if err != nil {
		return err
	}
	d.PSU = nil
	r.Status = InProgress
	changed, err := write(r, d)
	if err != nil {
		return err
	}
	changed.Members = []bankfeed.RequestMember{{Connection: d.Connection, Session: n.ID}}
	// The session may have ended already: the task looks at once.
	return s.apply(ctx, &bankfeed.Change{Tenant: f.Tenant, User: r.User, Fence: &f, Release: &bankfeed.Release{ReadyAt: s.now()}, Requests: []bankfeed.Request{changed}})
}

// judge looks whether the session of a task has ended, and how.
func (s *Service) judge(ctx context.Context, f bankfeed.Fence, r *bankfeed.Request, d task) error {
	gone := ending{status: CompletedWithError, code: CodeInternal, message: "the bank connection is not there any more"}
	i := slices.IndexFunc(r.Members, func(m bankfeed.RequestMember) bool { return m.Connection == d.Connection })
	if i < 0 || r.Members[i].Session == 0 {
		return s.endTask(ctx, f, r, d, gone)
	}
	st, err := s.Store.SessionState(ctx, f.Tenant, r.Members[i].Session)
	switch {
	case errors.Is(err, bankfeed.ErrNotFound):
		return s.endTask(ctx, f, r, d, gone)
	case err != nil:
		return err
	case st.Connection.Status == bankfeed.ConnectionClosed || st.Session == nil:
		return s.endTask(ctx, f, r, d, gone)
	case st.Session.Open():
		return s.later(ctx, f, s.now().Add(lookAgain))
	case len(needy(&st.Connection, d.Modes)) > 0:
		return s.needForm(ctx, f, r, d, &st.Connection)
	case st.Session.Status == bankfeed.SessionFinished:
		return s.endTask(ctx, f, r, d, ending{status: Completed, connection: d.Connection})
	}
	why := st.Session.Failure
	for _, ch := range st.Connection.Channels {
		if why == nil {
			why = ch.Failure
		}
	}
	code, message := codeOf(why)
	if code != CodeInternal && code != CodeUnexpected {
		code = CodeBankRejection // a task has no other word for it
	}
	return s.endTask(ctx, f, r, d, ending{status: CompletedWithError, code: code, message: message})
}

// needy lists the channels that do nothing without their user.
func needy(c *bankfeed.Connection, allowed []bankfeed.Mode) (modes []bankfeed.Mode) {
	for _, ch := range c.Channels {
		if ch.Status.NeedsUser() && (len(allowed) == 0 || slices.Contains(allowed, ch.Mode)) {
			modes = append(modes, ch.Mode)
		}
	}
	return modes
}

// needForm makes the form on which the user lets the hub in again.
func (s *Service) needForm(ctx context.Context, f bankfeed.Fence, r *bankfeed.Request, d task, c *bankfeed.Connection) error {
	user, err := s.Store.User(ctx, f.Tenant, r.User)
	if err != nil {
		return err
	}
	now := s.now()
	page, err := s.newForm(ctx, f.Tenant, now, form{Type: Update, Bank: c.ProviderID, Modes: needy(c, d.Modes), Return: d.Return, Task: r.ID, Update: c.ID})
	if err != nil {
		return err
	}
	page.User, page.Client, page.Sandbox = r.User, r.Client, r.Sandbox
	d.Form, r.Status = page.ID, WebFormRequired
	changed, err := write(r, d)
	if err != nil {
		return err
	}
	scribe := s.scribe(f.Tenant)
	ref := scribe.RequestRef(r)
	ref.Page = s.pageRef(f.Tenant, &page)
	draft := scribe.DraftRequest(bankfeed.EventRequestUserNeeded, now, user, ref)
	draft.Callbacks = r.Calls(bankfeed.MomentUserNeeded, latest(now, r.NotBefore))
	return s.apply(ctx, &bankfeed.Change{Tenant: f.Tenant, User: r.User, Fence: &f, Release: &bankfeed.Release{ReadyAt: page.ExpiresAt.Add(lookAgain)},
		Requests: []bankfeed.Request{changed, page}, Ready: []bankfeed.WorkItem{s.work(f.Tenant, page.ID, page.ExpiresAt)}, Events: []bankfeed.Draft{draft}})
}

// pageRef names a form in events. Its URL holds a secret and stays out of the
// log: whoever is told reads the task.
func (s *Service) pageRef(tenant bankfeed.TenantID, r *bankfeed.Request) *bankfeed.PageRef {
	return &bankfeed.PageRef{ID: r.ID, UUID: s.uuid(tenant, r.ID), Status: r.Status}
}

// afterForm goes on when the form of a task has ended.
func (s *Service) afterForm(ctx context.Context, f bankfeed.Fence, r *bankfeed.Request, d task) error {
	page, err := s.Store.Request(ctx, f.Tenant, r.User, d.Form)
	if err != nil {
		return err
	}
	if page.EndedAt == nil {
		return s.later(ctx, f, latest(page.ExpiresAt, s.now()).Add(lookAgain))
	}
	p, err := read[form](&page)
	if err != nil {
		return err
	}
	e := ending{status: CompletedWithError, code: CodeInterrupted}
	switch page.Status {
	case Completed:
		e = ending{status: Completed, connection: d.Connection}
	case Expired:
		e.message = "the web form has expired"
	case Aborted:
		e.message = "the web form was aborted"
	default:
		e.code, e.message = p.Code, p.Message
	}
	return s.endTask(ctx, f, r, d, e)
}

func (s *Service) endTask(ctx context.Context, f bankfeed.Fence, r *bankfeed.Request, d task, e ending) error {
	user, err := s.Store.User(ctx, f.Tenant, r.User)
	if err != nil {
		return err
	}
	now := s.now()
	d.Code, d.Message, d.PSU = e.code, e.message, nil
	r.Status, r.EndedAt = e.status, &now
	changed, err := write(r, d)
	if err != nil {
		return err
	}
	scribe := s.scribe(f.Tenant)
	ref := scribe.RequestRef(r)
	ref.Code, ref.Message = string(e.code), e.message
	if d.Form != 0 {
		page, err := s.Store.Request(ctx, f.Tenant, r.User, d.Form)
		if err != nil {
			return err
		}
		ref.Page = s.pageRef(f.Tenant, &page)
	}
	draft := scribe.DraftRequest(bankfeed.EventRequestFinished, now, user, ref)
	draft.Callbacks = r.Calls(bankfeed.MomentFinished, latest(now, r.NotBefore))
	return s.apply(ctx, &bankfeed.Change{Tenant: f.Tenant, User: r.User, Fence: &f, Release: &bankfeed.Release{Done: true},
		Requests: []bankfeed.Request{changed}, Events: []bankfeed.Draft{draft}})
}
