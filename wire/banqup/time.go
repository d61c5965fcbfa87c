package banqup

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/bankfeed/bankfeed"
)

// What .NET calls a tick: 100 ns, the finest that its times know.
const (
	tick       = 100 * time.Nanosecond
	tickDigits = 7
)

// What a .NET DateTime can hold.
var (
	minTime = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)
	maxTime = time.Date(9999, 12, 31, 23, 59, 59, int(time.Second-tick), time.UTC)
)

// appendTime appends a moment as .NET writes a DateTime in UTC: at most seven
// fraction digits without trailing zeros, and Z. It has no quotes.
func appendTime(b []byte, t time.Time) []byte {
	t = t.UTC()
	if t.Before(minTime) {
		t = minTime
	}
	if t.After(maxTime) {
		t = maxTime
	}
	b = t.AppendFormat(b, time.RFC3339) // ends with Z
	return append(appendFraction(b[:len(b)-1], t.Nanosecond()), 'Z')
}

func appendFraction(b []byte, nanoseconds int) []byte {
	n := nanoseconds / int(tick)
	if n == 0 {
		return b
	}
	digits := tickDigits
	for ; n%10 == 0; n /= 10 {
		digits--
	}
	return appendPadded(append(b, '.'), n, digits)
}

// appendPadded appends a number with leading zeros.
func appendPadded(b []byte, n, digits int) []byte {
	unit := 1
	for ; digits > 1; digits-- {
		unit *= 10
	}
	for ; unit > 0; unit /= 10 {
		b = append(b, byte('0'+n/unit%10))
	}
	return b
}

// appendTimeSpan appends a duration as .NET writes a TimeSpan ("c"):
// [-][d.]hh:mm:ss[.fffffff], the fraction with all seven digits or none.
func appendTimeSpan(b []byte, d time.Duration) []byte {
	ticks := int64(d / tick)
	if ticks < 0 {
		b, ticks = append(b, '-'), -ticks
	}
	const perSecond = int64(time.Second / tick)
	seconds, fraction := ticks/perSecond, int(ticks%perSecond)
	if days := seconds / 86400; days > 0 {
		b = append(strconv.AppendInt(b, days, 10), '.')
	}
	b = append(appendPadded(b, int(seconds/3600%24), 2), ':')
	b = append(appendPadded(b, int(seconds/60%60), 2), ':')
	b = appendPadded(b, int(seconds%60), 2)
	if fraction > 0 {
		b = appendPadded(append(b, '.'), fraction, tickDigits)
	}
	return b
}

func (w *writer) time(name string, t time.Time) {
	w.name(name)
	w.b = append(appendTime(append(w.b, '"'), t), '"')
}

func (w *writer) timeSpan(name string, d time.Duration) {
	w.name(name)
	w.b = append(appendTimeSpan(append(w.b, '"'), d), '"')
}

// day writes midnight UTC of a calendar day: a bare day never moves with a time
// zone. It reports false, and writes nothing, for what is no day.
func (w *writer) day(name string, d bankfeed.Date) bool {
	if !isDay(d) {
		return false
	}
	w.name(name)
	w.b = append(append(append(w.b, '"'), d...), `T00:00:00Z"`...)
	return true
}

func (w *writer) dayOrNull(name string, d bankfeed.Date) {
	if !w.day(name, d) {
		w.null(name)
	}
}

// isDay reports whether d is a day that .NET can hold.
func isDay(d bankfeed.Date) bool {
	if len(d) != len(time.DateOnly) || d[4] != '-' || d[7] != '-' || d[:4] == "0000" {
		return false
	}
	for i, c := range []byte(d) {
		if i != 4 && i != 7 && (c < '0' || c > '9') {
			return false
		}
	}
	if d[8:] >= "01" && d[8:] <= "28" && d[5:7] >= "01" && d[5:7] <= "12" {
		return true
	}
	return !d.Time().IsZero()
}

// Time is a moment as messages have it. It is read with and without a zone; one
// without is UTC.
type Time struct{ time.Time }

// MarshalJSON implements json.Marshaler.
func (t Time) MarshalJSON() ([]byte, error) {
	return append(appendTime([]byte{'"'}, t.Time), '"'), nil
}

var errTime = errors.New("not a time in ISO 8601")

// UnmarshalJSON implements json.Unmarshaler. It leaves null alone.
func (t *Time) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	v, ok := parseTime(strings.Trim(string(b), `"`))
	if !ok {
		return errTime
	}
	t.Time = v
	return nil
}

func parseTime(s string) (time.Time, bool) {
	for _, layout := range [...]string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), true
		}
	}
	return time.Time{}, false
}

// TimeSpan is a duration as messages have it.
type TimeSpan time.Duration

// String writes the form of .NET: 00:00:00.0143177.
func (d TimeSpan) String() string { return string(appendTimeSpan(nil, time.Duration(d))) }

// MarshalText implements encoding.TextMarshaler.
func (d TimeSpan) MarshalText() ([]byte, error) { return appendTimeSpan(nil, time.Duration(d)), nil }

var errTimeSpan = errors.New("not a time span of the form d.hh:mm:ss.fffffff")

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *TimeSpan) UnmarshalText(b []byte) error {
	s, negative := strings.CutPrefix(string(b), "-")
	hours, rest, ok := strings.Cut(s, ":")
	minutes, seconds, ok2 := strings.Cut(rest, ":")
	seconds, fraction, hasFraction := strings.Cut(seconds, ".")
	days, hours2, hasDays := strings.Cut(hours, ".")
	if hasDays {
		hours = hours2
	} else {
		days = "0"
	}
	if !hasFraction {
		fraction = "0"
	}
	fraction += strings.Repeat("0", max(0, tickDigits-len(fraction)))
	var ticks int64
	for _, part := range [...]struct {
		text  string
		unit  time.Duration
		limit uint64
		width int
	}{
		{days, 24 * time.Hour, maxDays + 1, 6}, {hours, time.Hour, 24, 2}, {minutes, time.Minute, 60, 2}, {seconds, time.Second, 60, 2},
		{fraction, tick, uint64(time.Second / tick), tickDigits},
	} {
		n, err := strconv.ParseUint(part.text, 10, 32)
		if err != nil || n >= part.limit || len(part.text) > part.width {
			return errTimeSpan
		}
		ticks += int64(n) * int64(part.unit/tick)
	}
	if !ok || !ok2 || ticks > math.MaxInt64/int64(tick) {
		return errTimeSpan
	}
	if negative {
		ticks = -ticks
	}
	*d = TimeSpan(ticks * int64(tick))
	return nil
}

// maxDays is how many days fit into a time.Duration.
const maxDays = 106751
