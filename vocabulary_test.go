package bankfeed_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/bankfeed/bankfeed"
)

func TestAmountsKeepWhatTheBankWrote(t *testing.T) {
	for in, want := range map[string]string{
		"10.00": "10.00", "-0.10": "-0.10", "0": "0", "+7.5": "7.5", "1E3": "1000", "1.5e2": "150", "12e-1": "1.2",
		"12345678901234567.890": "12345678901234567.890", "0.12345": "0.12345",
		"0.000": "0.000", "-0.00": "0.00", "-5": "-5", "-0.000000000001": "-0.000000000001", "999999999999999999.5": "999999999999999999.5",
	} {
		a, err := bankfeed.ParseAmount(in)
		if err != nil || a.String() != want {
			t.Errorf("ParseAmount(%q) = %q, %v; want %q", in, a, err, want)
		}
		if text, err := a.AppendText([]byte("x")); err != nil || string(text) != "x"+want {
			t.Errorf("AppendText of %q wrote %q, %v", in, text, err)
		}
		var back bankfeed.Amount
		if text, err := json.Marshal(a); err != nil || json.Unmarshal(text, &back) != nil || back.String() != want {
			t.Errorf("%q came back from JSON as %q", want, back)
		}
		if json.Unmarshal([]byte(want), &back) != nil || back.String() != want {
			t.Errorf("the number token %s was read as %q", want, back)
		}
	}
	for _, in := range []string{"", "abc", "1,5", "1e1000000000", "NaN", "0x10", strings.Repeat("9", 31), "1.0000000000001", "1 2", "--1", "+-1", "++1", ".-1"} {
		if a, err := bankfeed.ParseAmount(in); err == nil {
			t.Errorf("ParseAmount(%q) = %q, want an error", in, a)
		} else if len(in) > 2 && strings.Contains(err.Error(), in) {
			t.Errorf("the error repeats the input %q", in)
		}
	}
	if a, err := bankfeed.ParseAmount(" 3 "); err != nil || a.String() != "3" {
		t.Errorf("surrounding blanks: %s, %v", a, err)
	}
	if !bankfeed.MustAmount("1.0").Equal(bankfeed.MustAmount("1.00")) {
		t.Error("the scale must not matter when amounts are compared")
	}
}

func FuzzParseAmount(f *testing.F) {
	for _, s := range []string{"1.50", "-3", "1E5", "9e-12", "00.1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := bankfeed.ParseAmount(s)
		if err != nil {
			return
		}
		if b, err := bankfeed.ParseAmount(a.String()); err != nil || b.String() != a.String() || !a.Equal(b) {
			t.Errorf("%q became %q and then %q (%v)", s, a, b, err)
		}
		if b, err := a.AppendText(nil); err != nil || string(b) != a.String() {
			t.Errorf("%q is %q and %q (%v)", s, a, b, err)
		}
	})
}

func TestDatesAreNotShifted(t *testing.T) {
	for in, want := range map[string]bankfeed.Date{"2026-03-01": "2026-03-01", "2026-03-01T23:30:00-05:00": "2026-03-01",
		"2026-03-01T00:00:00": "2026-03-01", "2026-03-01Z": "2026-03-01"} {
		if d, err := bankfeed.ParseDate(in); err != nil || d != want {
			t.Errorf("ParseDate(%q) = %q, %v", in, d, err)
		}
	}
	for _, in := range []string{"", "2026-02-30", "01.03.2026", "2026-3-1", "20260301", "2026-03-01x"} {
		if d, err := bankfeed.ParseDate(in); err == nil {
			t.Errorf("ParseDate(%q) = %q, want an error", in, d)
		}
	}
	if d := bankfeed.Date("2024-02-28").AddDays(2); d != "2024-03-01" {
		t.Error(d)
	}
}

func TestUUIDsNameNumbers(t *testing.T) {
	in := bankfeed.Installation{Born: time.UnixMilli(1_760_000_000_123)}
	u := in.UUID(bankfeed.KindAccount, 7, 42)
	if n, ok := in.Number(u, bankfeed.KindAccount, 7); !ok || n != 42 {
		t.Errorf("%s names %d, %t", u, n, ok)
	}
	parsed, err := bankfeed.ParseUUID(strings.ToUpper(u.String()))
	if err != nil || parsed != u {
		t.Errorf("%s was read as %s (%v)", u, parsed, err)
	}
	for what, ok := range map[string]bool{
		"another tenant's":       second(in.Number(u, bankfeed.KindAccount, 8)),
		"another kind's":         second(in.Number(u, bankfeed.KindUser, 7)),
		"another installation's": second(bankfeed.Installation{Born: time.UnixMilli(1)}.Number(u, bankfeed.KindAccount, 7)),
		"a random":               second(in.ParseID("7d810b01-437f-4f34-bcf0-74b719ec7596", bankfeed.KindAccount, 7)),
		"a negative":             second(in.ParseID("-1", bankfeed.KindAccount, 7)),
		"a padded":               second(in.ParseID("042", bankfeed.KindAccount, 7)),
		"a huge":                 second(in.ParseID("99999999999999999999", bankfeed.KindAccount, 7)),
	} {
		if ok {
			t.Errorf("%s id was accepted", what)
		}
	}
	if k := in.UUID(bankfeed.KindConsent, 7, 4); u.Sibling(bankfeed.KindConsent, 4) != k {
		t.Errorf("the sibling of %s is not %s", u, k)
	}
	if foreign, _ := bankfeed.ParseUUID("7d810b01-437f-4f34-bcf0-74b719ec7596"); foreign.Sibling(bankfeed.KindConsent, 4) != (bankfeed.UUID{}) ||
		u.Sibling(bankfeed.KindConsent, 0) != (bankfeed.UUID{}) {
		t.Error("a foreign id, or nothing, has a sibling")
	}
	e := bankfeed.EventID(1_760_000_000_123, 7, 3, 99)
	if epoch, tenant, lane, p, ok := bankfeed.ParseEventID(e); !ok || epoch != 1_760_000_000_123 || tenant != 7 || lane != 3 || p != 99 {
		t.Errorf("%s names %d %d %d %d", e, epoch, tenant, lane, p)
	}
	if s := e.String(); s[14] != '8' || !strings.ContainsRune("89ab", rune(s[19])) {
		t.Errorf("%s is not a UUID of version 8", s)
	}
}

func second[T any](_ T, ok bool) bool { return ok }

func TestSecretsDoNotShow(t *testing.T) {
	s := struct {
		Token bankfeed.Secret `json:"token"`
	}{"hunter2"}
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, shown := range []string{fmt.Sprint(s), fmt.Sprintf("%+v", s), fmt.Sprintf("%#v", s), s.Token.String(), fmt.Sprintf("%q", s.Token), string(text)} {
		if strings.Contains(shown, "hunter2") {
			t.Errorf("shown: %s", shown)
		}
	}
}

// The examples of the vendor's error page (Oxlin), and the hub's own additions.
func TestConnectionStatusIsDerived(t *testing.T) {
	for _, c := range []struct {
		channels string
		want     bankfeed.ConnectionStatus
	}{
		{"SUCCESS TOKEN_EXPIRED", bankfeed.ConnectionFailed},
		{"RUNNING TOKEN_EXPIRED", bankfeed.ConnectionRunning},
		{"SUCCESS PARTIAL_SUCCESS", bankfeed.ConnectionPartialSuccess},
		{"PARTIAL_SUCCESS PARTIAL_SUCCESS", bankfeed.ConnectionPartialSuccess},
		{"SUCCESS SUCCESS", bankfeed.ConnectionSuccess},
		{"SUCCESS EMPTY", bankfeed.ConnectionSuccess},
		{"SUCCESS UNAVAILABLE", bankfeed.ConnectionPartialSuccess},
		{"UNAVAILABLE EMPTY", bankfeed.ConnectionFailed},
		{"UNAVAILABLE USER_ACTION_REQUIRED", bankfeed.ConnectionFailed},
		{"CLOSED CLOSED", bankfeed.ConnectionClosed},
		{"EMPTY EMPTY", bankfeed.ConnectionNone},
		{"", bankfeed.ConnectionNone},
	} {
		var list []bankfeed.Channel
		for _, s := range strings.Fields(c.channels) {
			list = append(list, bankfeed.Channel{Status: bankfeed.ChannelStatus(s)})
		}
		if got := bankfeed.DeriveStatus(list); got != c.want {
			t.Errorf("%q: %s, want %s", c.channels, got, c.want)
		}
	}
}

func TestLimitsAreNeitherSuccessNorFailure(t *testing.T) {
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	c := bankfeed.Channel{Mode: bankfeed.Redirect, Status: bankfeed.ChannelSuccess, Failures: 1}
	c.Start()
	c.Fail(now, &bankfeed.Failure{Reason: bankfeed.FailRateLimited})
	if c.Status != bankfeed.ChannelSuccess || c.Failures != 1 || c.Failure == nil {
		t.Errorf("%+v", c)
	}
	// A renewed channel does not fall back to what its old consent had come to.
	c = bankfeed.Channel{Mode: bankfeed.Redirect, Status: bankfeed.ChannelTokenExpired}
	c.Start()
	c.Authorise(&now)
	c.Fail(now, &bankfeed.Failure{Reason: bankfeed.FailRateLimited})
	if c.Status != bankfeed.ChannelEmpty || c.Action != bankfeed.ActionNone {
		t.Errorf("%+v", c)
	}
}

func TestBackOffDoublesUpToFiveDays(t *testing.T) {
	for n, want := range map[int]time.Duration{0: 2 * time.Hour, 1: 2 * time.Hour, 2: 4 * time.Hour, 4: 16 * time.Hour, 7: 120 * time.Hour, 99: 120 * time.Hour} {
		if got := bankfeed.BackOff(n); got != want {
			t.Errorf("after %d failures: %s, want %s", n, got, want)
		}
	}
}

func TestNextSyncLeavesOutWhoNeedsTheirUser(t *testing.T) {
	daily, soon := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC), time.Date(2026, 3, 1, 3, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		channels []bankfeed.Channel
		want     time.Time
	}{
		{[]bankfeed.Channel{{Status: bankfeed.ChannelSuccess}, {Status: bankfeed.ChannelEmpty}}, daily},
		{[]bankfeed.Channel{{Status: bankfeed.ChannelSuccess}, {Status: bankfeed.ChannelUnavailable, NextTryAt: &soon}}, soon},
		{[]bankfeed.Channel{{Status: bankfeed.ChannelTokenExpired}, {Status: bankfeed.ChannelSuccess}}, daily},
		{[]bankfeed.Channel{{Status: bankfeed.ChannelTokenExpired}, {Status: bankfeed.ChannelEmpty}}, time.Time{}},
	} {
		conn := bankfeed.Connection{Channels: c.channels}
		if got := conn.NextSync(daily); !got.Equal(c.want) {
			t.Errorf("%+v: %s, want %s", c.channels, got, c.want)
		}
	}
}

func TestEventTableIsComplete(t *testing.T) {
	seen := map[bankfeed.EventType]bool{}
	for _, i := range bankfeed.EventTypes {
		if seen[i.Type] || i.Meaning == "" || i.Category == "" {
			t.Errorf("row %+v", i)
		}
		seen[i.Type] = true
	}
}
