package native

import (
	"strconv"
	"time"
)

// Decimal writes a number as an id; nothing for 0.
func Decimal[T ~int64](n T) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(int64(n), 10)
}

// UTC gives a time in UTC, nil for none.
func UTC(t *time.Time) *time.Time {
	if t == nil || t.IsZero() {
		return nil
	}
	u := t.UTC()
	return &u
}

// Each maps a list; the result is never null in JSON.
func Each[T, V any](list []T, view func(T) V) []V {
	out := make([]V, len(list))
	for i, v := range list {
		out[i] = view(v)
	}
	return out
}

// Words turns a list of named strings into plain ones.
func Words[T ~string](list []T) []string {
	return Each(list, func(w T) string { return string(w) })
}
