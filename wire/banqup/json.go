package banqup

import (
	"encoding/hex"
	"strconv"
	"unicode/utf8"

	"github.com/bankfeed/bankfeed"
)

// writer appends the members of JSON objects in the order in which they are
// called, and puts commas where they belong.
type writer struct {
	b         []byte
	omitNulls bool
	asText    bool // decimals
}

// open begins the object that is the value of a member.
func (w *writer) open(name string) {
	w.name(name)
	w.b = append(w.b, '{')
}

func (w *writer) close() { w.b = append(w.b, '}') }

// next puts a comma unless this is the first of its object or array.
func (w *writer) next() {
	if c := w.b[len(w.b)-1]; c != '{' && c != '[' {
		w.b = append(w.b, ',')
	}
}

func (w *writer) name(name string) {
	w.next()
	w.b = append(append(append(w.b, '"'), name...), '"', ':')
}

func (w *writer) null(name string) {
	if !w.omitNulls {
		w.raw(name, "null")
	}
}

// raw writes what is JSON already.
func (w *writer) raw(name, json string) {
	w.name(name)
	w.b = append(w.b, json...)
}

func (w *writer) text(name, s string) {
	w.name(name)
	w.b = appendText(w.b, s)
}

// textOrNull writes null for the empty text.
func (w *writer) textOrNull(name, s string) {
	if s == "" {
		w.null(name)
		return
	}
	w.text(name, s)
}

func (w *writer) int(name string, n int64) {
	w.name(name)
	w.b = strconv.AppendInt(w.b, n, 10)
}

func (w *writer) uuid(name string, u bankfeed.UUID) {
	w.name(name)
	w.b = appendUUID(w.b, u)
}

// decimal writes the digits of the bank, with its scale and never with an
// exponent.
func (w *writer) decimal(name string, a bankfeed.Amount, absolute bool) {
	w.name(name)
	if w.asText {
		w.b = append(w.b, '"')
	}
	from := len(w.b)
	w.b, _ = a.AppendText(w.b) // never fails
	if absolute && w.b[from] == '-' {
		w.b = append(w.b[:from], w.b[from+1:]...)
	}
	if w.asText {
		w.b = append(w.b, '"')
	}
}

const hexDigits = "0123456789abcdef"

// appendText appends a JSON string in which only what JSON demands is escaped:
// < > & and letters of any script stay as they are. What is not UTF-8 becomes
// the replacement character.
func appendText(b []byte, s string) []byte {
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				b = append(append(b, s[from:i]...), "\uFFFD"...)
				from = i + 1
			}
			i += n
			continue
		}
		if c >= ' ' && c != '"' && c != '\\' {
			i++
			continue
		}
		b = append(b, s[from:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xf])
		}
		i++
		from = i
	}
	return append(append(b, s[from:]...), '"')
}

// appendUUID appends the lower-case form with dashes, in quotes.
func appendUUID(b []byte, u bankfeed.UUID) []byte {
	b = append(b, '"')
	b = append(hex.AppendEncode(b, u[0:4]), '-')
	b = append(hex.AppendEncode(b, u[4:6]), '-')
	b = append(hex.AppendEncode(b, u[6:8]), '-')
	b = append(hex.AppendEncode(b, u[8:10]), '-')
	return append(hex.AppendEncode(b, u[10:16]), '"')
}
