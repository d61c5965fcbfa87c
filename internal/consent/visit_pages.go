package consent

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/bankfeed/bankfeed"
)

func sorry(f *bankfeed.Failure) string {
	switch {
	case f == nil:
		return ""
	case busy(f.Reason):
		return "Your bank does not answer at the moment. Please try again."
	}
	return "Your bank did not accept that. Please try again."
}

// excuse turns a lost race into a page; other errors stay errors.
func (v *visit) excuse(err error) (page, error) {
	switch {
	case errors.Is(err, errInProgress):
		return v.working(), nil
	case errors.Is(err, errNobodyWaits), errors.Is(err, errTooLate):
		return v.over(), nil
	}
	return page{}, err
}

// result sends the browser back to the client, or tells its user.
func (v *visit) result(r result) page {
	if v.link.RedirectURL != "" {
		return v.external(resultURL(v.link.RedirectURL, v.st.Connection.ID, r))
	}
	title, text := resultText(r)
	return v.message(http.StatusOK, title, text)
}

func resultText(r result) (title, text string) {
	switch r {
	case success:
		return "Access granted", "Your bank has confirmed the access. You can close this page."
	case refused:
		return "Access not granted", "The access was refused. Nothing is read from your accounts. You can close this page."
	case pending:
		return "Not confirmed yet", "Your bank has not confirmed the access yet. You can close this page."
	}
	return "That did not work", "Your bank did not grant the access. Please start again where you came from."
}

// resultURL adds how it ended to a client's URL. The client's own parameters
// stay as they were written, but for those of these names.
func resultURL(to string, id bankfeed.ConnectionID, r result) string {
	u, err := url.Parse(to)
	if err != nil {
		return to // checked when the link was made
	}
	var q []string
	for pair := range strings.SplitSeq(u.RawQuery, "&") {
		name, _, _ := strings.Cut(pair, "=")
		if name, err := url.QueryUnescape(name); pair == "" || err == nil && (name == "connection_id" || name == "result") {
			continue
		}
		q = append(q, pair)
	}
	q = append(q, "connection_id="+strconv.FormatInt(int64(id), 10), "result="+string(r))
	u.RawQuery = strings.Join(q, "&")
	return u.String()
}

// over says that the link has ended, and how.
func (v *visit) over() page {
	r, text := success, "This link was used already. Your bank has confirmed the access."
	ch, n := v.st.Connection.Channel(v.link.Mode), v.st.Session
	run := n.Run(v.link.Mode)
	switch {
	case ch != nil && ch.Failure != nil && (run == nil || run.Phase == bankfeed.PhaseDone):
		r, text = resultOf(ch.Failure), "This link has ended without access to your accounts."
	case run == nil || run.Phase == bankfeed.PhaseAuth || n.Status == bankfeed.SessionFailed:
		r, text = failed, "The time for this link is over. Please start again where you came from."
	}
	p := v.message(http.StatusGone, "This link has ended", text)
	if v.link.RedirectURL != "" {
		p.back = resultURL(v.link.RedirectURL, v.st.Connection.ID, r)
	}
	return p
}

// working asks for patience: another request is with the bank.
func (v *visit) working() page {
	p := v.message(http.StatusOK, "One moment", "Your bank is being asked. This page goes on by itself.")
	p.refresh, p.seconds = v.self(), 3
	return p
}

// ask shows a challenge.
func (v *visit) ask(q *bankfeed.Challenge, fault string) page {
	p := v.message(http.StatusOK, "Confirm the access", "")
	p.form, p.challenge, p.fault, p.step, p.cancel = q.Kind, q, fault, v.step(), true
	if fault != "" {
		p.status = http.StatusUnprocessableEntity
	}
	if q.Kind == bankfeed.ChallengeApp {
		p.refresh, p.seconds = v.self(), 5
	}
	if q.Kind == bankfeed.ChallengeCredentials {
		p.fields = v.fields()
		if v.link.Mode == bankfeed.Redirect {
			p.fields[1] = "" // the password is for the bank's own page
		}
	}
	return p
}

// askCredentials shows the login form.
func (v *visit) askCredentials(fault string) page {
	p := v.ask(&bankfeed.Challenge{Kind: bankfeed.ChallengeCredentials}, fault)
	p.title = "Log in to your bank"
	return p
}

// fields labels the login form as the bank's users know it.
func (v *visit) fields() (labels [2]string) {
	labels = [2]string{"Login", "Password"}
	p, err := v.s.Banks.Provider(v.st.Connection.ProviderID, v.st.Connection.Sandbox)
	if err != nil {
		return labels
	}
	d, _ := p.Channel(v.link.Mode)
	for _, f := range d.Credentials {
		if f.Secret {
			labels[1] = f.Label
		} else {
			labels[0] = f.Label
		}
	}
	return labels
}

func (v *visit) message(status int, title, text string) page {
	return page{status: status, title: title, text: text, bank: v.st.Connection.ProviderName, formTargets: v.formTargets()}
}

// formTargets is where the answer to a form may lead the browser: browsers hold
// redirects against the page's form-action too. The bank's own page is known to
// the bank alone.
func (v *visit) formTargets() string {
	if v.link.Mode == bankfeed.Redirect {
		return "https: http:"
	}
	u, err := url.Parse(v.link.RedirectURL)
	if err != nil || u.Host == "" {
		return ""
	}
	return strings.ToLower(u.Scheme) + "://" + u.Host
}

func (v *visit) external(to string) page { return page{location: to} }
