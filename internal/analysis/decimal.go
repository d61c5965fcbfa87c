package analysis

import (
	"github.com/shopspring/decimal"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/finapi"
)

// zero has the scale of most currencies, and any sum keeps the larger scale.
var zero = bankfeed.MustAmount("0.00")

func num(a bankfeed.Amount) finapi.Decimal { return finapi.Decimal{Amount: a} }

func numOf(a bankfeed.Amount) *finapi.Decimal { return &finapi.Decimal{Amount: a} }

// scaled is a × times / by, rounded to the scale of a, half away from zero: the
// only step in which an amount is not exact.
func scaled(a bankfeed.Amount, times, by int) bankfeed.Amount {
	d, err := decimal.NewFromString(a.String())
	if err != nil {
		return zero // an amount's own text is a decimal
	}
	scale := max(2, -d.Exponent())
	out, err := bankfeed.ParseAmount(d.Mul(decimal.NewFromInt(int64(times))).DivRound(decimal.NewFromInt(int64(by)), scale).StringFixed(scale))
	if err != nil {
		return zero // beyond what an amount can be: not from amounts that are
	}
	return out
}

// average is a sum by a count; the zero amount for none.
func average(sum bankfeed.Amount, n int) bankfeed.Amount {
	if n == 0 {
		return zero
	}
	return scaled(sum, 1, n)
}

// size is how much an amount is, without its sign, in ten-thousandths: enough to
// tell whether two are alike. What is larger than anybody pays is one size.
func size(a bankfeed.Amount) int64 {
	var b [64]byte
	text, err := a.AppendText(b[:0])
	if err != nil {
		return 0
	}
	const decimals, largest, scale = 4, 1_000_000_000_000, 10_000
	n, after := int64(0), -1
	for _, c := range text {
		switch {
		case c == '.':
			after = 0
		case c < '0' || c > '9' || after == decimals:
		default:
			if n = n*10 + int64(c-'0'); n > largest {
				return largest * scale
			}
			if after >= 0 {
				after++
			}
		}
	}
	for after = max(after, 0); after < decimals; after++ {
		n *= 10
	}
	return n
}

// within reports whether two sizes differ by no more than a share of b, in
// percent.
func within(a, b int64, percent int64) bool {
	return max(a-b, b-a)*100 <= b*percent
}
