package banqup_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

var update = flag.Bool("update", false, "write what is rendered today into the golden files")

// golden is an event as the log keeps it, and the message, or with a delivery
// the envelope, that must become of it for ever. Want is null for an event that
// gives none.
type golden struct {
	Event struct {
		Epoch    bankfeed.Epoch     `json:"epoch"`
		Tenant   bankfeed.TenantID  `json:"tenant"`
		Position bankfeed.Position  `json:"position"`
		Type     bankfeed.EventType `json:"type"`
		At       time.Time          `json:"at"`
		Account  bankfeed.AccountID `json:"account"`
		Snapshot json.RawMessage    `json:"snapshot"`
	} `json:"event"`
	Settings banqup.Settings `json:"settings,omitzero"`
	Delivery *delivery       `json:"delivery,omitempty"`
	Want     json.RawMessage `json:"want"`
}

type delivery struct {
	MessageID bankfeed.UUID `json:"message_id,omitzero"` // the event's own without it
	SentTime  time.Time     `json:"sent_time"`
	Original  bankfeed.UUID `json:"original,omitzero"`
	Queue     string        `json:"queue,omitempty"`
}

func (g golden) event(t *testing.T) *bankfeed.Event {
	e := &bankfeed.Event{Epoch: g.Event.Epoch, Tenant: g.Event.Tenant, Position: g.Event.Position, Type: g.Event.Type, At: g.Event.At, Account: g.Event.Account}
	require.NoError(t, json.Unmarshal(g.Event.Snapshot, &e.Snapshot))
	return e
}

func (g golden) render(t *testing.T) []byte {
	e := g.event(t)
	got, err := banqup.AppendMessage(nil, e, g.Settings)
	if err != nil {
		require.Empty(t, got)
		return []byte("null")
	}
	if g.Delivery == nil {
		return got
	}
	k, ok := banqup.KindOf(e.Type)
	require.True(t, ok)
	d := banqup.Delivery{MessageID: g.Delivery.MessageID, SentTime: g.Delivery.SentTime, Original: g.Delivery.Original, Queue: g.Delivery.Queue}
	if d.MessageID == (bankfeed.UUID{}) {
		d.MessageID = e.ID()
	}
	b := bus
	b.OmitNulls = g.Settings.OmitNulls
	return b.AppendEnvelope(nil, k, d, got)
}

// goldens reads all of them, by name.
func goldens(t *testing.T) map[string]golden {
	files, err := filepath.Glob("testdata/*.json")
	require.NoError(t, err)
	all := map[string]golden{}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		require.NoError(t, err)
		var g golden
		require.NoError(t, json.Unmarshal(raw, &g), file)
		all[filepath.Base(file)] = g
	}
	require.NotEmpty(t, all)
	return all
}

func TestGolden(t *testing.T) {
	for name, g := range goldens(t) {
		t.Run(name, func(t *testing.T) {
			got := g.render(t)
			if *update {
				g.Want = got
				var b bytes.Buffer
				w := json.NewEncoder(&b)
				w.SetEscapeHTML(false) // < > & are raw on the wire
				w.SetIndent("", "  ")
				require.NoError(t, w.Encode(g))
				require.NoError(t, os.WriteFile(filepath.Join("testdata", name), b.Bytes(), 0o600))
				return
			}
			var want bytes.Buffer
			require.NoError(t, json.Compact(&want, g.Want))
			require.Equal(t, want.String(), string(got))
		})
	}
}

// There is a golden file for every event that has a message, and with schema 1,
// the form in which the first events were written.
func TestGoldenCoversEveryMessage(t *testing.T) {
	seen := map[bankfeed.EventType]bool{}
	for name, g := range goldens(t) {
		if string(g.Want) == "null" {
			continue
		}
		seen[g.Event.Type] = true
		var s bankfeed.Snapshot
		require.NoError(t, json.Unmarshal(g.Event.Snapshot, &s))
		require.Equal(t, 1, s.Schema, name)
	}
	var all []bankfeed.EventType
	for _, i := range bankfeed.EventTypes {
		_, ok := banqup.KindOf(i.Type)
		require.Equal(t, ok, seen[i.Type], i.Type)
		if ok {
			all = append(all, i.Type)
		}
	}
	require.Len(t, all, 12)
	require.Len(t, slices.Compact(slices.Sorted(slices.Values(banqup.Kinds))), 5)
}
