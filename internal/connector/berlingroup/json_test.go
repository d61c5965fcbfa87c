package berlingroup

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReaderText(t *testing.T) {
	for in, want := range map[string]string{
		`"plain"`:           "plain",
		`""`:                "",
		`null`:              "",
		`-12.50`:            "-12.50",
		`1E+3`:              "1E+3",
		`true`:              "true",
		`{"a":[1,{"b":2}]}`: "",
		`[1,2]`:             "",
		`"Müller"`:          "Müller",
		`"M\u00fcller\n\/"`: "Müller\n/",
		`"\ud83d\ude00"`:    "😀",
		`"\ud83d!"`:         "\ufffd!",
		`"\ude00\ud83d"`:    "\ufffd\ufffd",
		`"a\u0000b\u0000"`:  "ab",
		"\"a\xffb\"":        "a\ufffdb",
		`"\"\\\b\f\r\t"`:    "\"\\\b\f\r\t",
	} {
		r := newReader([]byte(" \t\r\n" + in + " "))
		got, err := r.text()
		require.NoError(t, err, in)
		require.NoError(t, r.end(), in)
		require.Equal(t, want, got, in)
	}
}

func TestReaderRefuses(t *testing.T) {
	for _, in := range []string{``, ` `, `{`, `[`, `"`, `"a`, `"\x"`, `"\u12"`, `"\u12g4"`, "\"\n\"", `nul`, `tru`, `01`, `-`, `1.`, `.5`, `1e`, `+1`, `NaN`,
		`{"a"}`, `{"a":}`, `{"a":1,}`, `{a:1}`, `[1,]`, `[1 2]`, `{"a":1 "b":2}`, `1 2`, `{}x`, "\x00", `"a"` + "\x00", strings.Repeat("[", maxDepth+1)} {
		r := newReader([]byte(in))
		err := r.skip()
		if err == nil {
			err = r.end()
		}
		require.Error(t, err, in)
	}
}

func TestReaderNamesThePlace(t *testing.T) {
	_, err := decodeReport([]byte(`{"transactions":{"booked":[{"transactionAmount":{"amount":"1"}},{"transactionAmount":{"amount":"12,50"}}]}}`), "EUR")
	require.EqualError(t, err, "$.transactions.booked[1].transactionAmount.amount: not a decimal amount")
	_, err = decodeReport([]byte(`{"transactions":{"booked":[{}]}}`), "EUR")
	require.EqualError(t, err, "$.transactions.booked[0].transactionAmount.amount: no amount")
	_, err = decodeReport([]byte(`{"transactions":{"booked":[7]}}`), "EUR")
	require.EqualError(t, err, "$.transactions.booked[0]: not an object")
	_, err = decodeReport([]byte(`7`), "EUR")
	require.EqualError(t, err, "$: not an object")
	_, err = decodeReport([]byte(`{"DE38 7607 0024 0320 4657 00":[}`), "EUR")
	require.EqualError(t, err, "$.?[0]: not valid JSON", "a key that is data is not repeated")
}

// FuzzReader holds the reader against encoding/json: both take the same
// documents and read the same texts.
func FuzzReader(f *testing.F) {
	for _, s := range []string{`{"a":[1,"x",null,true,{"b":-1.5e3}]}`, `"\ud83d\ude00\u0000é"`, "\"\xff\xc3\"", `[[[]]]`, `{"":""}`, `1`, `-0`, `00`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if strings.HasPrefix(string(data), "\ufeff") {
			return // taken here, refused there
		}
		r := newReader(data)
		err := r.skip()
		if err == nil {
			err = r.end()
		}
		if errors.Is(err, errDepth) {
			return
		}
		if valid := json.Valid(data); valid != (err == nil) {
			t.Fatalf("encoding/json says %v, the reader %v", valid, err)
		}
		var want string
		if err != nil || json.Unmarshal(data, &want) != nil {
			return
		}
		if got, err := newReader(data).text(); err != nil || got != strings.ReplaceAll(want, "\x00", "") {
			t.Fatalf("read %q (%v), want %q", got, err, want)
		}
	})
}
