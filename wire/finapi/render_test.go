package finapi_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"
	_ "time/tzdata" // as the hub has it

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/finapi"
)

var update = flag.Bool("update", false, "write what is rendered today into the golden files")

// sameGolden holds what is rendered from an input against the file's want, byte
// for byte but for white space.
func sameGolden(t *testing.T, file string, input any, render func() []byte) {
	t.Helper()
	raw, err := os.ReadFile(file)
	require.NoError(t, err)
	var g struct {
		Input json.RawMessage `json:"input"`
		Want  json.RawMessage `json:"want"`
	}
	require.NoError(t, json.Unmarshal(raw, &g))
	require.NoError(t, json.Unmarshal(g.Input, input))
	got := render()
	if *update {
		g.Want = got
		raw, err = json.MarshalIndent(g, "", "  ")
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(file, append(raw, '\n'), 0o600))
		return
	}
	var want bytes.Buffer
	require.NoError(t, json.Compact(&want, g.Want))
	require.Equal(t, want.String(), string(got))
}

func eachGolden(t *testing.T, pattern string, test func(t *testing.T, file string)) {
	files, err := filepath.Glob(pattern)
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) { test(t, file) })
	}
}

// What the log keeps of the end of a synchronization, and what its callback says
// for ever.
func TestSyncCallbackGolden(t *testing.T) {
	eachGolden(t, "testdata/callback_*.json", func(t *testing.T, file string) {
		var snapshot bankfeed.Snapshot
		sameGolden(t, file, &snapshot, func() []byte {
			body, err := finapi.RenderCallback(bankfeed.Event{Type: bankfeed.EventRequestFinished, Snapshot: &snapshot})
			require.NoError(t, err)
			return body
		})
	})
}

func TestCallbackOfNothing(t *testing.T) {
	for _, e := range []bankfeed.Event{
		{Type: bankfeed.EventRequestFinished}, // blanked
		{Type: bankfeed.EventSyncStarted, Snapshot: &bankfeed.Snapshot{}},
		{Type: bankfeed.EventRequestFinished, Snapshot: &bankfeed.Snapshot{Request: &bankfeed.RequestRef{Kind: "another"}}},
	} {
		_, err := finapi.RenderCallback(e)
		require.Error(t, err)
	}
}

var installation = bankfeed.Installation{Born: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)}

func berlin(t *testing.T) *time.Location {
	zone, err := time.LoadLocation(finapi.Zone)
	require.NoError(t, err)
	return zone
}

// A connection and its accounts as they are stored, and the data source that is
// drawn of them.
func TestDataSourceGolden(t *testing.T) {
	r := finapi.Renderer{Installation: installation, Zone: berlin(t)}
	eachGolden(t, "testdata/source_*.json", func(t *testing.T, file string) {
		var stored struct {
			Connection bankfeed.Connection `json:"connection"`
			Covered    bool                `json:"covered"` // by a request that has not ended
			Accounts   []struct {
				bankfeed.Account
				LastReadAt time.Time `json:"last_read_at"`
			} `json:"accounts"`
		}
		sameGolden(t, file, &stored, func() []byte {
			var accounts []bankfeed.Account
			for _, a := range stored.Accounts {
				a.Account.LastReadAt = a.LastReadAt
				accounts = append(accounts, a.Account)
			}
			outcome := stored.Connection.Outcome()
			if stored.Covered {
				outcome = bankfeed.Outcome{Status: bankfeed.OutcomeRunning}
			}
			status, _ := finapi.Face(outcome)
			body, err := json.Marshal(struct {
				Source finapi.DataSource   `json:"source"`
				Status finapi.SourceStatus `json:"status"`
			}{r.DataSource(1, &stored.Connection, outcome, accounts), status})
			require.NoError(t, err)
			return body
		})
	})
}

func TestUserGolden(t *testing.T) {
	r := finapi.Renderer{Installation: installation, Zone: berlin(t)}
	eachGolden(t, "testdata/user_*.json", func(t *testing.T, file string) {
		var stored struct {
			User     bankfeed.User
			Password string
		}
		sameGolden(t, file, &stored, func() []byte {
			body, err := json.Marshal(r.User(1, stored.User, bankfeed.Secret(stored.Password)))
			require.NoError(t, err)
			return body
		})
	})
}

// Every word of the hub has a face; a new one that is forgotten would be empty.
func TestEveryWordHasAFace(t *testing.T) {
	r := finapi.Renderer{Installation: installation, Zone: time.UTC}
	for _, typ := range []bankfeed.AccountType{bankfeed.AccountCurrent, bankfeed.AccountSavings, bankfeed.AccountCard, bankfeed.AccountLoan} {
		for status, want := range map[bankfeed.AccountStatus]finapi.AccountStatus{
			bankfeed.AccountOK: "UPDATED", bankfeed.AccountReading: "DOWNLOAD_IN_PROGRESS", bankfeed.AccountFailed: "DOWNLOAD_FAILED",
			bankfeed.AccountGone: "DEPRECATED", bankfeed.AccountConsentPending: "DOWNLOAD_IN_PROGRESS", bankfeed.AccountImported: "UPDATED",
		} {
			a := r.DataSource(1, &bankfeed.Connection{}, bankfeed.Outcome{}, []bankfeed.Account{{ID: 1, Type: typ, Status: status}}).Accounts[0]
			require.Equal(t, want, a.Status)
			back, ok := finapi.ParseAccountType(a.Type)
			require.True(t, ok)
			require.Equal(t, typ, back)
		}
	}
	_, ok := finapi.ParseAccountType("Checking")
	require.False(t, ok)
}

func TestFaceOfFailures(t *testing.T) {
	for reason, want := range map[bankfeed.FailureReason]finapi.Code{
		bankfeed.FailUnavailable: "BANK_UNAVAILABLE", bankfeed.FailRateLimited: "RATE_LIMITED", bankfeed.FailQuota: "RATE_LIMITED",
		bankfeed.FailProtocol: "INTERNAL_ERROR", bankfeed.FailInternal: "INTERNAL_ERROR", bankfeed.FailAborted: "INTERNAL_ERROR", "": "INTERNAL_ERROR",
	} {
		got, updateRequired := finapi.Face(bankfeed.Outcome{Status: bankfeed.OutcomeFailed, Failure: &bankfeed.Failure{Reason: reason}})
		require.Equal(t, finapi.SourceStatus{Status: "ERROR", Code: want}, got)
		require.False(t, updateRequired)
	}
	got, _ := finapi.Face(bankfeed.Outcome{Status: bankfeed.OutcomeFailed})
	require.Equal(t, finapi.CodeInternalError, got.Code)
}

func TestTimes(t *testing.T) {
	zone := berlin(t)
	for in, want := range map[time.Time]finapi.Time{
		time.Date(2020, 1, 1, 0, 0, 0, 0, zone):                    "2020-01-01 00:00:00.000",
		time.Date(2026, 7, 1, 22, 30, 0, 123_999_999, time.UTC):    "2026-07-02 00:30:00.123",
		time.Date(2026, 12, 31, 23, 59, 59, 999_000_000, time.UTC): "2027-01-01 00:59:59.999",
		time.Date(2026, 3, 29, 1, 0, 0, 0, time.UTC):               "2026-03-29 03:00:00.000", // clocks go forward
		time.Date(2026, 10, 25, 1, 30, 0, 0, time.UTC):             "2026-10-25 02:30:00.000", // and back
	} {
		got := finapi.TimeOf(in, zone)
		require.Equal(t, want, got)
		back, err := got.In(zone)
		require.NoError(t, err)
		require.Equal(t, got, finapi.TimeOf(back, zone))
	}
	for _, bad := range []finapi.Time{"", "2020-01-01", "2020-01-01T00:00:00.000", "2020-13-01 00:00:00.000"} {
		_, err := bad.In(zone)
		require.Error(t, err)
		require.NotContains(t, err.Error(), "13")
	}
	require.Equal(t, finapi.FormTime("2020-01-01T00:00:00.000+0100"), finapi.FormTimeOf(time.Date(2020, 1, 1, 0, 0, 0, 0, zone), zone))
}

func TestErrorsGolden(t *testing.T) {
	for want, body := range map[string]any{
		`{"errors":[{"message":"callbackUrl: must be https","code":"ILLEGAL_FIELD_VALUE","type":"BUSINESS"}],"date":"2020-01-01 00:00:00.000","requestId":"r","endpoint":"POST /x"}`: finapi.Errors{
			Errors: []finapi.Error{{Message: "callbackUrl: must be https", Code: finapi.CodeIllegalFieldValue, Type: finapi.Business}},
			Date:   "2020-01-01 00:00:00.000", RequestID: "r", Endpoint: "POST /x",
		},
		`{"error":"invalid_token","error_description":"no"}`: finapi.Unauthorized{Code: finapi.InvalidToken, Description: "no"},
		`{"deletionId":"00000000-0000-0000-0000-000000000000","status":"IN_PROGRESS","creationDate":"2020-01-01 00:00:00.000","modules":[{"module":"TRANSACTIONS","status":"SUCCESSFUL"}]}`: finapi.Deletion{
			Status: finapi.DeletionStatusOf(false), CreationDate: "2020-01-01 00:00:00.000",
			Modules: []finapi.DeletionModule{{Module: "TRANSACTIONS", Status: finapi.DeletionStatusOf(true)}},
		},
		`{"processToken":"t","creationDate":"2020-01-01 00:00:00.000","expirationDate":"2020-01-15 00:00:00.000","exchangesLeft":10}`: finapi.Process{
			ProcessToken: "t", CreationDate: "2020-01-01 00:00:00.000", ExpirationDate: "2020-01-15 00:00:00.000", ExchangesLeft: 10,
		},
	} {
		got, err := json.Marshal(body)
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	}
}
