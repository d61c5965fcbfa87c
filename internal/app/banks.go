package app

import (
	"log/slog"
	"net/http"
	"strings"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/config"
	"github.com/bankfeed/bankfeed/internal/connector"
	"github.com/bankfeed/bankfeed/internal/connector/berlingroup"
	"github.com/bankfeed/bankfeed/internal/sandbox"
)

// connectors are the standards that banks can be described with.
func connectors(client *http.Client, log *slog.Logger) map[string]connector.Connector {
	xs2a := berlingroup.New(client)
	xs2a.Logger = log
	return map[string]connector.Connector{
		config.DefaultStandard: xs2a,
	}
}

// profiles are the banks of the configuration, and the simulated ones where
// sandboxURL says.
func profiles(banks []config.Bank, sandboxURL string) []connector.Profile {
	var list []connector.Profile
	if sandboxURL != "" {
		list = append(list, sandboxProfiles(sandboxURL)...)
	}
	for _, b := range banks {
		list = append(list, profileOf(b))
	}
	return list
}

// CheckBanks reports every fault of the banks in a configuration.
func CheckBanks(c config.Config) error {
	sandboxURL := c.SandboxURL
	if c.Sandbox {
		sandboxURL = "http://127.0.0.1"
	}
	_, err := connector.NewRegistry(connectors(http.DefaultClient, slog.New(slog.DiscardHandler)), profiles(c.Banks, sandboxURL)...)
	return err
}

func profileOf(b config.Bank) connector.Profile {
	p := connector.Profile{
		Provider: bankfeed.Provider{ID: b.ID, Name: b.Name, BIC: b.BIC, Country: b.Country, LogoURL: b.LogoURL, Sandbox: b.Sandbox},
		Standard: b.Standard, HistoryDays: b.HistoryDays, RecentDays: b.RecentDays, OverlapDays: b.OverlapDays, ConsentDays: b.ConsentDays,
		FrequencyPerDay: b.FrequencyPerDay, MaxConcurrent: b.MaxConcurrent, DistrustIDs: b.DistrustIDs, BookedOnly: b.BookedOnly,
		MaskedIBAN: connector.MaskedIBAN(b.MaskedIBAN), BusinessProducts: b.BusinessProducts, PageSize: b.PageSize, Timeout: b.ExchangeTimeout(),
	}
	contexts := map[bankfeed.BusinessContext]bool{}
	for _, c := range b.Channels {
		d := bankfeed.ChannelDefinition{Mode: c.ModeOf()}
		for _, t := range c.AccountTypes {
			d.AccountTypes = append(d.AccountTypes, bankfeed.AccountType(t))
		}
		for _, k := range c.Credentials {
			d.Credentials = append(d.Credentials, bankfeed.CredentialField{Key: k.Key, Label: k.Label, Secret: k.Secret})
		}
		p.Provider.Channels = append(p.Provider.Channels, d)
		for _, e := range c.Endpoints {
			bc := bankfeed.BusinessContext(e.Context)
			contexts[bc] = true
			p.Endpoints = append(p.Endpoints, connector.Endpoint{Mode: d.Mode, BusinessContext: bc, BaseURL: e.URL})
		}
	}
	if !contexts[""] && len(contexts) == 1 {
		for bc := range contexts {
			p.Provider.Contexts = []bankfeed.BusinessContext{bc}
		}
	}
	for _, r := range b.Errors {
		p.Rules = append(p.Rules, connector.ErrorRule{Status: r.Status, Code: r.Code, Contains: r.Contains,
			Reason: bankfeed.FailureReason(r.Reason)})
	}
	return p
}

// sandboxProfiles describe the simulated banks (docs/sandbox.md).
func sandboxProfiles(baseURL string) []connector.Profile {
	base := strings.TrimRight(baseURL, "/")
	return []connector.Profile{
		sandboxProfile(base),
		maskingProfile(base, sandbox.UnmaskProviderID, sandbox.UnmaskProviderName, connector.Unmask, sandbox.UnmaskBase, sandbox.UnmaskBusiness),
		maskingProfile(base, sandbox.MaskedProviderID, sandbox.MaskedProviderName, connector.KeepMasked, sandbox.MaskedBase, sandbox.MaskedBusiness),
	}
}

// maskingProfile is the simulated bank as one whose account list masks IBANs.
func maskingProfile(base, id, name string, treatment connector.MaskedIBAN, individual, business string) connector.Profile {
	p := sandboxProfile(base)
	p.Provider.ID, p.Provider.Name, p.MaskedIBAN = id, name, treatment
	p.Provider.Channels = p.Provider.Channels[:1] // REDIRECT
	p.Endpoints = []connector.Endpoint{
		{Mode: bankfeed.Redirect, BusinessContext: bankfeed.Individual, BaseURL: base + individual},
		{Mode: bankfeed.Redirect, BusinessContext: bankfeed.Business, BaseURL: base + business},
	}
	return p
}

func sandboxProfile(base string) connector.Profile {
	return connector.Profile{
		Provider: bankfeed.Provider{
			ID: sandbox.ProviderID, Name: sandbox.ProviderName, BIC: sandbox.BIC, Country: sandbox.BIC[4:6], Sandbox: true,
			Channels: []bankfeed.ChannelDefinition{
				{Mode: bankfeed.Redirect, AccountTypes: []bankfeed.AccountType{bankfeed.AccountCurrent, bankfeed.AccountCard}},
				{Mode: bankfeed.Embedded,
					AccountTypes: []bankfeed.AccountType{bankfeed.AccountCurrent, bankfeed.AccountSavings, bankfeed.AccountCard, bankfeed.AccountLoan},
					Credentials: []bankfeed.CredentialField{{Key: "login", Label: "Login"},
						{Key: "password", Label: "Password", Secret: true}}},
			},
		},
		Standard: config.DefaultStandard,
		Endpoints: []connector.Endpoint{
			{Mode: bankfeed.Redirect, BusinessContext: bankfeed.Individual, BaseURL: base + sandbox.RedirectBase},
			{Mode: bankfeed.Redirect, BusinessContext: bankfeed.Business, BaseURL: base + sandbox.RedirectBusiness},
			{Mode: bankfeed.Embedded, BusinessContext: bankfeed.Individual, BaseURL: base + sandbox.EmbeddedBase},
			{Mode: bankfeed.Embedded, BusinessContext: bankfeed.Business, BaseURL: base + sandbox.EmbeddedBusiness},
		},
		MaxConcurrent: 32,
		PageSize:      500,
		Rules: []connector.ErrorRule{
			{Code: "PSU_CREDENTIALS_INVALID", Contains: "password has expired", Reason: bankfeed.FailPassword},
			{Code: "SERVICE_BLOCKED", Contains: "must accept new terms", Reason: bankfeed.FailUserAction},
		},
	}
}
