package pages

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
)

var languages = []string{"en", "de"}

// weight is how much a browser likes a language (RFC 9110, 12.4.2). Texts of this
// form sort as the numbers do.
var weight = regexp.MustCompile(`^(0(\.[0-9]{0,3})?|1(\.0{0,3})?)$`)

// Language is the one of ours that the browser likes best; English if it likes
// none of them.
func Language(r *http.Request) string {
	best, most := "en", "0.000"
	for part := range strings.SplitSeq(r.Header.Get("Accept-Language"), ",") {
		tag, params, _ := strings.Cut(strings.TrimSpace(part), ";")
		lang, _, _ := strings.Cut(strings.ToLower(tag), "-")
		q, ok := strings.CutPrefix(strings.TrimSpace(params), "q=")
		if !ok {
			q = "1"
		}
		if weight.MatchString(q) && q > most && slices.Contains(languages, lang) {
			best, most = lang, q
		}
	}
	return best
}

// translator looks words up. What the dictionary does not know, as the words of
// a bank, stays as it is.
func translator(lang string) func(string) string {
	if lang != "de" {
		return func(s string) string { return s }
	}
	return func(s string) string {
		if d, ok := german[s]; ok {
			return d
		}
		return s
	}
}
