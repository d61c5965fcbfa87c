package oauth

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"unicode/utf8"
)

// maxBody bounds a request body, in bytes.
const maxBody = 64 << 10

// names are the parameters that are looked at. Others, such as Oxlin's
// provider, are ignored (RFC 6749, section 3.2).
var names = []string{"grant_type", "scope", "client_id", "client_secret", "username", "password", "refresh_token", "token"}

// params are those of names that were given and not empty.
type params map[string]string

// readBody reads a bounded body with one of the two readers below.
func readBody(w http.ResponseWriter, r *http.Request, read func([]byte) (params, *fault)) (params, *fault) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, &fault{status: http.StatusRequestEntityTooLarge, code: "invalid_request", text: "the body is larger than 64 KiB"}
	case err != nil:
		return nil, invalidRequest("the body cannot be read")
	}
	return read(body)
}

// readAny reads JSON if the body begins like it, else a form.
func readAny(body []byte) (params, *fault) {
	if looksLikeJSON(body) {
		return readJSON(body)
	}
	return readForm(body)
}

func looksLikeJSON(body []byte) bool {
	body = bytes.TrimLeft(body, " \t\r\n")
	return len(body) > 0 && (body[0] == '{' || body[0] == '[')
}

// readForm reads application/x-www-form-urlencoded.
func readForm(body []byte) (params, *fault) {
	if looksLikeJSON(body) {
		return nil, invalidRequest("the body must be application/x-www-form-urlencoded")
	}
	values, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, invalidRequest("the body is not a well-formed form")
	}
	p := params{}
	for _, name := range names {
		for _, v := range values[name] {
			if f := p.add(name, v); f != nil {
				return nil, f
			}
		}
		if len(values[name]) > 1 {
			return nil, twice(name)
		}
	}
	return p, nil
}

// readJSON reads an object. null counts as not given.
func readJSON(body []byte) (params, *fault) {
	malformed := invalidRequest("the body is not a well-formed JSON object")
	d := json.NewDecoder(bytes.NewReader(body))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, malformed
	}
	p, seen := params{}, []string(nil)
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, malformed
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, malformed
		}
		known, ok := name.(string)
		if !ok || !slices.Contains(names, known) {
			continue
		}
		if slices.Contains(seen, known) {
			return nil, twice(known)
		}
		seen = append(seen, known)
		var text string
		if err := json.Unmarshal(value, &text); err != nil {
			return nil, invalidRequest(known + " must be a string")
		}
		if f := p.add(known, text); f != nil {
			return nil, f
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, malformed
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, malformed
	}
	return p, nil
}

func twice(name string) *fault { return invalidRequest(name + " is given more than once") }

func (p params) add(name, value string) *fault {
	if !utf8.ValidString(value) {
		return invalidRequest(name + " is not UTF-8")
	}
	if value != "" {
		p[name] = value
	}
	return nil
}
