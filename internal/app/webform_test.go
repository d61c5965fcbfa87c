package app

import (
	"errors"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/access"
	"github.com/bankfeed/bankfeed/internal/sandbox"
	"github.com/bankfeed/bankfeed/internal/webform"
)

// A form that has ended still has work to do: what it began goes away.
func TestEndedFormTidiesUp(t *testing.T) {
	a, _ := start(t, settings(t, "--sandbox"), io.Discard)
	made, err := a.Access().CreateClient(t.Context(), "", "client", true)
	require.NoError(t, err)
	client, err := a.Access().AuthenticateClient(t.Context(), made.ID, string(made.Secret))
	require.NoError(t, err)
	user, err := a.Access().CreateUser(t.Context(), bankfeed.Caller{Client: client}, access.NewUser{})
	require.NoError(t, err)
	f, err := a.webforms.Import(t.Context(), webform.Order{Tenant: client.Tenant, User: user.ID, Client: client.ID, Sandbox: true})
	require.NoError(t, err)
	linked, err := a.consent.Link(t.Context(), bankfeed.Linking{Tenant: client.Tenant, User: user.ID, Sandbox: true, Provider: sandbox.ProviderID,
		Channels: []bankfeed.LinkChannel{{Mode: bankfeed.Redirect}}, SessionExternalID: f.UUID.String()})
	require.NoError(t, err)
	require.NoError(t, a.webforms.Abort(t.Context(), client.Tenant, user.ID, f.ID))
	require.Eventually(t, func() bool {
		st, err := a.data.Store.ConnectionState(t.Context(), client.Tenant, user.ID, linked.Connection.ID)
		return errors.Is(err, bankfeed.ErrNotFound) || err == nil && st.Connection.Status == bankfeed.ConnectionClosed
	}, time.Minute, 20*time.Millisecond)
}
