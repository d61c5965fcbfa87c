package bankfeed

import (
	"errors"
	"time"
)

// Date is a calendar day as a bank writes it, YYYY-MM-DD, in no time zone. The
// zero value means that the bank gave none.
type Date string

// ParseDate checks the form and that the day exists. A date-time is cut to its
// day as written: no zone shift ever moves a booking to another day.
func ParseDate(s string) (Date, error) {
	if len(s) > 10 && (s[10] == 'T' || s[10] == ' ' || s[10] == '+' || s[10] == 'Z') {
		s = s[:10]
	}
	if _, err := time.Parse(time.DateOnly, s); err != nil {
		return "", errors.New("not a date of the form YYYY-MM-DD")
	}
	return Date(s), nil
}

// DateOf is the day of t in t's own location.
func DateOf(t time.Time) Date { return Date(t.Format(time.DateOnly)) }

// Time is midnight UTC of the day; the zero time for the zero Date.
func (d Date) Time() time.Time {
	t, _ := time.Parse(time.DateOnly, string(d))
	return t
}

// AddDays moves by n calendar days.
func (d Date) AddDays(n int) Date {
	if d == "" {
		return ""
	}
	return DateOf(d.Time().AddDate(0, 0, n))
}
