package dialect

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

type checked struct {
	Text   string      `json:"text,omitempty" minLength:"2" maxLength:"3" pattern:"^[a-z]+$"`
	Word   string      `json:"word,omitempty" enum:"one,two"`
	Whole  int64       `json:"whole,omitempty" minimum:"1" maximum:"9"`
	Amount json.Number `json:"amount,omitempty"`
	Yes    bool        `json:"yes,omitempty"`
	List   []string    `json:"list,omitempty" minItems:"1" maxItems:"2" nullable:"false"`
	Inner  struct {
		Needed string `json:"needed"`
	} `json:"inner,omitempty"`
}

func checkJSON(t *testing.T, text string) (any, error) {
	t.Helper()
	r := newRegistry(nil)
	schema := r.Schema(reflect.TypeFor[checked](), true, "")
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var tree any
	require.NoError(t, d.Decode(&tree))
	return check(r, schema, tree, "")
}

func TestCheckKeepsWhatIsKnown(t *testing.T) {
	got, err := checkJSON(t, `{"text":"abc","word":"two","whole":9,"amount":12345678901234567890.10,"yes":false,"list":["x"],"inner":{"needed":"y","more":1},"other":[{}],"extra":null}`)
	require.NoError(t, err)
	raw, err := json.Marshal(got)
	require.NoError(t, err)
	require.JSONEq(t, `{"text":"abc","word":"two","whole":9,"amount":12345678901234567890.10,"yes":false,"list":["x"],"inner":{"needed":"y"}}`, string(raw))
	require.Contains(t, string(raw), "12345678901234567890.10", "every digit")
	_, err = checkJSON(t, `{"text":null,"inner":null,"list":null,"amount":null}`)
	require.NoError(t, err, "null is as good as absent")
}

func TestCheckNamesThePlace(t *testing.T) {
	for text, want := range map[string]string{
		`[]`:                                "body: must be an object",
		`{"text":1}`:                        "text: must be a text",
		`{"text":"a"}`:                      "text: must have at least 2 characters",
		`{"text":"abcd"}`:                   "text: must have at most 3 characters",
		`{"text":"a1"}`:                     "text: must have the form ^[a-z]+$",
		`{"word":"three"}`:                  "word: must be one of one, two",
		`{"whole":"1"}`:                     "whole: must be a number",
		`{"whole":1.5}`:                     "whole: must be a whole number",
		`{"whole":1e2}`:                     "whole: must be a whole number",
		`{"whole":99999999999999999999}`:    "whole: must be a whole number",
		`{"whole":0}`:                       "whole: must be at least 1",
		`{"whole":10}`:                      "whole: must be at most 9",
		`{"amount":"1"}`:                    "amount: must be a number",
		`{"amount":1e999}`:                  "amount: is out of range",
		`{"yes":"true"}`:                    "yes: must be true or false",
		`{"list":{}}`:                       "list: must be an array",
		`{"list":[]}`:                       "list: must be an array with 1 to 2 entries",
		`{"list":["a",2]}`:                  "list[1]: must be a text",
		`{"list":["a\u0000"]}`:              "list[0]: holds characters that are not allowed",
		`{"inner":{}}`:                      "inner.needed is missing",
		`{"inner":{"needed":{"needed":1}}}`: "inner.needed: must be a text",
	} {
		_, err := checkJSON(t, text)
		require.EqualError(t, err, want, text)
	}
}
