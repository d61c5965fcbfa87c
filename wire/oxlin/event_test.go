package oxlin_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/oxlin"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write what is rendered today into the golden files")

// golden is an event as the log keeps it, and what queues must show of it for
// ever.
type golden struct {
	Event struct {
		Type     bankfeed.EventType `json:"type"`
		Position bankfeed.Position  `json:"position"`
		At       time.Time          `json:"at"`
		Snapshot json.RawMessage    `json:"snapshot"`
	} `json:"event"`
	Want json.RawMessage `json:"want"`
}

func (g golden) event(t *testing.T) bankfeed.Event {
	e := bankfeed.Event{Type: g.Event.Type, Position: g.Event.Position, At: g.Event.At}
	require.NoError(t, json.Unmarshal(g.Event.Snapshot, &e.Snapshot))
	return e
}

func TestRenderEventGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			require.NoError(t, err)
			var g golden
			require.NoError(t, json.Unmarshal(raw, &g))
			got := []byte("null")
			if w, ok := oxlin.RenderEvent(g.event(t)); ok {
				got, err = json.Marshal(w)
				require.NoError(t, err)
			}
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
		})
	}
}

// The members of the sample on the vendor's page, each with its type.
func TestPageSample(t *testing.T) {
	raw, err := os.ReadFile("testdata/sync_all_started.json")
	require.NoError(t, err)
	var g golden
	require.NoError(t, json.Unmarshal(raw, &g))
	require.JSONEq(t, `{
		"id":"14", "event_type":"SYNC_ALL_STARTED", "resource_type":"CONNECTION", "creation_date":1527761001,
		"channel_definition_id":"8701", "category":"global",
		"resource":{"id":"12","provider_id":"87","name":"WBX Test Bank","status":"RUNNING","creation_date":1527757200,"channels":[
			{"channel_definition_id":"8701","expires":1527761000,"status":"RUNNING","last_success_date":1527760963,"last_end_date":1527760963},
			{"channel_definition_id":"8700","status":"RUNNING","last_success_date":1527760963,"last_end_date":1527760963}]}}`, string(g.Want))
}

// Every event of the topic has a face, nothing else has one, and each face is
// reached.
func TestFaces(t *testing.T) {
	snapshot := func(reason bankfeed.ChannelStatus) *bankfeed.Snapshot {
		return &bankfeed.Snapshot{Connection: &bankfeed.Connection{ProviderID: "200"}, Channel: bankfeed.Embedded, Reason: reason}
	}
	want := map[bankfeed.EventType]string{
		"connection.created": "CONNECTION_CREATED global", "connection.deleted": "CONNECTION_DELETED global",
		"sync.started": "SYNC_ALL_STARTED global", "sync.succeeded": "SYNC_ALL_SUCCESS global", "sync.failed": "SYNC_ALL_FAILED global",
		"channel.auth_started": "AUTH_STARTED login", "channel.auth_succeeded": "AUTH_SUCCESS login",
		"channel.provider_connected":          "PROVIDER_CONNECTED choose_bank",
		"channel.accounts_list_started":       "LIST_ACCOUNTS_STARTED synchronization",
		"channel.accounts_list_succeeded":     "LIST_ACCOUNTS_SUCCESS synchronization",
		"channel.accounts_list_failed":        "LIST_ACCOUNTS_FAILED synchronization",
		"channel.transactions_list_started":   "LIST_TRANSACTIONS_STARTED synchronization",
		"channel.transactions_list_succeeded": "LIST_TRANSACTIONS_SUCCESS synchronization",
		"channel.transactions_list_failed":    "LIST_TRANSACTIONS_FAILED synchronization",
		"consent.created":                     "CONSENT_CREATED consent", "consent.updated": "CONSENT_UPDATED consent",
		"consent.deleted": "CONSENT_DELETED consent", "consent.expiring": "CONSENT_EXPIRING consent",
	}
	var seen []oxlin.EventType
	for _, info := range bankfeed.EventTypes {
		if info.Type == bankfeed.EventActionRequired {
			continue
		}
		w, ok := oxlin.RenderEvent(bankfeed.Event{Type: info.Type, Snapshot: snapshot("")})
		require.Equal(t, info.Topic == bankfeed.TopicConnections, ok, "%s", info.Type)
		if ok {
			require.Equal(t, want[info.Type], string(w.EventType)+" "+w.Category)
			seen = append(seen, w.EventType)
		}
	}
	for _, reason := range []bankfeed.ChannelStatus{"AUTH_FAILED", "TOKEN_EXPIRED", "PASSWORD_CHANGE_REQUIRED", "USER_ACTION_REQUIRED", "CHALLENGE_REQUIRED"} {
		w, ok := oxlin.RenderEvent(bankfeed.Event{Type: bankfeed.EventActionRequired, Snapshot: snapshot(reason)})
		require.True(t, ok)
		require.Equal(t, string(reason)+" login 20000", string(w.EventType)+" "+w.Category+" "+w.ChannelDefinitionID)
		seen = append(seen, w.EventType)
	}
	require.ElementsMatch(t, oxlin.EventTypes, seen)

	_, ok := oxlin.RenderEvent(bankfeed.Event{Type: bankfeed.EventActionRequired, Snapshot: snapshot(bankfeed.ChannelSuccess)})
	require.False(t, ok, "a reason that needs nobody")
}

// An event of the whole connection names the channel that started or ended
// last.
func TestEventNamesAChannel(t *testing.T) {
	at := func(minute int) *time.Time {
		v := time.Date(2026, 1, 2, 3, minute, 0, 0, time.UTC)
		return &v
	}
	redirect := func(status bankfeed.ChannelStatus, end *time.Time) bankfeed.Channel {
		return bankfeed.Channel{Mode: bankfeed.Redirect, Status: status, LastEndAt: end}
	}
	embedded := func(status bankfeed.ChannelStatus, end *time.Time) bankfeed.Channel {
		return bankfeed.Channel{Mode: bankfeed.Embedded, Status: status, LastEndAt: end}
	}
	for name, c := range map[string]struct {
		channels []bankfeed.Channel
		named    bankfeed.Mode
		want     string
	}{
		"its own":            {[]bankfeed.Channel{redirect("SUCCESS", at(5)), embedded("SUCCESS", at(1))}, bankfeed.Embedded, "20000"},
		"newest end":         {[]bankfeed.Channel{redirect("SUCCESS", at(1)), embedded("SUCCESS", at(2))}, "", "20000"},
		"first on a tie":     {[]bankfeed.Channel{redirect("SUCCESS", at(1)), embedded("SUCCESS", at(1))}, "", "20001"},
		"ended before never": {[]bankfeed.Channel{redirect("EMPTY", nil), embedded("SUCCESS", at(2))}, "", "20000"},
		"running first":      {[]bankfeed.Channel{redirect("TOKEN_EXPIRED", at(9)), embedded("RUNNING", at(2))}, "", "20000"},
		"neither ended":      {[]bankfeed.Channel{redirect("EMPTY", nil), embedded("EMPTY", nil)}, "", "20001"},
		"none":               {nil, "", "20001"},
	} {
		w, ok := oxlin.RenderEvent(bankfeed.Event{Type: bankfeed.EventSyncStarted, Snapshot: &bankfeed.Snapshot{
			Channel: c.named, Connection: &bankfeed.Connection{ProviderID: "200", Channels: c.channels},
		}})
		require.True(t, ok, name)
		require.Equal(t, c.want, w.ChannelDefinitionID, name)
	}
}

// Whatever state the hub is in, the wire shows one of the proven words.
func TestChannelStatusStaysInTheList(t *testing.T) {
	for _, status := range []bankfeed.ChannelStatus{
		"EMPTY", "RUNNING", "SUCCESS", "PARTIAL_SUCCESS", "AUTH_FAILED", "TOKEN_EXPIRED", "PASSWORD_CHANGE_REQUIRED",
		"USER_ACTION_REQUIRED", "CHALLENGE_REQUIRED", "UNAVAILABLE", "CLOSED", "", "SOMETHING_NEW",
	} {
		for _, last := range []bankfeed.ChannelStatus{"", "SUCCESS", "AUTH_FAILED", "UNAVAILABLE", "RUNNING"} {
			w := oxlin.RenderConnection(bankfeed.Connection{Channels: []bankfeed.Channel{{Status: status, LastStatus: last}}}).Channels[0]
			require.True(t, slices.Contains(oxlin.ChannelStatuses, w.Status), "%s after %s shows %s", status, last, w.Status)
			require.Equal(t, status == bankfeed.ChannelRunning, w.Status == oxlin.ChannelRunning)
		}
	}
}
