package webform

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/pages"
)

// maxTries bounds how often one form begins to link a bank.
const maxTries = 20

// visit is one request of a browser to a form's page.
type visit struct {
	s      *Service
	tenant bankfeed.TenantID
	token  string
	r      bankfeed.Request
	d      form
	at     standing
	psu    *bankfeed.PSU
}

// enter finds what a token opens, and how it stands.
func (s *Service) enter(ctx context.Context, token string, psu *bankfeed.PSU) (*visit, error) {
	v := &visit{s: s, token: token, psu: psu}
	if err := v.load(ctx); err != nil {
		return nil, err
	}
	return v, nil
}

func (v *visit) load(ctx context.Context) (err error) {
	if v.tenant, v.r, err = v.s.Store.RequestByToken(ctx, pages.HashOf(v.token)); err != nil {
		return err
	}
	if v.r.Kind != bankfeed.RequestWebForm {
		return bankfeed.ErrNotFound
	}
	if v.d, err = read[form](&v.r); err != nil {
		return err
	}
	v.at = standing{stage: none}
	if v.r.EndedAt == nil {
		v.at, err = v.s.standing(ctx, v.tenant, v.d.Try)
	}
	return err
}

// state is what a page shows; a script asks for it to notice that the page has
// something else to show.
func (v *visit) state() string {
	return v.r.Status + "." + strconv.Itoa(v.d.Tries) + "." + string(v.at.stage)
}

// over reports that the time for a form is up. It ends in the background.
func (v *visit) over() bool {
	return v.r.EndedAt == nil && !v.r.ExpiresAt.After(v.s.now()) && v.at.stage != reading && v.at.stage != got
}

// busy reports that the accounts are being read: nothing is to be decided now.
func (v *visit) busy() bool { return v.at.stage == reading || v.at.stage == got }

// save stores what became of the form.
func (v *visit) save(ctx context.Context, members ...bankfeed.RequestMember) error {
	changed, err := write(&v.r, v.d)
	if err != nil {
		return err
	}
	changed.Members = members
	if err := v.s.apply(ctx, &bankfeed.Change{Tenant: v.tenant, User: v.r.User, Requests: []bankfeed.Request{changed}}); err != nil {
		return err
	}
	v.r.Version++
	return nil
}

// open shows where the form stands.
func (s *Service) open(ctx context.Context, token string, q url.Values, psu *bankfeed.PSU) (page, error) {
	v, err := s.enter(ctx, token, psu)
	if err != nil {
		return page{}, err
	}
	if v.r.Status == NotYetOpened && !v.over() {
		if err := v.first(ctx, q); err != nil {
			return page{}, err
		}
	}
	for name := range q { // of the first visit, or of the way back: the page is the same without
		if !slices.Contains(ownParameters, name) {
			return page{location: s.pageURL(token) + own(q)}, nil
		}
	}
	switch {
	case v.r.EndedAt != nil:
		return v.ended(), nil
	case v.over():
		return v.expired(), nil
	case v.busy():
		return v.reading(), nil
	case q.Get("bank") != "" || q.Has("choose"):
		return v.choose(ctx, q)
	case v.at.stage == waiting:
		return v.unfinished(), nil
	case v.at.stage == failed:
		return v.problem(), nil
	}
	return v.choose(ctx, q)
}

// ownParameters are those by which the page knows what was chosen.
var ownParameters = []string{"bank", "choose", "q"}

func own(q url.Values) string {
	kept := url.Values{}
	for _, name := range ownParameters {
		if q.Has(name) {
			kept.Set(name, q.Get(name))
		}
	}
	if len(kept) == 0 {
		return ""
	}
	return "?" + kept.Encode()
}

// first notes that the form was opened, and where the client said in the URL that
// it wants its user afterwards. Later visits cannot change that.
func (v *visit) first(ctx context.Context, q url.Values) error {
	v.r.Status = InProgress
	for name, to := range map[string]*string{"redirectUrl": &v.d.Return.Success, "errorRedirectUrl": &v.d.Return.Error,
		"abortRedirectUrl": &v.d.Return.Abort, "customerSupportUrl": &v.d.Return.Support} {
		if u := q.Get(name); u != "" && pages.CheckReturnURL(name, u, v.r.Sandbox) == nil {
			*to = u
		}
	}
	err := v.save(ctx)
	if errors.Is(err, bankfeed.ErrConflict) {
		return v.load(ctx) // another window was first
	}
	return err
}

// answers are the fields of the page's forms.
type answers struct {
	action, step, bank string
	mode               bankfeed.Mode
}

// submit answers a form of the page.
func (s *Service) submit(ctx context.Context, token string, in answers, psu *bankfeed.PSU) (page, error) {
	v, err := s.enter(ctx, token, psu)
	if err != nil {
		return page{}, err
	}
	self := page{location: s.pageURL(token)}
	switch {
	case v.r.EndedAt != nil, v.over(), v.busy():
		return self, nil
	case in.action == "cancel":
		return self, v.s.abort(ctx, v.tenant, func() (bankfeed.Request, error) {
			_, r, err := v.s.Store.RequestByToken(ctx, pages.HashOf(token))
			return r, err
		})
	case in.step != strconv.Itoa(v.d.Tries): // sent twice, or from a page of before
		return self, nil
	case v.d.Tries >= maxTries:
		return v.message(http.StatusTooManyRequests, "Too many tries", "Please start again where you came from."), nil
	case psu == nil:
		return page{}, pages.ErrNoAddress
	}
	if in.action == "again" && v.at.stage == failed && v.d.Try != nil {
		return v.again(ctx)
	}
	return v.begin(ctx, in.bank, in.mode)
}

// again tries the same once more. Where the bank has let the hub in and only the
// reading failed, the user is not sent there a second time.
func (v *visit) again(ctx context.Context) (page, error) {
	st, m := v.at.st, v.d.Try.Mode
	ch := st.Connection.Channel(m)
	if ch == nil || st.Connection.Status == bankfeed.ConnectionClosed {
		return page{location: v.s.pageURL(v.token) + "?choose=1"}, nil
	}
	if st.Confirmed(m) == nil || ch.Status.NeedsUser() && ch.Action != bankfeed.ActionBankSite {
		return v.begin(ctx, st.Connection.ProviderID, m)
	}
	v.d.Tries++
	if err := v.save(ctx); err != nil {
		return v.lost(err)
	}
	n, _, err := v.s.Syncs.Synchronize(ctx, bankfeed.SyncOrder{Tenant: v.tenant, User: v.r.User, Connection: st.Connection.ID, PSU: v.psu,
		Initiator: bankfeed.ByUser, ExternalID: v.s.uuid(v.tenant, v.r.ID).String()})
	if err != nil {
		return v.lost(err)
	}
	_, err = v.keep(ctx, try{Number: v.d.Tries, Connection: st.Connection.ID, Session: n.ID, Mode: m})
	return page{location: v.s.pageURL(v.token)}, err
}

// begin links a bank and sends the browser on its way. The number of the try is
// taken first, so that of two windows one begins.
func (v *visit) begin(ctx context.Context, bank string, m bankfeed.Mode) (page, error) {
	p, modes, err := v.offer(ctx, bank)
	if err != nil {
		return v.lost(err)
	}
	if !slices.Contains(modes, m) {
		return page{location: v.s.pageURL(v.token) + own(url.Values{"bank": {bank}})}, nil
	}
	v.d.Tries++
	if err := v.save(ctx); err != nil {
		return v.lost(err)
	}
	l := bankfeed.Linking{Tenant: v.tenant, User: v.r.User, Sandbox: v.r.Sandbox, Provider: p.ID, Channels: []bankfeed.LinkChannel{{Mode: m}},
		RedirectURL: v.s.pageURL(v.token), SessionExternalID: v.s.uuid(v.tenant, v.r.ID).String()}
	switch before := &v.at.st.Connection; {
	case v.d.Type == Update:
		l.Provider, l.Renew = "", v.d.Update
	case v.at.stage != none && before.ID != 0 && before.ProviderID == p.ID && before.Status != bankfeed.ConnectionClosed:
		l.Provider, l.Renew = "", before.ID
	}
	linked, err := v.s.Links.Link(ctx, l)
	if err != nil {
		return v.lost(err)
	}
	to := linked.Steps[0].RedirectURL
	kept, err := v.keep(ctx, try{Number: v.d.Tries, Connection: linked.Connection.ID, Session: linked.Session.ID, Mode: m, Page: to})
	if err != nil || !kept {
		return page{location: v.s.pageURL(v.token)}, err
	}
	return page{location: to}, nil
}

// keep stores a try. One that comes after the end of the form, or after a newer
// one, is not kept. The connection that is not wanted any more goes.
func (v *visit) keep(ctx context.Context, t try) (kept bool, err error) {
	ctx = context.WithoutCancel(ctx)
	for range maxConflicts {
		old := v.d.Try
		if v.r.EndedAt != nil || old != nil && old.Number >= t.Number {
			if v.r.EndedAt != nil || old.Connection != t.Connection {
				v.drop(ctx, t.Connection)
			}
			return false, nil
		}
		v.d.Try = &t
		err = v.save(ctx, bankfeed.RequestMember{Connection: t.Connection, Session: t.Session})
		if err == nil && old != nil && old.Connection != t.Connection {
			v.drop(ctx, old.Connection)
		}
		if !errors.Is(err, bankfeed.ErrConflict) {
			return err == nil, err
		}
		if err := v.load(ctx); err != nil {
			return false, err
		}
	}
	return false, err
}

// drop removes a connection that a form has made and that came to nothing.
func (v *visit) drop(ctx context.Context, id bankfeed.ConnectionID) {
	if v.d.Type != Import {
		return
	}
	if err := v.s.remove(ctx, v.tenant, v.r.User, id); err != nil {
		v.s.Logger.ErrorContext(ctx, "removing what a web form began failed", "request", v.r.ID, "connection", id, "error", err)
	}
}

// lost turns what another window, or another session of the connection, was
// faster in into a page; other errors stay errors.
func (v *visit) lost(err error) (page, error) {
	if errors.Is(err, bankfeed.ErrConflict) {
		return page{location: v.s.pageURL(v.token)}, nil
	}
	switch bankfeed.ErrorKindOf(err) {
	case bankfeed.Conflict: // the bank is being read, or not offered any more
		p := v.message(http.StatusConflict, "One moment", "Your bank is being asked already. Please try again in a moment.")
		p.view.Retry = true
		return p, nil
	case bankfeed.NotFound, bankfeed.Invalid:
		return page{location: v.s.pageURL(v.token) + "?choose=1"}, nil
	}
	return page{}, err
}

// offer finds a bank that the user may choose, and the ways to it.
func (v *visit) offer(ctx context.Context, bank string) (p bankfeed.Provider, modes []bankfeed.Mode, err error) {
	if v.d.Bank != "" {
		bank = v.d.Bank
	}
	if p, err = v.s.Links.Provider(bank, v.r.Sandbox); err != nil {
		return p, nil, err
	}
	user, err := v.s.Store.User(ctx, v.tenant, v.r.User)
	if err != nil {
		return p, nil, err
	}
	if !serves(p, user) {
		return p, nil, bankfeed.ErrNotFound
	}
	return p, modesOf(p, v.d.Modes), nil
}

func serves(p bankfeed.Provider, u bankfeed.User) bool {
	return len(p.Contexts) == 0 || slices.Contains(p.Contexts, u.BusinessContext)
}

// pollAfter is how long a page waits before it looks again, in a browser that
// runs no script.
const pollAfter = 3 * time.Second
