package config

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bankfeed/bankfeed"
)

// Bank describes a bank in the configuration file: what makes a connector's
// profile. Numbers left out get the connector's defaults.
type Bank struct {
	ID              string    `yaml:"id"` // digits; channel ids are made of it
	Name            string    `yaml:"name"`
	BIC             string    `yaml:"bic"`
	Country         string    `yaml:"country"` // ISO 3166-1 alpha-2
	LogoURL         string    `yaml:"logo_url"`
	Standard        string    `yaml:"standard"` // the connector; berlin-group if left out
	Sandbox         bool      `yaml:"sandbox"`
	Channels        []Channel `yaml:"channels"`
	HistoryDays     int       `yaml:"history_days"`
	RecentDays      int       `yaml:"recent_days"`
	OverlapDays     int       `yaml:"overlap_days"`
	ConsentDays     int       `yaml:"consent_days"`
	FrequencyPerDay int       `yaml:"frequency_per_day"`
	MaxConcurrent   int       `yaml:"max_concurrent"`
	DistrustIDs     bool      `yaml:"distrust_ids"`
	BookedOnly      bool      `yaml:"booked_only"`
	// What to do about IBANs that the account list masks: unmask or keep.
	MaskedIBAN string `yaml:"masked_iban"`
	// Words in the product's name that make an account a business account.
	BusinessProducts []string    `yaml:"business_products"`
	PageSize         int         `yaml:"page_size"`
	Timeout          string      `yaml:"timeout"` // of one HTTP exchange, as in 30s
	Errors           []ErrorRule `yaml:"errors"`

	timeout time.Duration
}

// Channel is one way to reach the bank.
type Channel struct {
	Mode         string       `yaml:"mode"` // redirect or embedded
	AccountTypes []string     `yaml:"account_types"`
	Credentials  []Credential `yaml:"credentials"` // of embedded
	Endpoints    []Endpoint   `yaml:"endpoints"`
}

// Credential is one input of a login form.
type Credential struct {
	Key    string `yaml:"key"` // login or password
	Label  string `yaml:"label"`
	Secret bool   `yaml:"secret"`
}

// Endpoint is a base URL, for one business context or for both.
type Endpoint struct {
	URL     string `yaml:"url"`
	Context string `yaml:"context"` // individual, business; empty serves both
}

// ErrorRule reads an answer of the bank; parts left out match anything.
type ErrorRule struct {
	Status   int    `yaml:"status"`
	Code     string `yaml:"code"`
	Contains string `yaml:"contains"`
	Reason   string `yaml:"reason"`
}

// DefaultStandard is the connector of a bank that names none.
const DefaultStandard = "berlin-group"

// Reasons are what an error rule may say.
var Reasons = []bankfeed.FailureReason{
	bankfeed.FailCredentials, bankfeed.FailPassword, bankfeed.FailUserAction, bankfeed.FailChallengeWrong, bankfeed.FailRefused,
	bankfeed.FailConsentExpired, bankfeed.FailConsentRevoked, bankfeed.FailConsentInvalid, bankfeed.FailTokenExpired,
	bankfeed.FailRateLimited, bankfeed.FailUnavailable, bankfeed.FailAccount, bankfeed.FailOperator,
}

var accountTypes = []bankfeed.AccountType{bankfeed.AccountCurrent, bankfeed.AccountSavings, bankfeed.AccountCard, bankfeed.AccountLoan}

// ModeOf is the mode that a channel names.
func (c Channel) ModeOf() bankfeed.Mode { return bankfeed.Mode(strings.ToUpper(c.Mode)) }

// ExchangeTimeout bounds one HTTP exchange; 0 if the bank names none.
func (b Bank) ExchangeTimeout() time.Duration { return b.timeout }

// check looks at the words; whether they make a profile is the registry's
// business (connector.NewRegistry).
func (b *Bank) check() []error {
	var bad []error
	fail := func(format string, args ...any) { bad = append(bad, fmt.Errorf(format, args...)) }
	if b.Standard == "" {
		b.Standard = DefaultStandard
	}
	if b.Timeout != "" {
		var err error
		if b.timeout, err = time.ParseDuration(b.Timeout); err != nil || b.timeout <= 0 {
			fail("timeout: must be a duration such as 30s")
		}
	}
	for _, n := range []struct {
		name  string
		value int
	}{{"history_days", b.HistoryDays}, {"recent_days", b.RecentDays}, {"overlap_days", b.OverlapDays}, {"consent_days", b.ConsentDays},
		{"frequency_per_day", b.FrequencyPerDay}, {"max_concurrent", b.MaxConcurrent}, {"page_size", b.PageSize}} {
		if n.value < 0 {
			fail("%s: must not be negative", n.name)
		}
	}
	if b.MaskedIBAN != "" && b.MaskedIBAN != "unmask" && b.MaskedIBAN != "keep" {
		fail("masked_iban: must be unmask or keep")
	}
	for i, w := range b.BusinessProducts {
		if strings.TrimSpace(w) == "" {
			fail("business_products[%d]: must not be empty", i)
		}
	}
	modes := map[bankfeed.Mode]bool{}
	for i, c := range b.Channels {
		m := c.ModeOf()
		if m != bankfeed.Redirect && m != bankfeed.Embedded {
			fail("channels[%d].mode: must be redirect or embedded", i)
		}
		if modes[m] {
			fail("channels[%d].mode: a bank has one channel of a mode", i)
		}
		modes[m] = true
		for _, t := range c.AccountTypes {
			if !slices.Contains(accountTypes, bankfeed.AccountType(t)) {
				fail("channels[%d].account_types: must be current, savings, card or loan", i)
			}
		}
		for _, k := range c.Credentials {
			if k.Key != "login" && k.Key != "password" {
				fail("channels[%d].credentials: the keys are login and password", i)
			}
		}
		for _, e := range c.Endpoints {
			if e.Context != "" && e.Context != string(bankfeed.Individual) && e.Context != string(bankfeed.Business) {
				fail("channels[%d].endpoints: the context must be individual or business", i)
			}
		}
	}
	for i, r := range b.Errors {
		if !slices.Contains(Reasons, bankfeed.FailureReason(r.Reason)) {
			fail("errors[%d].reason: must be one of %v", i, Reasons)
		}
		if r.Status == 0 && r.Code == "" && r.Contains == "" {
			fail("errors[%d]: names neither status nor code nor text, and so matches everything", i)
		}
	}
	return bad
}
