package connector

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/bankfeed/bankfeed"
)

// Registry knows every bank and the connector that speaks to it. It does not
// change after New.
type Registry struct {
	profiles   map[string]*Profile
	order      []string
	connectors map[string]Connector
}

// Defaults of a profile, by law or by the habits of banks.
const (
	defaultRecentDays      = 90
	defaultHistoryDays     = 730
	defaultOverlapDays     = 7
	defaultConsentDays     = 180
	defaultFrequencyPerDay = 4
	defaultMaxConcurrent   = 8
	defaultTimeout         = 30 * time.Second
)

// NewRegistry checks all profiles and fills in what they leave out. It reports
// every fault at once.
func NewRegistry(connectors map[string]Connector, profiles ...Profile) (*Registry, error) {
	r := &Registry{profiles: map[string]*Profile{}, connectors: connectors}
	var errs []error
	for _, p := range profiles {
		if err := p.check(connectors); err != nil {
			errs = append(errs, fmt.Errorf("bank %q: %w", p.Provider.ID, err))
			continue
		}
		if r.profiles[p.Provider.ID] != nil {
			errs = append(errs, fmt.Errorf("bank %q: described twice", p.Provider.ID))
			continue
		}
		p.fill()
		r.profiles[p.Provider.ID] = &p
		r.order = append(r.order, p.Provider.ID)
	}
	return r, errors.Join(errs...)
}

func (p *Profile) check(connectors map[string]Connector) error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if _, ok := bankfeed.ParseNumber(p.Provider.ID); !ok {
		fail("the id must be a number: channel ids are made of it")
	}
	if p.Provider.Name == "" {
		fail("name is missing")
	}
	if connectors[p.Standard] == nil {
		fail("unknown standard %q", p.Standard)
	}
	switch _, details := connectors[p.Standard].(Details); {
	case p.MaskedIBAN != AsListed && p.MaskedIBAN != Unmask && p.MaskedIBAN != KeepMasked:
		fail("unknown treatment of masked IBANs %q", p.MaskedIBAN)
	case p.MaskedIBAN == Unmask && !details:
		fail("the standard %q cannot unmask IBANs: it reads no single account", p.Standard)
	}
	if slices.Contains(p.BusinessProducts, "") {
		fail("an empty word for business products fits them all")
	}
	if len(p.Provider.Channels) == 0 {
		fail("no channel")
	}
	for _, c := range p.Provider.Channels {
		if c.Mode != bankfeed.Redirect && c.Mode != bankfeed.Embedded {
			fail("unknown channel mode %q", c.Mode)
		}
		if !slices.ContainsFunc(p.Endpoints, func(e Endpoint) bool { return e.Mode == c.Mode }) {
			fail("channel %s has no endpoint", c.Mode)
		}
	}
	for _, e := range p.Endpoints {
		u, err := url.Parse(e.BaseURL)
		if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
			fail("the base URL of %s is not an absolute http(s) URL", e.Mode)
		} else if u.Scheme == "http" && !p.Provider.Sandbox {
			fail("the base URL of %s must be https", e.Mode)
		}
	}
	return errors.Join(errs...)
}

func (p *Profile) fill() {
	set := func(to *int, value int) {
		if *to == 0 {
			*to = value
		}
	}
	set(&p.RecentDays, defaultRecentDays)
	set(&p.HistoryDays, defaultHistoryDays)
	set(&p.OverlapDays, defaultOverlapDays)
	set(&p.ConsentDays, defaultConsentDays)
	set(&p.FrequencyPerDay, defaultFrequencyPerDay)
	set(&p.MaxConcurrent, defaultMaxConcurrent)
	if p.Timeout == 0 {
		p.Timeout = defaultTimeout
	}
	for i := range p.Endpoints {
		p.Endpoints[i].BaseURL = strings.TrimRight(p.Endpoints[i].BaseURL, "/")
	}
}

// Lookup finds a bank and its connector.
func (r *Registry) Lookup(providerID string) (*Profile, Connector, error) {
	p := r.profiles[providerID]
	if p == nil {
		return nil, nil, bankfeed.ErrNotFound
	}
	return p, r.connectors[p.Standard], nil
}

// Providers lists the banks that a client sees: a sandbox client the sandbox
// ones only, a live client all others.
func (r *Registry) Providers(sandbox bool) []bankfeed.Provider {
	list := []bankfeed.Provider{}
	for _, id := range r.order {
		if p := r.profiles[id]; p.Provider.Sandbox == sandbox {
			list = append(list, p.Provider)
		}
	}
	return list
}

// Provider finds a bank that a client sees.
func (r *Registry) Provider(id string, sandbox bool) (bankfeed.Provider, error) {
	p := r.profiles[id]
	if p == nil || p.Provider.Sandbox != sandbox {
		return bankfeed.Provider{}, bankfeed.ErrNotFound
	}
	return p.Provider, nil
}

// MaxConcurrent is how many sessions may run at a bank at once, over all nodes.
func (r *Registry) MaxConcurrent(providerID string) int {
	if p := r.profiles[providerID]; p != nil {
		return p.MaxConcurrent
	}
	return defaultMaxConcurrent
}
