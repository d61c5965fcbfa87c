package berlingroup

import (
	"errors"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// reader pulls values out of one JSON document (RFC 8259) in a single pass.
// Pages of transactions are the hot path of the hub: encoding/json reads each
// byte of such a page four times to give both fields and the raw record, this
// reads it once. It is strict about syntax and lenient about types, because
// banks send numbers, strings and nulls in each other's place. Numbers stay
// text.
type reader struct {
	data  []byte
	pos   int
	depth int
	seen  map[string]string
}

const (
	maxDepth   = 100
	maxInterns = 256
)

var (
	errSyntax = errors.New("not valid JSON")
	errDepth  = errors.New("nested too deep")
	errObject = errors.New("not an object")
	errArray  = errors.New("not an array")
)

// pathError says where in a document something is wrong. It never repeats a
// value of the document.
type pathError struct {
	path string
	err  error
}

func (e *pathError) Error() string { return "$" + e.path + ": " + e.err.Error() }
func (e *pathError) Unwrap() error { return e.err }

func within(err error, element string) error {
	var p *pathError
	if errors.As(err, &p) {
		p.path = element + p.path
		return p
	}
	return &pathError{path: element, err: err}
}

// member is the path element of a key; a key that is no plain name may hold
// anything and is not repeated.
func member(key []byte) string {
	if len(key) == 0 || len(key) > 64 {
		return ".?"
	}
	for _, c := range key {
		if !(c == '_' || 'a' <= c|0x20 && c|0x20 <= 'z') {
			return ".?"
		}
	}
	return "." + string(key)
}

func newReader(data []byte) *reader {
	if len(data) >= 3 && string(data[:3]) == "\ufeff" {
		data = data[3:]
	}
	return &reader{data: data}
}

// end checks that nothing but blanks follows.
func (r *reader) end() error {
	if r.peek() != 0 || r.pos < len(r.data) {
		return errSyntax
	}
	return nil
}

// peek returns the first byte of the next token, 0 at the end.
func (r *reader) peek() byte {
	for r.pos < len(r.data) {
		switch c := r.data[r.pos]; c {
		case ' ', '\t', '\n', '\r':
			r.pos++
		default:
			return c
		}
	}
	return 0
}

// take consumes c if it is the next token.
func (r *reader) take(c byte) bool {
	if r.peek() != c {
		return false
	}
	r.pos++
	return true
}

// object calls f for each member; f consumes exactly one value. A null has no
// members.
func (r *reader) object(f func(key []byte) error) error {
	switch r.peek() {
	case '{':
	case 'n':
		return r.literal("null")
	default:
		return errObject
	}
	r.pos++
	if r.depth++; r.depth > maxDepth {
		return errDepth
	}
	if r.take('}') {
		r.depth--
		return nil
	}
	for {
		if r.peek() != '"' {
			return errSyntax
		}
		key, plain, err := r.quoted()
		if err != nil {
			return err
		}
		if !plain {
			key = []byte(unquote(key))
		}
		if !r.take(':') {
			return errSyntax
		}
		if err := f(key); err != nil {
			return within(err, member(key))
		}
		if r.take(',') {
			continue
		}
		if r.take('}') {
			r.depth--
			return nil
		}
		return errSyntax
	}
}

// array calls f for each element; f consumes exactly one value. A null has no
// elements.
func (r *reader) array(f func() error) error {
	switch r.peek() {
	case '[':
	case 'n':
		return r.literal("null")
	default:
		return errArray
	}
	r.pos++
	if r.depth++; r.depth > maxDepth {
		return errDepth
	}
	if r.take(']') {
		r.depth--
		return nil
	}
	for i := 0; ; i++ {
		if err := f(); err != nil {
			return within(err, "["+strconv.Itoa(i)+"]")
		}
		if r.take(',') {
			continue
		}
		if r.take(']') {
			r.depth--
			return nil
		}
		return errSyntax
	}
}

// list is array, except that a bare object or text stands for a list of one.
func (r *reader) list(f func() error) error {
	switch r.peek() {
	case '[', 'n':
		return r.array(f)
	}
	return f()
}

// skip consumes one value of any kind.
func (r *reader) skip() error {
	switch c := r.peek(); {
	case c == '"':
		_, _, err := r.quoted()
		return err
	case c == '{':
		return r.object(func([]byte) error { return r.skip() })
	case c == '[':
		return r.array(r.skip)
	default:
		_, err := r.scalar()
		return err
	}
}

// text reads a string with NUL characters taken out, which no database
// column for text accepts, or the token of a number or a boolean. Null is "".
// An object or array is passed over and gives "".
func (r *reader) text() (string, error) {
	b, plain, err := r.textBytes()
	if err != nil {
		return "", err
	}
	if plain {
		return string(b), nil
	}
	return unquote(b), nil
}

// word is text for values that come again and again in one document.
func (r *reader) word() (string, error) {
	b, plain, err := r.textBytes()
	if err != nil || len(b) == 0 {
		return "", err
	}
	if !plain {
		return unquote(b), nil
	}
	if s, ok := r.seen[string(b)]; ok {
		return s, nil
	}
	s := string(b)
	if len(r.seen) < maxInterns {
		if r.seen == nil {
			r.seen = make(map[string]string)
		}
		r.seen[s] = s
	}
	return s, nil
}

func (r *reader) textBytes() (b []byte, plain bool, err error) {
	switch c := r.peek(); c {
	case '"':
		return r.quoted()
	case '{', '[':
		return nil, true, r.skip()
	default:
		b, err = r.scalar()
		if err != nil || c == 'n' {
			return nil, true, err
		}
		return b, true, nil
	}
}

// quoted reads a string token and returns what is between the quotes. It is
// plain if that needs no decoding.
func (r *reader) quoted() (b []byte, plain bool, err error) {
	r.pos++
	start := r.pos
	ascii, escaped := true, false
	for i := start; i < len(r.data); i++ {
		switch c := r.data[i]; {
		case c == '"':
			r.pos = i + 1
			b = r.data[start:i]
			return b, !escaped && (ascii || utf8.Valid(b)), nil
		case c == '\\':
			n := escapeLength(r.data[i:])
			if n == 0 {
				return nil, false, errSyntax
			}
			escaped = true
			i += n - 1
		case c < 0x20:
			return nil, false, errSyntax
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	return nil, false, errSyntax
}

// escapeLength is the length of the escape sequence that b begins with, 0 if
// it is none.
func escapeLength(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if _, ok := hex4(b); ok {
			return 6
		}
	}
	return 0
}

func hex4(b []byte) (rune, bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	var v rune
	for _, c := range b[2:6] {
		v <<= 4
		switch {
		case '0' <= c && c <= '9':
			v |= rune(c - '0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			v |= rune(c|0x20-'a') + 10
		default:
			return 0, false
		}
	}
	return v, true
}

// unquote decodes the inside of a checked string token. What is not valid
// UTF-8 or half of a surrogate pair becomes U+FFFD, a NUL disappears.
func unquote(b []byte) string {
	var s strings.Builder
	s.Grow(len(b))
	for i := 0; i < len(b); {
		switch c := b[i]; {
		case c == '\\':
			if b[i+1] != 'u' {
				s.WriteByte(escapes[b[i+1]])
				i += 2
				continue
			}
			v, _ := hex4(b[i:])
			i += 6
			if utf16.IsSurrogate(v) {
				low, ok := hex4(b[i:])
				if v = utf16.DecodeRune(v, low); ok && v != utf8.RuneError {
					i += 6
				}
			}
			if v != 0 {
				s.WriteRune(v)
			}
		case c < utf8.RuneSelf:
			s.WriteByte(c)
			i++
		default:
			v, n := utf8.DecodeRune(b[i:])
			s.WriteRune(v)
			i += n
		}
	}
	return s.String()
}

var escapes = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// scalar reads a number, true, false or null and returns its token.
func (r *reader) scalar() ([]byte, error) {
	c, start := r.peek(), r.pos
	var err error
	switch c {
	case 'n':
		err = r.literal("null")
	case 't':
		err = r.literal("true")
	case 'f':
		err = r.literal("false")
	default:
		err = r.number()
	}
	return r.data[start:r.pos], err
}

func (r *reader) literal(word string) error {
	if len(r.data)-r.pos < len(word) || string(r.data[r.pos:r.pos+len(word)]) != word {
		return errSyntax
	}
	r.pos += len(word)
	return nil
}

func (r *reader) number() error {
	if r.at('-') {
		r.pos++
	}
	if r.at('0') {
		r.pos++
	} else if r.digits() == 0 {
		return errSyntax
	}
	if r.at('.') {
		r.pos++
		if r.digits() == 0 {
			return errSyntax
		}
	}
	if r.at('e') || r.at('E') {
		r.pos++
		if r.at('+') || r.at('-') {
			r.pos++
		}
		if r.digits() == 0 {
			return errSyntax
		}
	}
	return nil
}

func (r *reader) at(c byte) bool { return r.pos < len(r.data) && r.data[r.pos] == c }

func (r *reader) digits() int {
	start := r.pos
	for r.pos < len(r.data) && '0' <= r.data[r.pos] && r.data[r.pos] <= '9' {
		r.pos++
	}
	return r.pos - start
}
