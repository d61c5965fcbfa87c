package bankfeed_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
)

func TestHowAConnectionStandsAsASourceOfData(t *testing.T) {
	now := time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)
	channel := func(s bankfeed.ChannelStatus, data bool) bankfeed.Channel {
		c := bankfeed.Channel{Mode: bankfeed.Redirect, Status: s, Failure: &bankfeed.Failure{Reason: bankfeed.FailureReason(s)}}
		if data {
			c.LastSuccessAt = &now
		}
		return c
	}
	const (
		running, succeeded, needed, failed = bankfeed.OutcomeRunning, bankfeed.OutcomeSucceeded, bankfeed.OutcomeUserNeeded, bankfeed.OutcomeFailed
		down, lost, wrong                  = bankfeed.ChannelUnavailable, bankfeed.ChannelTokenExpired, bankfeed.ChannelAuthFailed
	)
	for name, c := range map[string]struct {
		channels []bankfeed.Channel
		want     bankfeed.OutcomeStatus
		needed   bool
	}{
		"imported":                           {nil, succeeded, false},
		"one runs":                           {[]bankfeed.Channel{channel(bankfeed.ChannelRunning, true), channel(bankfeed.ChannelSuccess, true)}, running, false},
		"success":                            {[]bankfeed.Channel{channel(bankfeed.ChannelSuccess, true)}, succeeded, false},
		"in part":                            {[]bankfeed.Channel{channel(bankfeed.ChannelPartialSuccess, true)}, succeeded, false},
		"one succeeds, one needs its user":   {[]bankfeed.Channel{channel(bankfeed.ChannelSuccess, true), channel(lost, true)}, succeeded, true},
		"down, with data":                    {[]bankfeed.Channel{channel(down, true)}, succeeded, false},
		"down, without":                      {[]bankfeed.Channel{channel(down, false)}, failed, false},
		"down with data, one needs its user": {[]bankfeed.Channel{channel(down, true), channel(wrong, false)}, succeeded, true},
		"needs its user, data or not":        {[]bankfeed.Channel{channel(lost, true)}, needed, true},
		"needs its user, the other is down":  {[]bankfeed.Channel{channel(down, false), channel(wrong, false)}, needed, true},
		"limited before any data":            {[]bankfeed.Channel{channel(bankfeed.ChannelEmpty, false)}, failed, false},
	} {
		t.Run(name, func(t *testing.T) {
			got := (&bankfeed.Connection{Channels: c.channels}).Outcome()
			require.Equal(t, c.want, got.Status)
			require.Equal(t, c.needed, got.UserNeeded)
			switch c.want {
			case needed:
				require.True(t, bankfeed.ChannelStatus(got.Failure.Reason).NeedsUser())
			case failed:
				require.NotNil(t, got.Failure)
			default:
				require.Nil(t, got.Failure)
			}
		})
	}
}

func TestWhatCountsAsImported(t *testing.T) {
	now := time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		conn bankfeed.Connection
		want bool
	}{
		"handed in":             {bankfeed.Connection{}, true},
		"never authorised":      {bankfeed.Connection{Channels: []bankfeed.Channel{{Status: bankfeed.ChannelAuthFailed}}}, false},
		"its user is at it":     {bankfeed.Connection{Channels: []bankfeed.Channel{{Status: bankfeed.ChannelRunning}}}, false},
		"authorised, not read":  {bankfeed.Connection{Channels: []bankfeed.Channel{{Status: bankfeed.ChannelUnavailable, Expires: &now}}}, true},
		"the consent has ended": {bankfeed.Connection{Channels: []bankfeed.Channel{{Status: bankfeed.ChannelTokenExpired, LastSuccessAt: &now}}}, true},
		"closed":                {bankfeed.Connection{Status: bankfeed.ConnectionClosed, Channels: []bankfeed.Channel{{LastSuccessAt: &now}}}, false},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.want, c.conn.Imported()) })
	}
}
