package analysis

import (
	"slices"
	"strings"
	"unicode"
)

// fold writes a text in the form in which words are compared: lower case,
// without accents, ä as ae and ß as ss, and everything that is neither a letter
// nor a digit as one blank. It begins and ends with a blank unless it is empty,
// so that a word is found with the blanks around it.
func fold(texts ...string) string {
	var b strings.Builder
	gap := true
	put := func(s string) {
		if gap {
			b.WriteByte(' ')
			gap = false
		}
		b.WriteString(s)
	}
	for _, s := range texts {
		gap = true
		for _, r := range s {
			switch {
			case r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
				put(string(r))
			case r >= 'A' && r <= 'Z':
				put(string(r + 'a' - 'A'))
			case r < 0x80:
				gap = true
			default:
				if r = unicode.ToLower(r); unicode.Is(unicode.Mn, r) {
					continue // an accent of its own
				}
				if s, ok := folded[r]; ok {
					put(s)
				} else if unicode.IsLetter(r) || unicode.IsDigit(r) {
					put(string(r))
				} else {
					gap = true
				}
			}
		}
	}
	if b.Len() > 0 {
		b.WriteByte(' ')
	}
	return b.String()
}

// folded are the letters of European languages that are not plain ones.
var folded = func() map[rune]string {
	m := map[rune]string{'ä': "ae", 'ö': "oe", 'ü': "ue", 'ß': "ss", 'æ': "ae", 'ø': "oe", 'å': "aa", 'œ': "oe", 'þ': "th", 'ð': "d"}
	for to, from := range map[string]string{"a": "àáâãāăą", "c": "çćĉċč", "d": "ďđ", "e": "èéêëēĕėęě", "g": "ĝğġģ", "i": "ìíîïĩīĭįı", "k": "ķ",
		"l": "ĺļľŀł", "n": "ñńņňŋ", "o": "òóôõōŏő", "r": "ŕŗř", "s": "śŝşšș", "t": "ţťŧț", "u": "ùúûũūŭůűų", "w": "ŵ", "y": "ýÿŷ", "z": "źżž"} {
		for _, r := range from {
			m[r] = to
		}
	}
	return m
}()

// words is a set of patterns that are looked for in folded texts, all at once.
// A pattern's number is its bit.
type words struct {
	texts []string
	ids   map[string]int
	// Patterns that begin with a word are looked up by their first letters at
	// each word of the text, so that a text costs the same with ten patterns as
	// with ten thousand; the others are looked for one by one.
	begin map[string][]int
	loose []int
}

// keyLength is how many letters of its first word a pattern is looked up by.
const keyLength = 4

// add takes a pattern, as rules write it, and returns its number; false if
// nothing of it can be compared.
func (w *words) add(pattern string) (int, bool) {
	text := fold(strings.Trim(pattern, "* "))
	if text == "" {
		return 0, false
	}
	if strings.HasPrefix(strings.TrimSpace(pattern), "*") {
		text = text[1:]
	}
	if strings.HasSuffix(strings.TrimSpace(pattern), "*") {
		text = text[:len(text)-1]
	}
	if id, known := w.ids[text]; known {
		return id, true
	}
	if w.ids == nil {
		w.ids, w.begin = map[string]int{}, map[string][]int{}
	}
	id := len(w.texts)
	w.texts, w.ids[text] = append(w.texts, text), id
	if text[0] == ' ' {
		key := beginning(text[1:])
		w.begin[key] = append(w.begin[key], id)
	} else {
		w.loose = append(w.loose, id)
	}
	return id, true
}

func beginning(s string) string {
	if i := strings.IndexByte(s, ' '); i >= 0 {
		s = s[:i]
	}
	return s[:min(len(s), keyLength)]
}

// find returns the numbers of the patterns that the folded text holds, in
// rising order, in the memory of found.
func (w *words) find(text string, found []int) []int {
	found = found[:0]
	for at := 0; at < len(text)-1; {
		word := text[at+1:]
		key := beginning(word)
		for n := 1; n <= len(key); n++ {
			for _, id := range w.begin[key[:n]] {
				if strings.HasPrefix(text[at:], w.texts[id]) {
					found = append(found, id)
				}
			}
		}
		at += 1 + strings.IndexByte(word, ' ')
	}
	for _, id := range w.loose {
		if strings.Contains(text, w.texts[id]) {
			found = append(found, id)
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}
