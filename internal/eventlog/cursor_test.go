package eventlog_test

import (
	"encoding/base64"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/eventlog"
)

func TestCursorText(t *testing.T) {
	for _, c := range []eventlog.Cursor{
		{Epoch: 0, Lanes: []bankfeed.Position{0}},
		{Epoch: 1772442000000, Lanes: []bankfeed.Position{1<<40 - 1}},
	} {
		got, err := eventlog.ParseCursor(c.String())
		require.NoError(t, err)
		require.Equal(t, c, got)
		require.Regexp(t, `^[A-Za-z0-9_-]+$`, c.String())
	}
}

func TestCursorRefusesOtherText(t *testing.T) {
	enc := base64.RawURLEncoding.EncodeToString
	for name, text := range map[string]string{
		"empty":            "",
		"a number":         "42",
		"other version":    enc([]byte{2, 1, 1, 1}),
		"short":            enc([]byte{1, 1, 1}),
		"no lanes":         enc([]byte{1, 1, 0}),
		"too many lanes":   enc([]byte{1, 1, 2, 1, 1}),
		"longer number":    enc([]byte{1, 1, 1, 0x81, 0}),
		"something behind": enc([]byte{1, 1, 1, 1, 0}),
		"beyond an id":     enc([]byte{1, 1, 1, 0x80, 0x80, 0x80, 0x80, 0x80, 0x40}),
		"padded":           enc([]byte{1, 1, 1, 1}) + "==",
		"line break":       enc([]byte{1, 1, 1, 1}) + "\n",
	} {
		_, err := eventlog.ParseCursor(text)
		require.Equal(t, bankfeed.Invalid, bankfeed.ErrorKindOf(err), name)
	}
}

func FuzzParseCursor(f *testing.F) {
	f.Add(eventlog.Cursor{Epoch: 1772442000000, Lanes: []bankfeed.Position{4711}}.String())
	f.Add("")
	f.Add("AQEBAQ==")
	f.Add("AYCAgICAgICAgIAB")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := eventlog.ParseCursor(s)
		if err != nil {
			require.Equal(t, bankfeed.Invalid, bankfeed.ErrorKindOf(err))
			return
		}
		require.Equal(t, s, c.String())
		require.Len(t, c.Lanes, eventlog.Lanes)
		require.GreaterOrEqual(t, c.Lanes[0], bankfeed.Position(0))
	})
}

func TestLaneOfSpreads(t *testing.T) {
	require.Zero(t, eventlog.LaneOf(99, 1))
	var n [4]int
	for u := range 4000 {
		n[eventlog.LaneOf(bankfeed.UserID(u), len(n))]++
	}
	for lane, users := range n {
		require.InDelta(t, 1000, users, 150, "lane %d", lane)
	}
	// Where rows are: these may never change.
	require.Equal(t, []int{15, 1, 14, 13}, []int{eventlog.LaneOf(0, 16), eventlog.LaneOf(1, 16), eventlog.LaneOf(2, 16), eventlog.LaneOf(3, 16)})
}
