package bankfeed

import (
	"bytes"
	"errors"
	"strconv"
	"strings"

	"github.com/shopspring/decimal"
)

// Amount is an exact decimal that keeps the scale it was written with: "10.00"
// stays "10.00". It never passes through binary floating point. The zero value
// is "0".
type Amount struct{ d decimal.Decimal }

// Bounds of an amount. Berlin Group allows 14 digits before the point and 3
// after it; camt statements carry up to 5 decimals. The bounds leave room and
// keep a hostile exponent from becoming a megabyte of zeros.
const (
	maxAmountDigits   = 30
	maxAmountDecimals = 12
)

var errAmount = errors.New("not a decimal amount")

// ParseAmount reads a JSON number or the text inside a JSON string. A sign and
// an exponent are accepted, surrounding blanks too; anything else is an error
// that does not repeat the input.
func ParseAmount(s string) (Amount, error) {
	s = strings.TrimSpace(s)
	if s == "" || len(s) > 2*maxAmountDigits {
		return Amount{}, errAmount
	}
	if s[0] == '+' && len(s) > 1 && (s[1] == '+' || s[1] == '-') {
		return Amount{}, errAmount
	}
	d, err := decimal.NewFromString(strings.TrimPrefix(s, "+"))
	if err != nil {
		return Amount{}, errAmount
	}
	if d.Exponent() > maxAmountDigits || d.Exponent() < -maxAmountDecimals {
		return Amount{}, errAmount
	}
	if d.Exponent() > 0 {
		d = d.Add(decimal.Zero) // "1E3" is written 1000
	}
	if d.NumDigits() > maxAmountDigits {
		return Amount{}, errAmount
	}
	return Amount{d}, nil
}

// MustAmount is ParseAmount for constants in tests and tables; it panics.
func MustAmount(s string) Amount {
	a, err := ParseAmount(s)
	if err != nil {
		panic("bankfeed: " + s + " is " + err.Error())
	}
	return a
}

// String writes plain digits with the scale that was read.
func (a Amount) String() string {
	if e := a.d.Exponent(); e < 0 {
		return a.d.StringFixed(-e)
	}
	return a.d.String()
}

// AppendText implements encoding.TextAppender: what String writes, without
// garbage for amounts of common size.
func (a Amount) AppendText(b []byte) ([]byte, error) {
	e := -int(a.d.Exponent())
	if e < 0 || a.d.NumDigits() > 18 {
		return append(b, a.String()...), nil
	}
	n := a.d.CoefficientInt64()
	if n < 0 {
		b, n = append(b, '-'), -n
	}
	digits := len(strconv.AppendInt(b, n, 10)) - len(b)
	for ; digits <= e; digits++ {
		b = append(b, '0') // up to the one before the point
	}
	b = strconv.AppendInt(b, n, 10)
	if e > 0 {
		b = append(b, 0)
		point := len(b) - 1 - e
		copy(b[point+1:], b[point:])
		b[point] = '.'
	}
	return b, nil
}

// Equal compares the value: 1.0 equals 1.00.
func (a Amount) Equal(b Amount) bool { return a.d.Equal(b.d) }

// Cmp compares the value: -1, 0 or 1.
func (a Amount) Cmp(b Amount) int { return a.d.Cmp(b.d) }

// Sign is -1, 0 or 1.
func (a Amount) Sign() int { return a.d.Sign() }

// Neg turns the sign around and keeps the scale.
func (a Amount) Neg() Amount { return Amount{a.d.Neg()} }

// Abs drops the sign and keeps the scale.
func (a Amount) Abs() Amount { return Amount{a.d.Abs()} }

// Add adds exactly; the larger scale of the two is kept.
func (a Amount) Add(b Amount) Amount { return Amount{a.d.Add(b.d)} }

// Sub subtracts exactly; the larger scale of the two is kept.
func (a Amount) Sub(b Amount) Amount { return Amount{a.d.Sub(b.d)} }

// Canonical is the shortest text of the value, the same for 1.0 and 1.00: for
// comparing and fingerprints, never for display.
func (a Amount) Canonical() string { return a.d.String() }

// MarshalText implements encoding.TextMarshaler; in JSON an Amount is a string.
func (a Amount) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalJSON accepts the string and the number form.
func (a *Amount) UnmarshalJSON(b []byte) (err error) {
	*a, err = ParseAmount(string(bytes.Trim(b, `"`)))
	return err
}

// Money is an amount in a currency (ISO 4217 code, upper case).
type Money struct {
	Amount   Amount `json:"amount"`
	Currency string `json:"currency"`
}

// Equal compares value and currency; the scale does not matter.
func (m Money) Equal(o Money) bool { return m.Currency == o.Currency && m.Amount.Equal(o.Amount) }
