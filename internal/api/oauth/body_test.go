package oauth

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func FuzzReadBody(f *testing.F) {
	for _, seed := range []string{
		"", "{", "[]", "grant_type=password&username=a%40b&password=%zz", "token=a;b", "scope=%ff", "grant_type=a&grant_type=b",
		`{"grant_type":"password","username":"\u0000","x":[1,{"password":2}]}`, `{"scope":"a","scope":"b"}`, `{"token":"\ud800"}`, " \n{\"client_id\":null} x",
		strings.Repeat(`{"a":`, 2000),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, read := range []func([]byte) (params, *fault){readForm, readAny} {
			p, fault := read(body)
			if fault != nil {
				if p != nil || fault.status != 400 || fault.code != "invalid_request" || fault.text == "" {
					t.Fatalf("refused as %+v, with %d parameters", fault, len(p))
				}
				continue
			}
			for name, value := range p {
				if !slices.Contains(names, name) || value == "" || !utf8.ValidString(value) {
					t.Fatalf("accepted %q = %q", name, value)
				}
			}
		}
	})
}
