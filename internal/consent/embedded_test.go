package consent_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/connector"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
)

// embed links an EMBEDDED channel over the API.
func (w *world) embed(login string) bankfeed.Linked {
	w.t.Helper()
	in := w.linking(credentials(login))
	in.PSU = psu
	return w.link(in)
}

func (w *world) answer(l bankfeed.Linked, fill func(*bankfeed.Answer)) (bankfeed.LinkStep, error) {
	a := bankfeed.Answer{Tenant: w.tenant, User: w.user.ID, Connection: l.Connection.ID}
	fill(&a)
	return w.consent.Answer(w.t.Context(), a)
}

func (w *world) code(l bankfeed.Linked, code string) error {
	_, err := w.answer(l, func(a *bankfeed.Answer) { a.Code = bankfeed.Secret(code) })
	return err
}

func TestACodeOverTheAPI(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newWorld(t, s)
		l := w.embed("fine")
		require.Empty(t, l.Steps[0].RedirectURL)
		require.Equal(t, bankfeed.ChallengeCode, l.Steps[0].Challenge.Kind)
		require.Equal(t, bankfeed.ChannelRunning, l.Connection.Channel(bankfeed.Embedded).Status)
		require.Equal(t, []string{"connection.created", "sync.started", "channel.auth_started", "channel.action_required CHALLENGE_REQUIRED"}, w.told())

		err := w.code(l, "000000")
		var wrong *bankfeed.Error
		require.ErrorAs(t, err, &wrong)
		require.Equal(t, bankfeed.Invalid, wrong.Kind)
		require.Equal(t, "code", wrong.Field)
		require.Equal(t, l.Steps[0].Challenge, w.channel(l.Connection.ID, bankfeed.Embedded).Challenge, "it can be answered again")
		require.Empty(t, w.told(), "and is no new question")

		require.NoError(t, w.code(l, "123456"))
		require.Equal(t, []string{"channel.auth_succeeded"}, w.told())
		require.Equal(t, bankfeed.Conflict, bankfeed.ErrorKindOf(w.code(l, "123456")), "an answer that nobody waits for")
		w.work()
		require.Equal(t, bankfeed.SessionFinished, w.session(l.Session.ID).Status)
		st := w.state(l.Connection.ID)
		require.Len(t, st.Accounts, 4)
		require.Equal(t, bankfeed.Conflict, bankfeed.ErrorKindOf(w.code(l, "123456")))
	})
}

func TestTooManyWrongCodes(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	l := w.embed("fine")
	w.events()
	for range 3 {
		require.Equal(t, bankfeed.Invalid, bankfeed.ErrorKindOf(w.code(l, "000000")))
	}
	require.Equal(t, []string{"channel.action_required AUTH_FAILED"}, w.told())
	require.Equal(t, bankfeed.Conflict, bankfeed.ErrorKindOf(w.code(l, "123456")))
	w.work()
	require.Equal(t, []string{"sync.failed"}, w.told())
	st := w.state(l.Connection.ID)
	require.Equal(t, bankfeed.FailChallengeWrong, st.Connection.Channel(bankfeed.Embedded).Failure.Reason)
	require.Equal(t, bankfeed.ConsentRejected, st.Consents[0].Status)
}

// The bank's own deadline, and the hub's.
func TestALateCode(t *testing.T) {
	t.Run("at the bank", func(t *testing.T) {
		w := newWorld(t, storetest.SQLite(t))
		l := w.embed("late-code")
		require.Error(t, w.code(l, "123456"))
		require.Equal(t, bankfeed.ChannelAuthFailed, w.channel(l.Connection.ID, bankfeed.Embedded).Status)
	})
	t.Run("at the hub", func(t *testing.T) {
		w := newWorld(t, storetest.SQLite(t))
		l := w.embed("fine")
		w.advance(5 * time.Minute)
		w.events()
		require.Equal(t, bankfeed.Conflict, bankfeed.ErrorKindOf(w.code(l, "123456")))
		require.Empty(t, w.events())
		w.work()
		require.Equal(t, []string{"channel.action_required CHALLENGE_REQUIRED", "sync.failed"}, w.told())
		require.Equal(t, bankfeed.ChannelChallengeRequired, w.channel(l.Connection.ID, bankfeed.Embedded).Status)
	})
}

func TestAMethodIsChosen(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	l := w.embed("methods")
	require.Equal(t, bankfeed.ChallengeMethodChoice, l.Steps[0].Challenge.Kind)
	require.Len(t, l.Steps[0].Challenge.Methods, 3)
	w.events()
	_, err := w.answer(l, func(a *bankfeed.Answer) { a.MethodID = "pigeon" })
	require.Equal(t, bankfeed.Invalid, bankfeed.ErrorKindOf(err))
	_, err = w.answer(l, func(a *bankfeed.Answer) { a.Code = "123456" })
	require.Equal(t, bankfeed.Invalid, bankfeed.ErrorKindOf(err), "not what was asked")
	require.Empty(t, w.events(), "the bank was not bothered")
	step, err := w.answer(l, func(a *bankfeed.Answer) { a.MethodID = "photo" })
	require.NoError(t, err)
	require.Equal(t, bankfeed.ChallengeCode, step.Challenge.Kind)
	require.Equal(t, []string{"channel.action_required CHALLENGE_REQUIRED"}, w.told())
	require.NoError(t, w.code(l, "123456"))
	w.work()
	require.Equal(t, bankfeed.SessionFinished, w.session(l.Session.ID).Status)
}

func TestTheBankRefusesTheLogin(t *testing.T) {
	for login, want := range map[string]struct {
		status bankfeed.ChannelStatus
		action bankfeed.Action
		reason bankfeed.FailureReason
	}{
		"wrong-password":  {bankfeed.ChannelAuthFailed, bankfeed.ActionCredentials, bankfeed.FailCredentials},
		"password-change": {bankfeed.ChannelPasswordChangeRequired, bankfeed.ActionBankSite, bankfeed.FailPassword},
		"user-action":     {bankfeed.ChannelUserActionRequired, bankfeed.ActionBankSite, bankfeed.FailUserAction},
	} {
		t.Run(login, func(t *testing.T) {
			w := newWorld(t, storetest.SQLite(t))
			l := w.embed(login)
			ch := l.Connection.Channel(bankfeed.Embedded)
			require.Equal(t, want.status, ch.Status)
			require.Equal(t, want.action, ch.Action)
			require.Equal(t, want.reason, ch.Failure.Reason)
			require.Equal(t, bankfeed.ConnectionFailed, l.Connection.Status)
			require.Nil(t, l.Steps[0].Challenge)
			w.work()
			told := w.told()
			require.Equal(t, []string{"channel.action_required " + string(want.status), "sync.failed"}, told[len(told)-2:])
		})
	}
}

func TestTheBankIsDownWhenLinking(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	w.event(`{"event":"bank_down"}`)
	l := w.embed("fine")
	ch := l.Connection.Channel(bankfeed.Embedded)
	require.Equal(t, bankfeed.ChannelUnavailable, ch.Status)
	require.Equal(t, bankfeed.ActionCredentials, ch.Action, "there is nothing yet that could be tried again without the user")
	w.work()
	told := w.told()
	require.Equal(t, "sync.failed", told[len(told)-1])

	// The user of a page is there to try again.
	l = w.link(w.linking(redirect))
	a := w.get(l.Steps[0].RedirectURL)
	require.Equal(t, http.StatusServiceUnavailable, a.StatusCode)
	require.Contains(t, a.body, "Try again")
	w.event(`{"event":"bank_up"}`)
	w.confirm(l, "fine")
	w.work()
	require.Equal(t, bankfeed.SessionFinished, w.session(l.Session.ID).Status)
}

func TestCredentialsOnThePage(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newWorld(t, s)
		l := w.link(w.linking(embedded))
		page := l.Steps[0].RedirectURL
		a := w.get(page)
		require.Equal(t, http.StatusOK, a.StatusCode)
		require.Contains(t, a.body, "Customer number")
		require.Contains(t, a.body, "PIN")
		w.events()

		// A form of another browser, or none of ours.
		fields := form(a.body, "action", "answer", "login", "methods", "password", "sandbox")
		mine := w.browser
		w.browser = newBrowser(t)
		require.Equal(t, http.StatusForbidden, w.do(http.MethodPost, page, fields).StatusCode)
		w.get(page)
		require.Equal(t, http.StatusForbidden, w.do(http.MethodPost, page, fields).StatusCode)
		w.browser = mine
		require.Empty(t, w.events())

		require.Equal(t, page, w.sent(w.do(http.MethodPost, page, fields)))
		require.Equal(t, []string{"channel.auth_started", "channel.action_required CHALLENGE_REQUIRED"}, w.told())
		require.Equal(t, page, w.sent(w.do(http.MethodPost, page, fields)), "the form sent twice")
		require.Empty(t, w.events(), "is passed on once")

		a = w.get(page)
		require.Contains(t, a.body, "Photo TAN reader")
		require.Equal(t, page, w.sent(w.do(http.MethodPost, page, form(a.body, "action", "answer", "method", "sms"))))
		a = w.get(page)
		wrong := w.do(http.MethodPost, page, form(a.body, "action", "answer", "code", "000000"))
		require.Equal(t, http.StatusUnprocessableEntity, wrong.StatusCode)
		require.Contains(t, wrong.body, "did not accept")
		done := w.sent(w.do(http.MethodPost, page, form(wrong.body, "action", "answer", "code", "123456")))
		require.Contains(t, done, "https://client.example/done?")
		require.Contains(t, done, "result=success")
		w.work()
		require.Equal(t, bankfeed.SessionFinished, w.session(l.Session.ID).Status)
		require.Equal(t, http.StatusGone, w.get(page).StatusCode)
	})
}

// Credentials that came without the PSU's address wait, sealed, for its
// browser, and not for long.
func TestCredentialsWaitForTheBrowser(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		w := newWorld(t, s)
		l := w.link(w.linking(credentials("fine")))
		a := w.get(l.Steps[0].RedirectURL)
		require.Contains(t, a.body, `name="code"`)
		require.Equal(t, "127.0.0.1", w.state(l.Connection.ID).Session.PSU.IP)
		// The client may ask for the code as well.
		require.NoError(t, w.code(l, "123456"))
		require.Equal(t, http.StatusGone, w.get(l.Steps[0].RedirectURL).StatusCode)

		late := w.link(w.linking(credentials("fine")))
		w.advance(10 * time.Minute)
		require.Equal(t, http.StatusGone, w.get(late.Steps[0].RedirectURL).StatusCode)
		w.work()
		require.Equal(t, bankfeed.SessionFailed, w.session(late.Session.ID).Status)
	})
}

func TestAWrongPasswordOnThePage(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	l := w.link(w.linking(credentials("wrong-password")))
	require.Contains(t, w.sent(w.get(l.Steps[0].RedirectURL)), "result=failed")
	w.work()
	require.Equal(t, bankfeed.ChannelAuthFailed, w.channel(l.Connection.ID, bankfeed.Embedded).Status)
}

func TestGivingUpOnThePage(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	l := w.link(w.linking(credentials("fine")))
	page := l.Steps[0].RedirectURL
	a := w.get(page)
	require.Contains(t, w.sent(w.do(http.MethodPost, page, form(a.body, "action", "cancel"))), "result=refused")
	w.work()
	require.Equal(t, bankfeed.SessionFailed, w.session(l.Session.ID).Status)
	require.Equal(t, bankfeed.ConsentRejected, w.state(l.Connection.ID).Consents[0].Status)
}

// scripted is a bank that does as its test says.
type scripted struct {
	connector.Connector // what is not scripted is not called
	create              func(connector.Access, connector.ConsentRequest) (connector.ConsentStep, error)
	proceed             func(connector.Access, connector.Input) (connector.ConsentStep, error)
	status              func(connector.Access) (connector.ConsentInfo, error)
	remove              func(connector.Access) error
}

func (b *scripted) CreateConsent(_ context.Context, a connector.Access, r connector.ConsentRequest) (connector.ConsentStep, error) {
	return b.create(a, r)
}

func (b *scripted) Continue(_ context.Context, a connector.Access, in connector.Input) (connector.ConsentStep, error) {
	return b.proceed(a, in)
}

func (b *scripted) ConsentStatus(_ context.Context, a connector.Access) (connector.ConsentInfo, error) {
	return b.status(a)
}

func (b *scripted) DeleteConsent(_ context.Context, a connector.Access) error { return b.remove(a) }

// asksForCode is a bank that wants a code.
func asksForCode() *scripted {
	grant := bankfeed.Grant{ConsentID: "c", State: "s"}
	return &scripted{
		create: func(connector.Access, connector.ConsentRequest) (connector.ConsentStep, error) {
			return connector.ConsentStep{Grant: grant, Challenge: &bankfeed.Challenge{Kind: bankfeed.ChallengeCode}}, nil
		},
		proceed: func(connector.Access, connector.Input) (connector.ConsentStep, error) {
			return connector.ConsentStep{Grant: grant, Done: true}, nil
		},
		status: func(connector.Access) (connector.ConsentInfo, error) {
			return connector.ConsentInfo{State: connector.ConsentValid}, nil
		},
		remove: func(connector.Access) error { return nil },
	}
}

func TestOfTwoAnswersOneIsPassedOn(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		bank := asksForCode()
		called, release := make(chan struct{}, 10), make(chan struct{})
		inner := bank.proceed
		bank.proceed = func(a connector.Access, in connector.Input) (connector.ConsentStep, error) {
			called <- struct{}{}
			<-release
			return inner(a, in)
		}
		w := newWorld(t, s, bank)
		l := w.embed("x")
		var group sync.WaitGroup
		errs := make(chan error, 8)
		for range 8 {
			group.Go(func() { errs <- w.code(l, "1") })
		}
		for range 7 {
			require.Equal(t, bankfeed.Conflict, bankfeed.ErrorKindOf(<-errs))
		}
		close(release)
		group.Wait()
		require.NoError(t, <-errs)
		require.Len(t, called, 1)
		require.Equal(t, bankfeed.ConsentConfirmed, w.state(l.Connection.ID).Consents[0].Status)
	})
}

// The wait ends while the bank is being asked: what the bank grants then is
// given back.
func TestAGrantThatComesTooLate(t *testing.T) {
	bank := asksForCode()
	w := newWorld(t, storetest.SQLite(t), bank)
	l := w.embed("x")
	inner, removed := bank.proceed, 0
	bank.proceed = func(a connector.Access, in connector.Input) (connector.ConsentStep, error) {
		w.advance(10 * time.Minute)
		w.work()
		return inner(a, in)
	}
	bank.remove = func(a connector.Access) error {
		require.Equal(t, bankfeed.Secret("c"), a.Grant.ConsentID)
		removed++
		return nil
	}
	require.Equal(t, bankfeed.Conflict, bankfeed.ErrorKindOf(w.code(l, "1")))
	require.Equal(t, 1, removed)
	st := w.state(l.Connection.ID)
	require.Equal(t, bankfeed.ConsentRejected, st.Consents[0].Status)
	require.Equal(t, bankfeed.SessionFailed, w.session(l.Session.ID).Status)
}

// A bank that falls silent over a code leaves the question open; its consent
// tells whether the code arrived.
func TestTheBankFallsSilent(t *testing.T) {
	bank := asksForCode()
	silent := &connector.Error{Reason: bankfeed.FailUnavailable}
	inner := bank.status
	bank.proceed = func(connector.Access, connector.Input) (connector.ConsentStep, error) {
		return connector.ConsentStep{}, silent
	}
	bank.status = func(connector.Access) (connector.ConsentInfo, error) { return connector.ConsentInfo{}, silent }
	w := newWorld(t, storetest.SQLite(t), bank)
	l := w.embed("x")
	require.Equal(t, bankfeed.Unavailable, bankfeed.ErrorKindOf(w.code(l, "1")))
	require.NotNil(t, w.channel(l.Connection.ID, bankfeed.Embedded).Challenge)
	bank.status = inner
	require.NoError(t, w.code(l, "1"))
}

// A bank in whose app the PSU confirms.
func TestConfirmationInTheBanksApp(t *testing.T) {
	bank := asksForCode()
	app := connector.ConsentStep{Grant: bankfeed.Grant{ConsentID: "c", State: "s"}, Challenge: &bankfeed.Challenge{Kind: bankfeed.ChallengeApp, Text: "Open the <app>"}}
	bank.create = func(connector.Access, connector.ConsentRequest) (connector.ConsentStep, error) { return app, nil }
	done := bank.proceed
	polls := 0
	bank.proceed = func(a connector.Access, in connector.Input) (connector.ConsentStep, error) {
		require.Zero(t, in)
		if polls++; polls < 3 {
			return app, nil
		}
		return done(a, in)
	}
	w := newWorld(t, storetest.SQLite(t), bank)
	l := w.link(w.linking(credentials("x")))
	for range 3 {
		a := w.get(l.Steps[0].RedirectURL)
		require.Equal(t, http.StatusOK, a.StatusCode)
		require.Contains(t, a.body, `http-equiv="refresh"`)
		require.Contains(t, a.body, "Open the &lt;app&gt;")
	}
	require.Contains(t, w.sent(w.get(l.Steps[0].RedirectURL)), "result=success")
	required := 0
	for _, name := range w.told() {
		if strings.HasSuffix(name, "CHALLENGE_REQUIRED") {
			required++
		}
	}
	require.Equal(t, 1, required)
}

// Banks that make no sense end with a clear failure and leave nothing half done.
func TestNonsense(t *testing.T) {
	for name, change := range map[string]func(*scripted){
		"creating": func(b *scripted) {
			b.create = func(connector.Access, connector.ConsentRequest) (connector.ConsentStep, error) {
				return connector.ConsentStep{}, &connector.Error{Reason: bankfeed.FailProtocol}
			}
		},
		"creating, with a consent left behind": func(b *scripted) {
			b.create = func(connector.Access, connector.ConsentRequest) (connector.ConsentStep, error) {
				return connector.ConsentStep{Grant: bankfeed.Grant{ConsentID: "left"}}, &connector.Error{Reason: bankfeed.FailProtocol}
			}
		},
		"an answer that leads nowhere": func(b *scripted) {
			b.create = func(connector.Access, connector.ConsentRequest) (connector.ConsentStep, error) {
				return connector.ConsentStep{Grant: bankfeed.Grant{ConsentID: "c"}}, nil
			}
		},
		"a consent without a name": func(b *scripted) {
			b.create = func(connector.Access, connector.ConsentRequest) (connector.ConsentStep, error) {
				return connector.ConsentStep{Done: true}, nil
			}
		},
		"the status": func(b *scripted) {
			b.create = func(connector.Access, connector.ConsentRequest) (connector.ConsentStep, error) {
				return connector.ConsentStep{Grant: bankfeed.Grant{ConsentID: "c"}, Done: true}, nil
			}
			b.status = func(connector.Access) (connector.ConsentInfo, error) {
				return connector.ConsentInfo{}, &connector.Error{Reason: bankfeed.FailProtocol}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			bank := asksForCode()
			change(bank)
			for _, mode := range []bankfeed.LinkChannel{redirect, credentials("x")} {
				w := newWorld(t, storetest.SQLite(t), bank)
				l := w.link(w.linking(mode))
				require.Contains(t, w.sent(w.get(l.Steps[0].RedirectURL)), "result=failed")
				st := w.state(l.Connection.ID)
				ch := st.Connection.Channel(mode.Mode)
				require.Equal(t, bankfeed.FailProtocol, ch.Failure.Reason)
				require.NotEmpty(t, ch.Action)
				for _, k := range st.Consents {
					require.Equal(t, bankfeed.ConsentRejected, k.Status)
				}
				w.work()
				require.Equal(t, bankfeed.SessionFailed, w.session(l.Session.ID).Status)
			}
		})
	}
}
