package sandbox

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A masked IBAN breaks the pattern of the official file, so nothing here is held
// against it.
func TestBanksThatMaskIBANs(t *testing.T) {
	_, c := newBank(t, Config{})
	open := c.redirected(RedirectBase, "fine", consentBody())
	whole := c.read(RedirectBase+"/v1/accounts/"+c.accounts(RedirectBase, open)[giro], open, attended).str("account", "iban")
	mask := whole[:2] + "xxxx" + whole[len(whole)-4:]
	for base, detail := range map[string]string{UnmaskBase: whole, MaskedBase: mask} {
		con := c.redirected(base, "fine", consentBody())
		rids := c.accounts(base, con)
		require.Len(t, rids, 2)
		list := c.read(base+"/v1/accounts?withBalance=true", con, attended)
		require.Equal(t, mask, list.str("accounts", 0, "iban"))
		require.NotEmpty(t, list.get("accounts", 0, "balances"))
		require.Contains(t, list.str("accounts", 1, "maskedPan"), "545454")
		require.Equal(t, detail, c.read(base+"/v1/accounts/"+rids[giro], con, attended).str("account", "iban"))
		require.Equal(t, mask, c.read(base+"/v1/accounts/"+rids[giro]+"/balances", con, attended).str("account", "iban"))
		require.Equal(t, mask, c.read(transactionsPath(base, rids[giro], sinceJune), con, attended).str("account", "iban"))
		c.read(RedirectBase+"/v1/accounts", con, attended).requireError(403, "CONSENT_UNKNOWN")
	}
	require.Equal(t, 200, c.read(RedirectBase+"/v1/accounts", open, attended).status, "the other banks end no consent here")
}
