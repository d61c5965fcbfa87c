package connector

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

var (
	// An IBAN in one piece or in groups, also one with wrong check digits.
	ibanShape = regexp.MustCompile(`(?i:\b[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}\b)|\b[A-Z]{2}[0-9]{2}(?:[ -][A-Z0-9]{4}){2,7}(?:[ -][A-Z0-9]{1,3})?\b`)
	// Account and card numbers, also in groups.
	numberShape = regexp.MustCompile(`[0-9](?:[ -]?[0-9]){8,}`)
)

// Mask hides account and card numbers in a bank's text but for the last four
// digits, and an IBAN's country. It would rather hide too much.
func Mask(s string) string {
	s = ibanShape.ReplaceAllStringFunc(s, func(m string) string {
		if !strings.ContainsAny(m[4:], "0123456789") {
			return m // a word and a number before ordinary words
		}
		return m[:2] + "****" + lastFour(m)
	})
	return numberShape.ReplaceAllStringFunc(s, func(m string) string { return "****" + lastFour(m) })
}

func lastFour(s string) string {
	s = strings.NewReplacer(" ", "", "-", "").Replace(s)
	return s[len(s)-4:]
}

// Bound cuts a text to at most n bytes, between characters.
func Bound(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
