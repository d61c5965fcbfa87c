package oxlin

import (
	"slices"

	"github.com/bankfeed/bankfeed"
)

// ConnectionDetail is the full form that a GET answers.
type ConnectionDetail struct {
	ID                string           `json:"id"`
	ProviderID        string           `json:"provider_id"`
	Name              string           `json:"name"`
	Status            ConnectionStatus `json:"status"`
	CreationDate      Seconds          `json:"creation_date"`
	AutoSync          bool             `json:"auto_sync" doc:"Whether the hub synchronizes it every day by itself."`
	LogoURL           string           `json:"logo_url,omitempty"`
	ConsentPerAccount bool             `json:"consent_per_account" doc:"Always false: a consent covers the accounts that the user chose at the bank."`
	UserID            string           `json:"user_id"`
	Owner             *Owner           `json:"owner,omitempty"`
	Channels          []ChannelDetail  `json:"channels" nullable:"false"`
}

// Owner names the holder of an account or connection, as the bank tells it.
type Owner struct {
	Name string `json:"name"`
}

// ChannelDetail is a channel with its definition.
type ChannelDetail struct {
	Channel
	Mode                         bankfeed.Mode       `json:"mode" enum:"REDIRECT,EMBEDDED"`
	Credentials                  []CredentialSetting `json:"credentials" nullable:"false" doc:"Always empty: what a user typed is never shown again."`
	AccountTypes                 []AccountType       `json:"account_types" nullable:"false"`
	EligibleAccounts             *bool               `json:"eligible_accounts,omitempty" doc:"Of EMBEDDED: whether any account is read over this channel."`
	ChannelDefinitionUnavailable bool                `json:"channel_definition_unavailable" doc:"The provider no longer offers this channel."`

	RedirectURL string `json:"redirect_url,omitempty" doc:"Where the user must go now; in the answer to a request that links the channel. Extra."`
}

// CredentialSetting is a stored credential. The hub shows none.
type CredentialSetting struct {
	Key string `json:"key"`
}

// RenderConnectionDetail draws the full form. The provider adds what it
// defines beyond the state, and its channels that were never set up as EMPTY;
// the accounts, those of this connection, tell its owner.
func RenderConnectionDetail(c bankfeed.Connection, p bankfeed.Provider, accounts []bankfeed.Account) ConnectionDetail {
	w := ConnectionDetail{
		ID: id(c.ID), ProviderID: c.ProviderID, Name: c.ProviderName, Status: ConnectionStatus(c.Status), CreationDate: SecondsOf(c.CreatedAt),
		AutoSync: c.AutoSync, LogoURL: p.LogoURL, UserID: id(c.User), Channels: []ChannelDetail{},
	}
	if i := slices.IndexFunc(accounts, func(a bankfeed.Account) bool { return a.OwnerName != "" }); i >= 0 {
		w.Owner = &Owner{accounts[i].OwnerName}
	}
	for _, ch := range c.Channels {
		w.Channels = append(w.Channels, renderChannelDetail(c.ProviderID, ch, p, accounts))
	}
	for _, d := range p.Channels {
		if c.Channel(d.Mode) == nil && len(c.Channels) > 0 { // an imported connection has no channel at all
			empty := bankfeed.Channel{Mode: d.Mode, Status: bankfeed.ChannelEmpty}
			w.Channels = append(w.Channels, renderChannelDetail(c.ProviderID, empty, p, accounts))
		}
	}
	return w
}

func renderChannelDetail(providerID string, c bankfeed.Channel, p bankfeed.Provider, accounts []bankfeed.Account) ChannelDetail {
	d, offered := p.Channel(c.Mode)
	w := ChannelDetail{
		Channel: renderChannel(providerID, c), Mode: c.Mode, Credentials: []CredentialSetting{}, AccountTypes: accountTypes(d.AccountTypes),
		ChannelDefinitionUnavailable: !offered,
	}
	if c.Mode == bankfeed.Embedded {
		eligible := slices.ContainsFunc(accounts, func(a bankfeed.Account) bool { return a.Source == c.Mode })
		w.EligibleAccounts = &eligible
	}
	return w
}

// Provider is a bank that users can link.
type Provider struct {
	ID                 string              `json:"id"`
	Name               string              `json:"name"`
	BIC                string              `json:"bic,omitempty"`
	Country            string              `json:"country,omitempty" doc:"ISO 3166-1 alpha-2."`
	LogoURL            string              `json:"logo_url,omitempty"`
	ChannelDefinitions []ChannelDefinition `json:"channel_definitions" nullable:"false"`
}

// ChannelDefinition is one way in which a provider can be reached.
type ChannelDefinition struct {
	ID           string            `json:"id"`
	Mode         bankfeed.Mode     `json:"mode" enum:"REDIRECT,EMBEDDED"`
	AccountTypes []AccountType     `json:"account_types" nullable:"false"`
	Credentials  []CredentialField `json:"credentials" nullable:"false" doc:"What the user is asked for, in this order; empty for REDIRECT."`
}

// CredentialField is one input of a login form.
type CredentialField struct {
	Key    string `json:"key"`
	Label  string `json:"label"`
	Secret bool   `json:"secret" doc:"Hide what is typed."`
}

// RenderProvider draws a provider.
func RenderProvider(p bankfeed.Provider) Provider {
	w := Provider{ID: p.ID, Name: p.Name, BIC: p.BIC, Country: p.Country, LogoURL: p.LogoURL, ChannelDefinitions: []ChannelDefinition{}}
	for _, d := range p.Channels {
		def := ChannelDefinition{
			ID: bankfeed.ChannelDefinitionID(p.ID, d.Mode), Mode: d.Mode, AccountTypes: accountTypes(d.AccountTypes), Credentials: []CredentialField{},
		}
		for _, f := range d.Credentials {
			def.Credentials = append(def.Credentials, CredentialField(f))
		}
		w.ChannelDefinitions = append(w.ChannelDefinitions, def)
	}
	return w
}

// User is a PSU.
type User struct {
	ID              string                   `json:"id"`
	Email           string                   `json:"email,omitempty"`
	CreationDate    Seconds                  `json:"creation_date"`
	ExternalID      string                   `json:"external_id,omitempty" doc:"The client's own id. Extra."`
	BusinessContext bankfeed.BusinessContext `json:"business_context" enum:"individual,business" doc:"Extra."`
}

// RenderUser draws a user.
func RenderUser(u bankfeed.User) User {
	return User{ID: id(u.ID), Email: u.Email, CreationDate: SecondsOf(u.CreatedAt), ExternalID: u.ExternalID, BusinessContext: u.BusinessContext}
}

// Step is what a channel needs next from its user; neither member: it is on
// its way.
type Step struct {
	ChannelDefinitionID string     `json:"channel_definition_id"`
	RedirectURL         string     `json:"redirect_url,omitempty"`
	Challenge           *Challenge `json:"challenge,omitempty"`
}

// RenderStep draws a step of a connection to a provider.
func RenderStep(providerID string, s bankfeed.LinkStep) Step {
	return Step{
		ChannelDefinitionID: bankfeed.ChannelDefinitionID(providerID, s.Mode), RedirectURL: s.RedirectURL, Challenge: RenderChallenge(s.Challenge),
	}
}

// Link points to a resource of this API.
type Link struct {
	Rel  string `json:"rel" enum:"connection"`
	Href string `json:"href" doc:"Absolute path on this host."`
}
