package bankfeed_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
)

func TestMasked(t *testing.T) {
	for _, s := range []string{"PLxxxx1234", "PLXXXX1234", "PL61************2874", "PL61..2874", "DE••1234", "411111xxxxxx1111", "*1234"} {
		require.True(t, bankfeed.Masked(s), s)
	}
	for _, s := range []string{"", "PL61109010140000071219812874", "DE00109010140000071219812874", "GB85XXXX60161331926819", "gb85xxxx60161331926819", "12345678"} {
		require.False(t, bankfeed.Masked(s), s)
	}
}

func TestMaskIBAN(t *testing.T) {
	for in, want := range map[string]string{
		"PL61109010140000071219812874": "PLxxxx2874", "NO9386011117947": "NOxxxx7947", "DE1": "DExxxx", "": "xxxx",
	} {
		require.Equal(t, want, bankfeed.MaskIBAN(in))
		require.True(t, bankfeed.Masked(bankfeed.MaskIBAN(in)))
	}
}

func TestShownIBAN(t *testing.T) {
	var a bankfeed.Account
	require.Empty(t, a.ShownIBAN())
	a.Identifiers = []bankfeed.Identifier{{Type: bankfeed.IdentMaskedIBAN, Value: "PLxxxx2874"}, {Type: bankfeed.IdentBBAN, Value: "1"}}
	require.Empty(t, a.IBAN())
	require.Equal(t, "PLxxxx2874", a.ShownIBAN())
	a.Identifiers[0] = bankfeed.Identifier{Type: bankfeed.IdentIBAN, Value: "PL61109010140000071219812874"}
	require.Equal(t, a.IBAN(), a.ShownIBAN())
}
