package connector

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMask(t *testing.T) {
	for in, want := range map[string]string{
		"":                                             "",
		"Daily limit of 4 reached, E-1234":             "Daily limit of 4 reached, E-1234",
		"on 2026-11-21 at the branch":                  "on 2026-11-21 at the branch",
		"de38760700240320465700":                       "de****5700",
		"DE38760700240320465700 and more":              "DE****5700 and more",
		"(DE38 7607 0024 0320 4657 00) bad":            "(DE****5700) bad",
		"DE38-7607-0024-0320-4657-00":                  "DE****5700",
		"NL91ABNA0417164300":                           "NL****4300",
		"NO9386011117947":                              "NO****7947",
		"de38 7607 0024 0320 4657 00":                  "de****5700",
		"account 0320465700, card 4111 1111 1111 1111": "account ****5700, card ****1111",
		"\"iban\":\"PL61109010140000071219812874\"":    "\"iban\":\"PL****2874\"",
	} {
		require.Equal(t, want, Mask(in), in)
	}
}

func TestBound(t *testing.T) {
	require.Equal(t, "abc", Bound("abc", 3))
	require.Equal(t, "ab", Bound("abc", 2))
	require.Equal(t, "a", Bound("aä", 2))
	require.Empty(t, Bound("ä", 1))
}
