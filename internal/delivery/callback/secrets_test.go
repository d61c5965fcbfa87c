package callback

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
)

// heldSecrets is a store of one tenant.
type heldSecrets struct {
	SecretStore
	live  []bankfeed.Secret
	until time.Time
	fail  error
}

func (h *heldSecrets) Secrets(_ context.Context, _ bankfeed.TenantID, fresh bankfeed.Secret, _ time.Time) ([]bankfeed.Secret, error) {
	if h.live == nil {
		h.live = []bankfeed.Secret{fresh}
	}
	return h.live, h.fail
}

func (h *heldSecrets) AddSecret(_ context.Context, _ bankfeed.TenantID, fresh bankfeed.Secret, until, now time.Time) (SecretInfo, error) {
	h.live, h.until = append([]bankfeed.Secret{fresh}, h.live...), until
	return SecretInfo{ID: 7, CreatedAt: now}, h.fail
}

func TestSecretsAreShownOnce(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	h := &heldSecrets{}
	s := Secrets{Store: h, Now: func() time.Time { return now }}
	first, err := s.First(t.Context(), 1)
	require.NoError(t, err)
	require.Equal(t, []bankfeed.Secret{first}, h.live)
	again, err := s.First(t.Context(), 1)
	require.NoError(t, err)
	require.Empty(t, again)

	fresh, info, err := s.Create(t.Context(), 1, now.Add(-time.Hour))
	require.NoError(t, err)
	require.Equal(t, SecretInfo{ID: 7, CreatedAt: now}, info)
	require.Equal(t, []bankfeed.Secret{fresh, first}, h.live)
	require.Equal(t, now, h.until, "never in the past: attempts that are on their way were signed by it")
	_, _, err = s.Create(t.Context(), 1, time.Time{})
	require.NoError(t, err)
	require.Zero(t, h.until)

	h.fail = errors.New("no database")
	fresh, _, err = s.Create(t.Context(), 1, time.Time{})
	require.ErrorIs(t, err, h.fail)
	require.Empty(t, fresh, "what was not stored signs nothing")
}

func TestNewSecret(t *testing.T) {
	text, ok := strings.CutPrefix(string(NewSecret()), "whsec_")
	require.True(t, ok)
	key, err := base64.StdEncoding.DecodeString(text)
	require.NoError(t, err)
	require.Len(t, key, 32)
	another := NewSecret()
	require.NotEqual(t, another, NewSecret())
}
