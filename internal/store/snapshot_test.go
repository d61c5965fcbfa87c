package store

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

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
		Transaction: &bankfeed.Transaction{
			ID: 11, Status: bankfeed.TransactionBooked, Money: bankfeed.Money{Amount: bankfeed.MustAmount("-1.10"), Currency: "EUR"},
			BookingDate: "2026-03-02", ValueDate: "2026-03-03", TransactionDate: "2026-03-01", BankID: "id", EntryReference: "<&>", EndToEndID: "ü\u2028",
			MandateID: "\xff", CreditorID: "a\\b", CheckID: "\"\t\x7f", Creditor: bankfeed.Party{Name: "n", Address: "a", Agent: "b",
				Account: bankfeed.Identifier{Type: bankfeed.IdentIBAN, Value: "DE02120300000000202051"}}, Debtor: bankfeed.Party{Name: "x"},
			UltimateCreditor: "uc", UltimateDebtor: "ud", Remittance: []string{"a", "b"}, Structured: []string{""}, AdditionalInfo: "i", PurposeCode: "p",
			BankCode: "PMNT", ProprietaryCode: "N", BalanceAfter: &bankfeed.Money{Amount: bankfeed.MustAmount("0.00"), Currency: "EUR"},
			Exchange: []bankfeed.Exchange{{Rate: "1.1"}}, CreatedAt: now, Account: 3, User: 7, Raw: []byte("{}"),
		},
		LastTransaction: 11,
		Consent:         &bankfeed.Consent{ID: 13},
		Call:            &bankfeed.BankCall{Context: bankfeed.CallGetAccounts, At: now, Duration: time.Second},
		Request:         &bankfeed.RequestRef{ID: 15, Kind: bankfeed.RequestSync, Handle: "a\"b", Sources: []bankfeed.SourceRef{{Connection: 5, Outcome: bankfeed.Outcome{Status: bankfeed.OutcomeSucceeded}}}},
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
	changes := bankfeed.TransactionChanges{Update: []bankfeed.TransactionRow{{Transaction: *full.Transaction}, {Transaction: bankfeed.Transaction{ID: 13}}}}
	transactions, err := encodeTransactions(&changes)
	require.NoError(t, err)
	page := snapshots{transactions: transactions}
	for i := range changes.Update {
		next.Transaction = &changes.Update[i].Transaction
		sameJSON(t, &page, &next)
	}
	other := fullSnapshot()
	other.Account.Name, other.Connection.ID, other.Session.ID, other.User.ID = "other", 6, 10, 8
	sameJSON(t, &e, other)
	sameJSON(t, &e, full)
}

// A member added to Snapshot must be added to the encoder: every one is set
// here, so a forgotten one makes TestSnapshotEncodingEqualsMarshal fail. The
// same goes for what it encodes without json.Marshal.
func TestSnapshotHasEveryMember(t *testing.T) {
	full := fullSnapshot()
	for _, v := range []any{*full, *full.Transaction, full.Transaction.Money, full.Transaction.Creditor, full.Transaction.Creditor.Account} {
		b, err := json.Marshal(v)
		require.NoError(t, err)
		var members map[string]any
		require.NoError(t, json.Unmarshal(b, &members))
		empty, err := json.Marshal(reflect.Zero(reflect.TypeOf(v)).Interface())
		require.NoError(t, err)
		var always map[string]any
		require.NoError(t, json.Unmarshal(empty, &always))
		shown := 0
		for f := range reflect.TypeOf(v).Fields() {
			if f.Tag.Get("json") != "-" {
				shown++
			}
		}
		require.Lenf(t, members, shown, "set the new member of %T in fullSnapshot", v)
		for name := range always {
			require.Contains(t, members, name)
		}
	}
}

func TestTextsAreEncodedAsMarshalDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) })).Draw(t, "text")
		want, err := json.Marshal(s)
		require.NoError(t, err)
		var w objectWriter
		w.quoted(s)
		require.Equal(t, string(want), string(w.buf))
	})
}

// A page reads as if each of its snapshots were decoded alone, whatever they
// share with their neighbours.
func TestSnapshotsOfAPageReadAsAlone(t *testing.T) {
	var page []*bankfeed.Snapshot
	for i := range 12 {
		s := fullSnapshot()
		if i%3 == 1 {
			s.Account, s.Session = nil, nil
			s.User.ExternalID = ""
		}
		if i%4 == 2 {
			s.Connection.Channels = nil
			s.Account = &bankfeed.Account{ID: bankfeed.AccountID(i), Currency: "PLN"}
			s.Transaction, s.Reason = nil, ""
		}
		page = append(page, s)
	}
	page = append(page, &bankfeed.Snapshot{}, fullSnapshot())
	var r snapshotReader
	for i, s := range page {
		b, err := json.Marshal(s)
		require.NoError(t, err)
		got, err := r.decode(b)
		require.NoError(t, err)
		var want bankfeed.Snapshot
		require.NoError(t, json.Unmarshal(b, &want))
		require.Equal(t, &want, got, "snapshot %d", i)
	}
	for _, bad := range []string{`{`, `{"account":7}`, `{"user":[]}`, `[]`} {
		_, err := r.decode([]byte(bad))
		require.Error(t, err, bad)
	}
	got, err := r.decode([]byte(`{"account":null,"connection":null}`))
	require.NoError(t, err)
	require.Nil(t, got.Account)
	require.Nil(t, got.Connection)
}
