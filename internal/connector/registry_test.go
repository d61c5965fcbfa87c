package connector

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
)

// plain is a connector without optional abilities.
type plain struct{ Connector }

type detailed struct {
	Connector
	Details
}

func TestMaskedIBANNeedsAConnectorThatReadsOneAccount(t *testing.T) {
	all := map[string]Connector{"plain": plain{}, "detailed": detailed{}}
	p := Profile{Provider: bankfeed.Provider{ID: "1", Name: "A", Channels: []bankfeed.ChannelDefinition{{Mode: bankfeed.Redirect}}},
		Endpoints: []Endpoint{{Mode: bankfeed.Redirect, BaseURL: "https://bank.example"}}}
	for _, c := range []struct {
		standard string
		setting  MaskedIBAN
		fault    string
	}{
		{"plain", AsListed, ""}, {"plain", KeepMasked, ""}, {"detailed", Unmask, ""},
		{"plain", Unmask, "cannot unmask IBANs"}, {"detailed", "guess", "unknown treatment"},
	} {
		p.Standard, p.MaskedIBAN = c.standard, c.setting
		_, err := NewRegistry(all, p)
		if c.fault == "" {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, c.fault)
		}
	}
}

func TestBusiness(t *testing.T) {
	p := Profile{BusinessProducts: []string{"Firma", "biznes"}}
	require.True(t, p.Business("Konto FIRMA Plus"))
	require.False(t, p.Business("Konto"))
	require.False(t, (&Profile{}).Business("Firma"))
}
