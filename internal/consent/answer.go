package consent

import (
	"context"
	"slices"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/connector"
)

// Answer passes a PSU's answer to the bank and returns what the channel needs
// next; with neither challenge nor URL it is on its way. A refusal that leaves
// another try is Invalid and names the field; when the bank has ended the
// authorisation the channel has failed, and the answer is an error too. An
// answer that nobody waits for (any more) is a Conflict.
func (s *Service) Answer(ctx context.Context, in bankfeed.Answer) (bankfeed.LinkStep, error) {
	st, err := s.Store.ConnectionState(ctx, in.Tenant, in.User, in.Connection)
	if err != nil {
		return bankfeed.LinkStep{}, err
	}
	mode, err := challenged(&st, in.Mode)
	if err != nil {
		return bankfeed.LinkStep{}, err
	}
	if in.PSU == nil {
		in.PSU = st.Session.PSU
	}
	if in.PSU == nil {
		return bankfeed.LinkStep{}, bankfeed.InvalidField("PSU-IP-Address", "the bank needs the PSU's address")
	}
	a := s.attempt(in.Tenant, st.Session.ID, mode, in.PSU)
	a.patient = true
	v, err := a.respond(ctx, fits(in.Login, in.Password, in.MethodID, in.Code),
		connector.Input{PSUID: in.Login, Password: in.Password, MethodID: in.MethodID, Code: in.Code})
	if err != nil {
		return bankfeed.LinkStep{}, err
	}
	if v.failure != nil {
		return bankfeed.LinkStep{}, refusal(v)
	}
	return bankfeed.LinkStep{Mode: mode, RedirectURL: v.redirect, Challenge: v.challenge}, nil
}

// challenged finds the channel that an answer is meant for.
func challenged(st *bankfeed.ConnectionState, m bankfeed.Mode) (bankfeed.Mode, error) {
	if st.Session == nil {
		return "", errNobodyWaits
	}
	if m != "" {
		return m, nil
	}
	for _, ch := range st.Connection.Channels {
		if ch.Challenge == nil {
			continue
		}
		if m != "" {
			return "", bankfeed.InvalidField("mode", "more than one channel has a challenge: say which")
		}
		m = ch.Mode
	}
	if m == "" {
		return "", errNobodyWaits
	}
	return m, nil
}

// fits checks an answer against the challenge before the bank is bothered with
// it.
func fits(login, password bankfeed.Secret, method string, code bankfeed.Secret) func(*bankfeed.Challenge) error {
	return func(q *bankfeed.Challenge) error {
		switch q.Kind {
		case bankfeed.ChallengeCredentials:
			if login == "" && password == "" {
				return bankfeed.InvalidField("credentials", "the bank asks for login and password")
			}
		case bankfeed.ChallengeMethodChoice:
			if !slices.ContainsFunc(q.Methods, func(m bankfeed.ChallengeMethod) bool { return m.ID == method }) {
				return bankfeed.InvalidField("method_id", "must be one of the methods offered")
			}
		case bankfeed.ChallengeCode:
			if code == "" {
				return bankfeed.InvalidField("code", "the bank asks for a code")
			}
		case bankfeed.ChallengeApp:
		case bankfeed.ChallengeRedirect:
			return errNobodyWaits
		}
		return nil
	}
}

// refusal is the bank's no as an error for the API.
func refusal(v verdict) error {
	f := v.failure
	switch {
	case v.again && f.Reason == bankfeed.FailRateLimited:
		return &bankfeed.Error{Kind: bankfeed.RateLimited, Text: "the bank asks for patience; the challenge can still be answered", RetryAfter: retrySoon}
	case v.again && busy(f.Reason):
		return &bankfeed.Error{Kind: bankfeed.Unavailable, Text: "the bank does not answer; the challenge can still be answered", RetryAfter: retrySoon}
	case v.again && v.challenge != nil && v.challenge.Kind == bankfeed.ChallengeMethodChoice:
		return bankfeed.InvalidField("method_id", "the bank does not accept the method; another may be chosen")
	case v.again:
		return bankfeed.InvalidField("code", "the bank does not accept the code; it may be given again")
	case f.Reason == bankfeed.FailChallengeWrong:
		return bankfeed.InvalidField("code", "the bank does not accept the code and has ended the authorisation")
	case f.Reason == bankfeed.FailCredentials:
		return bankfeed.InvalidField("credentials", "the bank does not accept the credentials")
	case f.Reason == bankfeed.FailUnavailable:
		return bankfeed.Errorf(bankfeed.Unavailable, "the bank does not answer")
	}
	return bankfeed.Errorf(bankfeed.Conflict, "the bank ended the authorisation: %s", f.Reason)
}
