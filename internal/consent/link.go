package consent

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/connector"
	"github.com/bankfeed/bankfeed/internal/pages"
)

// Link opens a link session: for a new connection, or for one that exists when
// l.Renew is set. REDIRECT channels, and EMBEDDED ones that lack credentials or
// their PSU's address, are answered with a URL of the hub's own start page; of
// other EMBEDDED channels the bank is asked at once. What the bank refuses is no
// error: it shows in the state of the channel.
//
// A renewal needs the connection for itself: while a session runs it is a
// Conflict, unless that session too waits for its user on channels that are now
// linked anew; then it is given up.
func (s *Service) Link(ctx context.Context, l bankfeed.Linking) (bankfeed.Linked, error) {
	if err := checkLinking(l); err != nil {
		return bankfeed.Linked{}, err
	}
	o := &opening{s: s, l: l, scribe: s.scribe(l.Tenant)}
	var st bankfeed.ConnectionState
	var err error
	if l.Renew == 0 {
		st, err = o.create(ctx)
	} else {
		st, err = s.change(ctx, l.Tenant, func() (bankfeed.ConnectionState, error) {
			return s.Store.ConnectionState(ctx, l.Tenant, l.User, l.Renew)
		}, func(st *bankfeed.ConnectionState, c *bankfeed.Change) error { return o.renew(ctx, st, c) })
	}
	if err != nil {
		return bankfeed.Linked{}, err
	}
	for i, ch := range l.Channels {
		if o.steps[i].RedirectURL != "" {
			continue
		}
		a := s.attempt(l.Tenant, o.session, ch.Mode, l.PSU)
		v, after, err := a.begin(ctx, st, st.Session.Run(ch.Mode).Consent, stash{Login: ch.Login, Password: ch.Password, ConsentExternalID: l.ConsentExternalID})
		if err != nil {
			return bankfeed.Linked{}, err
		}
		o.steps[i].Challenge, st = v.challenge, after
	}
	return bankfeed.Linked{Connection: st.Connection, Session: *st.Session, Steps: o.steps}, nil
}

func checkLinking(l bankfeed.Linking) error {
	if len(l.Channels) == 0 {
		return bankfeed.InvalidField("channels", "at least one channel is needed")
	}
	for i, c := range l.Channels {
		if slices.ContainsFunc(l.Channels[:i], func(o bankfeed.LinkChannel) bool { return o.Mode == c.Mode }) {
			return bankfeed.InvalidField("channels", "a channel is there twice")
		}
		if c.Mode != bankfeed.Embedded && (c.Login != "" || c.Password != "") {
			return bankfeed.InvalidField("channels", "only an EMBEDDED channel takes credentials")
		}
		if c.Login == "" && c.Password != "" {
			return bankfeed.InvalidField("channels", "a password needs its login")
		}
	}
	if l.RedirectURL == "" {
		return nil
	}
	return pages.CheckReturnURL("redirect_url", l.RedirectURL, l.Sandbox)
}

// stash is what a link keeps sealed for its start page.
type stash struct {
	Login             bankfeed.Secret
	Password          bankfeed.Secret
	ConsentExternalID string
}

// stashDoc spells out the secrets, for sealing only.
type stashDoc struct {
	Login             string `json:"login,omitempty"`
	Password          string `json:"password,omitempty"`
	ConsentExternalID string `json:"consent_external_id,omitempty"`
}

func (s stash) encode() (bankfeed.Secret, error) {
	if s == (stash{}) {
		return "", nil
	}
	b, err := json.Marshal(stashDoc{string(s.Login), string(s.Password), s.ConsentExternalID})
	return bankfeed.Secret(b), err
}

func decodeStash(sealed bankfeed.Secret) (s stash, err error) {
	if sealed == "" {
		return s, nil
	}
	var d stashDoc
	if json.Unmarshal([]byte(sealed), &d) != nil {
		return s, errors.New("consent: a link's stored credentials cannot be read")
	}
	return stash{bankfeed.Secret(d.Login), bankfeed.Secret(d.Password), d.ConsentExternalID}, nil
}

// opening builds the change that opens a link session.
type opening struct {
	s       *Service
	l       bankfeed.Linking
	scribe  bankfeed.Scribe
	session bankfeed.SessionID
	steps   []bankfeed.LinkStep
}

// create opens the session of a new connection.
func (o *opening) create(ctx context.Context) (st bankfeed.ConnectionState, err error) {
	p, err := o.s.Banks.Provider(o.l.Provider, o.l.Sandbox)
	if err != nil {
		if errors.Is(err, bankfeed.ErrNotFound) {
			err = &bankfeed.Error{Kind: bankfeed.NotFound, Field: "provider_id", Text: "unknown provider"}
		}
		return st, err
	}
	if st.User, err = o.s.Store.User(ctx, o.l.Tenant, o.l.User); err != nil {
		return st, err
	}
	id, err := o.s.Store.NextIDs(ctx, o.l.Tenant, bankfeed.KindConnection, 1)
	if err != nil {
		return st, err
	}
	now := o.s.now()
	st.Connection = bankfeed.Connection{ID: bankfeed.ConnectionID(id), User: st.User.ID, ProviderID: p.ID, ProviderName: p.Name, BIC: p.BIC,
		Sandbox: p.Sandbox, AutoSync: !st.User.NoAutoSync, CreatedAt: now}
	c := &bankfeed.Change{Tenant: o.l.Tenant, User: st.User.ID, NewConnection: &st.Connection}
	if err := o.open(ctx, &st, c, now, bankfeed.EventConnectionCreated, bankfeed.EventSyncStarted); err != nil {
		return st, err
	}
	_, err = o.s.Store.Apply(ctx, c)
	return st, err
}

// renew opens a session of an existing connection.
func (o *opening) renew(ctx context.Context, st *bankfeed.ConnectionState, c *bankfeed.Change) error {
	if st.Connection.Sandbox != o.l.Sandbox {
		return bankfeed.ErrNotFound
	}
	if st.Connection.Status == bankfeed.ConnectionClosed {
		return errClosed
	}
	now := o.s.now()
	if st.Session != nil {
		if !o.replaces(st.Session) {
			return bankfeed.ErrBusy
		}
		o.giveUp(st, c, now)
	}
	st.Connection.NextSyncAt = time.Time{}
	c.Connection = &st.Connection
	return o.open(ctx, st, c, now, bankfeed.EventSyncStarted)
}

var errClosed = bankfeed.Errorf(bankfeed.Conflict, "the connection is closed")

// replaces reports whether an open session does nothing but wait for its user
// on channels that are linked anew.
func (o *opening) replaces(n *bankfeed.Session) bool {
	for _, r := range n.Runs {
		asked := slices.ContainsFunc(o.l.Channels, func(c bankfeed.LinkChannel) bool { return c.Mode == r.Mode })
		if r.Phase != bankfeed.PhaseDone && (r.Phase != bankfeed.PhaseAuth || !asked) {
			return false
		}
	}
	return true
}

// giveUp ends the session that is replaced. Its end shows the connection as it
// stood then.
func (o *opening) giveUp(st *bankfeed.ConnectionState, c *bankfeed.Change, now time.Time) {
	was := *st
	was.Connection = st.Connection.Clone()
	f := &bankfeed.Failure{Reason: bankfeed.FailAborted, Text: "the channel was linked anew"}
	endSession(&was, c, now, f, func(ch *bankfeed.Channel) { ch.Fail(now, f) })
	was.Connection.Status = bankfeed.DeriveStatus(was.Connection.Channels)
	c.Events = append(c.Events, o.scribe.Draft(bankfeed.EventSyncFailed, now, &was, func(s *bankfeed.Snapshot) { s.Failure = f }))
	c.Ended = append(c.Ended, sessionWork(o.l.Tenant, &was, now))
	st.Connection = was.Connection.Clone()
}

// endSession ends an open session without data: its waiting consents are
// rejected and end gets each channel that was running.
func endSession(st *bankfeed.ConnectionState, c *bankfeed.Change, now time.Time, f *bankfeed.Failure, end func(*bankfeed.Channel)) {
	n := st.Session
	for i := range n.Runs {
		r := &n.Runs[i]
		if r.Phase == bankfeed.PhaseDone {
			continue
		}
		if k := st.Consent(r.Consent); k != nil && k.Status == bankfeed.ConsentReceived {
			reject(k)
			c.Consents = append(c.Consents, *k)
		}
		if ch := st.Connection.Channel(r.Mode); ch != nil && ch.Status == bankfeed.ChannelRunning {
			end(ch)
		}
		r.Phase, r.Deadline = bankfeed.PhaseDone, time.Time{}
	}
	n.Status, n.Failure, n.EndedAt, n.PSU = bankfeed.SessionFailed, f, &now, nil
	c.Session = n
}

// open starts the channels and the session, and makes a start page for each
// channel whose user has something to do there.
func (o *opening) open(ctx context.Context, st *bankfeed.ConnectionState, c *bankfeed.Change, now time.Time, events ...bankfeed.EventType) error {
	profile, _, err := o.s.Banks.Lookup(st.Connection.ProviderID)
	if errors.Is(err, bankfeed.ErrNotFound) {
		err = bankfeed.Errorf(bankfeed.Conflict, "the bank is not offered any more")
	}
	if err != nil {
		return err
	}
	if err := o.checkOffer(profile, st.User.BusinessContext); err != nil {
		return err
	}
	// As the bank is called today: a BIC may have been added since.
	st.Connection.ProviderName, st.Connection.BIC = profile.Provider.Name, cmp.Or(profile.Provider.BIC, st.Connection.BIC)
	for _, d := range profile.Provider.Channels {
		if st.Connection.Channel(d.Mode) == nil {
			st.Connection.Channels = append(st.Connection.Channels, bankfeed.Channel{Mode: d.Mode, Status: bankfeed.ChannelEmpty})
		}
	}
	id, err := o.s.Store.NextIDs(ctx, o.l.Tenant, bankfeed.KindSession, 1)
	if err != nil {
		return err
	}
	o.session = bankfeed.SessionID(id)
	n := &bankfeed.Session{ID: o.session, ExternalID: o.l.SessionExternalID, Status: bankfeed.SessionInitiated, Stage: bankfeed.StageAuthentication,
		Type: bankfeed.SessionAll, Initiator: bankfeed.ByUser, Attended: true, CreatedAt: now, User: st.User.ID, Connection: st.Connection.ID, PSU: o.l.PSU}
	o.steps = make([]bankfeed.LinkStep, len(o.l.Channels))
	var direct []bankfeed.Mode
	for i, ch := range o.l.Channels {
		st.Connection.Channel(ch.Mode).Start()
		o.steps[i].Mode = ch.Mode
		run := bankfeed.ChannelRun{Mode: ch.Mode, Phase: bankfeed.PhaseAuth, Deadline: now.Add(o.s.LinkTimeout)}
		if ch.Login != "" {
			run.Deadline = now.Add(credentialsTimeout)
		}
		if ch.Login != "" && o.l.PSU != nil {
			// The number of a consent that is not there yet: it is being asked for.
			id, err := o.s.Store.NextIDs(ctx, o.l.Tenant, bankfeed.KindConsent, 1)
			if err != nil {
				return err
			}
			run.Consent, run.Deadline = bankfeed.ConsentID(id), now.Add(o.s.ChallengeTimeout)
			direct = append(direct, ch.Mode)
		} else {
			token := pages.NewSecret()
			sealed, err := stash{ch.Login, ch.Password, o.l.ConsentExternalID}.encode()
			if err != nil {
				return err
			}
			o.steps[i].RedirectURL = o.s.PublicURL + "/link/" + token
			c.Links = append(c.Links, bankfeed.Link{Token: pages.HashOf(token), User: st.User.ID, Connection: st.Connection.ID, Session: n.ID, Mode: ch.Mode,
				RedirectURL: o.l.RedirectURL, Credentials: sealed, CreatedAt: now, ExpiresAt: run.Deadline})
		}
		n.Runs = append(n.Runs, run)
	}
	st.Session, c.NewSession = n, n
	st.Connection.Status = bankfeed.DeriveStatus(st.Connection.Channels)
	for _, t := range events {
		c.Events = append(c.Events, o.scribe.Draft(t, now, st, nil))
	}
	for _, m := range direct {
		c.Events = append(c.Events, o.scribe.Draft(bankfeed.EventAuthStarted, now, st, func(s *bankfeed.Snapshot) { s.Channel = m }))
	}
	w := sessionWork(o.l.Tenant, st, n.Runs[0].Deadline)
	for _, r := range n.Runs {
		if r.Deadline.Before(w.ReadyAt) {
			w.ReadyAt = r.Deadline
		}
	}
	c.Ready = append(c.Ready, w)
	return nil
}

// checkOffer refuses what the bank does not offer to this user.
func (o *opening) checkOffer(p *connector.Profile, context bankfeed.BusinessContext) error {
	if len(p.Provider.Contexts) > 0 && !slices.Contains(p.Provider.Contexts, context) {
		return bankfeed.InvalidField("provider_id", "the bank does not serve %s users", context)
	}
	for _, c := range o.l.Channels {
		if _, ok := p.Provider.Channel(c.Mode); !ok {
			return bankfeed.InvalidField("channels", "the bank does not offer this channel")
		}
		if _, ok := p.Endpoint(c.Mode, context); !ok {
			return bankfeed.InvalidField("channels", "the bank does not offer this channel to %s users", context)
		}
	}
	return nil
}

// sessionWork puts a session up for the session engine at a time: to go on, or
// to end a wait.
func sessionWork(tenant bankfeed.TenantID, st *bankfeed.ConnectionState, at time.Time) bankfeed.WorkItem {
	return bankfeed.WorkItem{Tenant: tenant, Kind: bankfeed.WorkSession, ID: int64(st.Session.ID), Group: st.Connection.ProviderID, Attended: true, ReadyAt: at}
}
