package webform

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/pages"
)

// Order asks for a form that links a new bank.
type Order struct {
	Tenant  bankfeed.TenantID
	User    bankfeed.UserID
	Client  string
	Sandbox bool
	// Bank is the only bank to choose; Search what the list of banks begins
	// with. Both may be empty.
	Bank, Search string
	Modes        []bankfeed.Mode // the ways to offer; empty: all
	RedirectURL  string          // where the user goes after success
	Callbacks    []bankfeed.RequestCallback
}

// Import makes a form for a new connection.
func (s *Service) Import(ctx context.Context, o Order) (Form, error) {
	if o.RedirectURL != "" {
		if err := pages.CheckReturnURL("redirectUrl", o.RedirectURL, o.Sandbox); err != nil {
			return Form{}, err
		}
	}
	if o.Bank != "" {
		p, err := s.Links.Provider(o.Bank, o.Sandbox)
		if errors.Is(err, bankfeed.ErrNotFound) {
			err = &bankfeed.Error{Kind: bankfeed.NotFound, Field: "bank.id", Text: "unknown bank"}
		}
		if err != nil {
			return Form{}, err
		}
		if len(modesOf(p, o.Modes)) == 0 {
			return Form{}, bankfeed.InvalidField("allowedInterfaces", "the bank offers none of them")
		}
	}
	now := s.now()
	r, err := s.newForm(ctx, o.Tenant, now, form{Type: Import, Bank: o.Bank, Search: o.Search, Modes: o.Modes, Return: returns{Success: o.RedirectURL}})
	if err != nil {
		return Form{}, err
	}
	r.User, r.Client, r.Sandbox, r.Callbacks = o.User, o.Client, o.Sandbox, o.Callbacks
	err = s.apply(ctx, &bankfeed.Change{Tenant: o.Tenant, User: o.User, Requests: []bankfeed.Request{r}, Ready: []bankfeed.WorkItem{s.work(o.Tenant, r.ID, r.ExpiresAt)}})
	if err != nil {
		return Form{}, err
	}
	return s.formOf(o.Tenant, &r)
}

func (s *Service) newForm(ctx context.Context, tenant bankfeed.TenantID, now time.Time, d form) (bankfeed.Request, error) {
	id, err := s.Store.NextIDs(ctx, tenant, bankfeed.KindRequest, 1)
	if err != nil {
		return bankfeed.Request{}, err
	}
	d.Secret = pages.NewSecret()
	return write(&bankfeed.Request{ID: bankfeed.RequestID(id), Kind: bankfeed.RequestWebForm, Status: NotYetOpened, Token: pages.HashOf(d.Secret),
		CreatedAt: now, NotBefore: now.Add(s.Grace), ExpiresAt: now.Add(s.Lifetime)}, d)
}

// modesOf lists the ways to reach a bank that a form may offer; no wish is every
// way.
func modesOf(p bankfeed.Provider, allowed []bankfeed.Mode) (modes []bankfeed.Mode) {
	for _, m := range []bankfeed.Mode{bankfeed.Redirect, bankfeed.Embedded} {
		if _, ok := p.Channel(m); ok && (len(allowed) == 0 || slices.Contains(allowed, m)) {
			modes = append(modes, m)
		}
	}
	return modes
}

// UpdateOrder asks for a connection to be brought up to date.
type UpdateOrder struct {
	Tenant      bankfeed.TenantID
	User        bankfeed.UserID
	Client      string
	Sandbox     bool
	Connection  bankfeed.ConnectionID
	PSU         *bankfeed.PSU // attended when set
	Modes       []bankfeed.Mode
	RedirectURL string // where the user goes after a form, if it takes one
	Callbacks   []bankfeed.RequestCallback
}

// Update makes a task that begins at once.
func (s *Service) Update(ctx context.Context, o UpdateOrder) (Task, error) {
	if o.RedirectURL != "" {
		if err := pages.CheckReturnURL("redirectUrl", o.RedirectURL, o.Sandbox); err != nil {
			return Task{}, err
		}
	}
	st, err := s.Store.ConnectionState(ctx, o.Tenant, o.User, o.Connection)
	switch {
	case errors.Is(err, bankfeed.ErrNotFound), err == nil && (st.Connection.Sandbox != o.Sandbox || st.Connection.Status == bankfeed.ConnectionClosed):
		return Task{}, &bankfeed.Error{Kind: bankfeed.NotFound, Field: "bankConnectionId", Text: "unknown bank connection"}
	case err != nil:
		return Task{}, err
	case len(st.Connection.Channels) == 0:
		return Task{}, &bankfeed.Error{Kind: bankfeed.Conflict, Field: "bankConnectionId", Text: "the data was handed in: there is no bank to ask"}
	}
	id, err := s.Store.NextIDs(ctx, o.Tenant, bankfeed.KindRequest, 1)
	if err != nil {
		return Task{}, err
	}
	now := s.now()
	r, err := write(&bankfeed.Request{ID: bankfeed.RequestID(id), User: o.User, Client: o.Client, Sandbox: o.Sandbox, Kind: bankfeed.RequestTask, Status: NotYetStarted,
		Callbacks: o.Callbacks, CreatedAt: now, NotBefore: now.Add(s.Grace)},
		task{Connection: o.Connection, PSU: o.PSU, Modes: o.Modes, Return: returns{Success: o.RedirectURL}})
	if err != nil {
		return Task{}, err
	}
	err = s.apply(ctx, &bankfeed.Change{Tenant: o.Tenant, User: o.User, Requests: []bankfeed.Request{r}, Ready: []bankfeed.WorkItem{s.work(o.Tenant, r.ID, now)}})
	if err != nil {
		return Task{}, err
	}
	return s.taskOf(ctx, o.Tenant, &r)
}

func (s *Service) request(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id bankfeed.RequestID, kind bankfeed.RequestKind) (bankfeed.Request, error) {
	r, err := s.Store.Request(ctx, tenant, user, id)
	if err == nil && r.Kind != kind {
		err = bankfeed.ErrNotFound
	}
	return r, err
}

// Form reads one form of a user.
func (s *Service) Form(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id bankfeed.RequestID) (Form, error) {
	r, err := s.request(ctx, tenant, user, id, bankfeed.RequestWebForm)
	if err != nil {
		return Form{}, err
	}
	return s.formOf(tenant, &r)
}

// Task reads one task of a user.
func (s *Service) Task(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id bankfeed.RequestID) (Task, error) {
	r, err := s.request(ctx, tenant, user, id, bankfeed.RequestTask)
	if err != nil {
		return Task{}, err
	}
	return s.taskOf(ctx, tenant, &r)
}

// MaxListed is how many forms or tasks of a user are listed: the newest.
const MaxListed = 1000

// Forms lists a user's forms, newest first.
func (s *Service) Forms(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID) ([]Form, error) {
	all, err := s.Store.Requests(ctx, tenant, user, bankfeed.RequestWebForm, 0, MaxListed)
	forms := make([]Form, len(all))
	for i := range all {
		if err == nil {
			forms[i], err = s.formOf(tenant, &all[i])
		}
	}
	return forms, err
}

// Tasks lists a user's tasks, newest first.
func (s *Service) Tasks(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID) ([]Task, error) {
	all, err := s.Store.Requests(ctx, tenant, user, bankfeed.RequestTask, 0, MaxListed)
	tasks := make([]Task, len(all))
	for i := range all {
		if err == nil {
			tasks[i], err = s.taskOf(ctx, tenant, &all[i])
		}
	}
	return tasks, err
}

// Abort ends a form that its client does not want any more. One that has ended
// stays as it is.
func (s *Service) Abort(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id bankfeed.RequestID) error {
	return s.abort(ctx, tenant, func() (bankfeed.Request, error) {
		return s.request(ctx, tenant, user, id, bankfeed.RequestWebForm)
	})
}

// maxConflicts bounds how often a decision is made anew because others changed
// the same request.
const maxConflicts = 20

func (s *Service) abort(ctx context.Context, tenant bankfeed.TenantID, find func() (bankfeed.Request, error)) (err error) {
	for range maxConflicts {
		var r bankfeed.Request
		if r, err = find(); err != nil || r.EndedAt != nil {
			return err
		}
		err = s.endForm(ctx, tenant, nil, &r, ending{status: Aborted})
		if !errors.Is(err, bankfeed.ErrConflict) {
			return err
		}
	}
	return err
}
