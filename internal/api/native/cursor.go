package native

import (
	"encoding/base64"
	"strings"

	"github.com/bankfeed/bankfeed"
	wire "github.com/bankfeed/bankfeed/wire/native"
)

// Cursors of lists name the last item of a page, so that a list that grows or
// shrinks between two pages neither repeats nor skips an item. They look opaque
// to keep clients from computing them.

var errCursor = bankfeed.InvalidField("query.after", "expected the value of next from the page before")

func numberCursor[T ~int64](n T) string {
	return base64.RawURLEncoding.EncodeToString([]byte(wire.Decimal(n)))
}

func readNumberCursor[T ~int64](s string) (T, error) {
	if s == "" {
		return 0, nil
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		return 0, errCursor
	}
	n, ok := bankfeed.ParseNumber(string(b))
	if !ok {
		return 0, errCursor
	}
	return T(n), nil
}

func transactionCursor(t bankfeed.Transaction) string {
	return base64.RawURLEncoding.EncodeToString([]byte(string(t.Day()) + "." + wire.Decimal(t.ID)))
}

func readTransactionCursor(s string) (bankfeed.TransactionKey, error) {
	var none bankfeed.TransactionKey
	if s == "" {
		return none, nil
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		return none, errCursor
	}
	day, id, _ := strings.Cut(string(b), ".")
	n, ok := bankfeed.ParseNumber(id)
	d, err := bankfeed.ParseDate(day)
	if !ok || err != nil || string(d) != day {
		return none, errCursor
	}
	return bankfeed.TransactionKey{Day: d, ID: bankfeed.TransactionID(n)}, nil
}
