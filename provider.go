package bankfeed

// Provider is a bank as users see it.
type Provider struct {
	ID       string
	Name     string
	BIC      string
	Country  string // ISO 3166-1 alpha-2
	LogoURL  string
	Sandbox  bool
	Channels []ChannelDefinition
	Contexts []BusinessContext // in which the bank can be reached; empty means both
}

// ChannelDefinition is one way in which a provider can be reached.
type ChannelDefinition struct {
	Mode         Mode
	AccountTypes []AccountType
	Credentials  []CredentialField // what an EMBEDDED channel asks of the user
}

// CredentialField is one input of a login form.
type CredentialField struct {
	Key    string `json:"key"`
	Label  string `json:"label"`
	Secret bool   `json:"secret"`
}

// Mode is how a channel reaches the bank.
type Mode string

// Modes: Redirect sends the PSU to the bank's own pages (PSD2 API); Embedded
// passes credentials through the hub.
const (
	Redirect Mode = "REDIRECT"
	Embedded Mode = "EMBEDDED"
)

// ChannelDefinitionID is the provider's id followed by 01 for REDIRECT and 00
// for EMBEDDED (contracts: Oxlin 1.3).
func ChannelDefinitionID(providerID string, m Mode) string {
	if m == Redirect {
		return providerID + "01"
	}
	return providerID + "00"
}

// ParseChannelDefinitionID reverses ChannelDefinitionID.
func ParseChannelDefinitionID(s string) (providerID string, m Mode, ok bool) {
	if len(s) < 3 {
		return "", "", false
	}
	switch providerID = s[:len(s)-2]; s[len(s)-2:] {
	case "01":
		return providerID, Redirect, true
	case "00":
		return providerID, Embedded, true
	}
	return "", "", false
}

// Channel finds the definition for a mode.
func (p Provider) Channel(m Mode) (ChannelDefinition, bool) {
	for _, c := range p.Channels {
		if c.Mode == m {
			return c, true
		}
	}
	return ChannelDefinition{}, false
}
