package masstransit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// token is what a JSON value is.
type token byte

const (
	tokenMissing token = iota // no value at all
	tokenNull
	tokenBool
	tokenNumber
	tokenString
	tokenArray
	tokenObject
)

var tokenNames = [...]string{"nothing", "null", "a boolean", "a number", "a string", "an array", "an object"}

func (t token) String() string { return tokenNames[t] }

// value is a JSON value with everything that a map would hide: the order of
// members, repeated names, numbers as they are written.
type value struct {
	token   token
	text    string // of a string, number or boolean
	items   []value
	members []pair
}

type pair struct {
	name  string
	value value
}

var errUTF8 = errors.New("the body is not UTF-8")

// parse reads a whole document. Comments and trailing commas, which .NET
// tolerates, are refused: other readers do not.
func parse(body []byte) (value, error) {
	if !utf8.Valid(body) {
		return value{}, errUTF8
	}
	if !json.Valid(body) { // the token reader alone forgives some mistakes
		var any json.RawMessage
		if err := json.Unmarshal(body, &any); err != nil {
			return value{}, fmt.Errorf("the body is not JSON: %w", err)
		}
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	return next(d)
}

func next(d *json.Decoder) (value, error) {
	t, err := d.Token()
	if err != nil {
		return value{}, err
	}
	switch t := t.(type) {
	case nil:
		return value{token: tokenNull}, nil
	case bool:
		return value{token: tokenBool, text: fmt.Sprint(t)}, nil
	case json.Number:
		return value{token: tokenNumber, text: t.String()}, nil
	case string:
		return value{token: tokenString, text: t}, nil
	case json.Delim:
		if t == '[' {
			return array(d)
		}
		return object(d)
	default:
		return value{}, fmt.Errorf("unexpected %T", t)
	}
}

func array(d *json.Decoder) (value, error) {
	v := value{token: tokenArray}
	for d.More() {
		item, err := next(d)
		if err != nil {
			return value{}, err
		}
		v.items = append(v.items, item)
	}
	_, err := d.Token()
	return v, err
}

func object(d *json.Decoder) (value, error) {
	v := value{token: tokenObject}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return value{}, err
		}
		item, err := next(d)
		if err != nil {
			return value{}, err
		}
		v.members = append(v.members, pair{fmt.Sprint(name), item})
	}
	_, err := d.Token()
	return v, err
}

// get finds a member by path, ignoring case; of a repeated name the last one
// counts, as .NET has it.
func (v value) get(path ...string) value {
	for _, step := range path {
		var found value
		for _, m := range v.members {
			if strings.EqualFold(m.name, step) {
				found = m.value
			}
		}
		v = found
	}
	return v
}

// repeated returns a member name that occurs twice, ignoring case, or "".
func (v value) repeated() string {
	seen := map[string]bool{}
	for _, m := range v.members {
		name := strings.ToLower(m.name)
		if seen[name] {
			return m.name
		}
		seen[name] = true
	}
	return ""
}
