package store

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
)

// fullSnapshot has every member set, so that a member that the encoder forgets
// is noticed (TestSnapshotHasEveryMember).
func fullSnapshot() *bankfeed.Snapshot {
	now := time.Date(2026, 3, 2, 9, 0, 0, 123456000, time.UTC)
	account := bankfeed.Account{ID: 3, Type: bankfeed.AccountCurrent, Currency: "EUR", Name: "Konto \"1\" <&>\u2028\x00ü",
		Identifiers: []bankfeed.Identifier{{Type: bankfeed.IdentIBAN, Value: "DE02120300000000202051"}}, CreatedAt: now}
	return &bankfeed.Snapshot{
		Schema: bankfeed.SnapshotSchema, Initiator: bankfeed.ByUser, Build: "20260302.1", Node: "a\"b",
		User:       bankfeed.UserRef{ID: 7, UUID: bankfeed.UUID{1}, ExternalID: "é\n", BusinessContext: bankfeed.Individual},
		Session:    &bankfeed.SessionRef{ID: 9, UUID: bankfeed.UUID{2}, Type: bankfeed.SessionAll, TraceID: bankfeed.UUID{3}},
		Connection: &bankfeed.Connection{ID: 5, ProviderID: "200", CreatedAt: now, Channels: []bankfeed.Channel{{Mode: bankfeed.Redirect, Status: bankfeed.ChannelRunning, Expires: &now}}},
		Channel:    bankfeed.Redirect, Reason: bankfeed.ChannelAuthFailed,
		Failure: &bankfeed.Failure{Reason: bankfeed.FailCredentials, Text: "no"},
		Account: &account, Accounts: []bankfeed.Account{account},
		Transaction: &bankfeed.Transaction{ID: 11, Status: bankfeed.TransactionBooked, CreatedAt: now, Remittance: []string{"a", "b"},
			Money: bankfeed.Money{Amount: bankfeed.MustAmount("-1.10"), Currency: "EUR"}, Debtor: bankfeed.Party{Name: "x"}},
		LastTransaction: 11,
		Consent:         &bankfeed.Consent{ID: 13},
		Call:            &bankfeed.BankCall{Context: bankfeed.CallGetAccounts, At: now, Duration: time.Second},
	}
}

// sameJSON compares with json.Marshal, which is what readers decode.
func sameJSON(t *testing.T, e *snapshots, s *bankfeed.Snapshot) {
	t.Helper()
	want, err := json.Marshal(s)
	require.NoError(t, err)
	got, err := e.encode(s)
	require.NoError(t, err)
	require.Equal(t, string(want), string(got))
	var back, wantBack bankfeed.Snapshot
	require.NoError(t, json.Unmarshal(got, &back))
	require.NoError(t, json.Unmarshal(want, &wantBack))
	require.Equal(t, wantBack, back)
}

func TestSnapshotEncodingEqualsMarshal(t *testing.T) {
	var e snapshots
	full := fullSnapshot()
	sameJSON(t, &e, full)
	sameJSON(t, &e, &bankfeed.Snapshot{})
	sameJSON(t, &e, full) // with every part in the cache

	// The same parts beside other ones, and other parts in their place.
	next := *full
	next.Transaction = &bankfeed.Transaction{ID: 12}
	sameJSON(t, &e, &next)
	other := fullSnapshot()
	other.Account.Name, other.Connection.ID, other.Session.ID, other.User.ID = "other", 6, 10, 8
	sameJSON(t, &e, other)
	sameJSON(t, &e, full)
}

// A member added to Snapshot must be added to the encoder: every one is set
// here, so a forgotten one makes TestSnapshotEncodingEqualsMarshal fail.
func TestSnapshotHasEveryMember(t *testing.T) {
	b, err := json.Marshal(fullSnapshot())
	require.NoError(t, err)
	var members map[string]any
	require.NoError(t, json.Unmarshal(b, &members))
	empty, err := json.Marshal(bankfeed.Snapshot{})
	require.NoError(t, err)
	var always map[string]any
	require.NoError(t, json.Unmarshal(empty, &always))
	require.Len(t, members, reflect.TypeFor[bankfeed.Snapshot]().NumField(), "set the new member in fullSnapshot")
	for name := range always {
		require.Contains(t, members, name)
	}
}
