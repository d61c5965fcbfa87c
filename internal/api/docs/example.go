package docs

import (
	"encoding/json"
	"slices"
	"strings"
)

// example writes a JSON value that fits a schema, with the examples that the
// schema gives; minimal leaves out what may be left out.
func (r reader) example(s *schema, minimal bool) string {
	var b strings.Builder
	r.write(&b, s, "", minimal, nil)
	return b.String()
}

func (r reader) write(b *strings.Builder, s *schema, indent string, minimal bool, inside []*schema) {
	if s == nil {
		b.WriteString("{}")
		return
	}
	if v, ok := given(s); ok {
		writeJSON(b, v)
		return
	}
	s = r.resolve(s)
	if slices.Contains(inside, s) { // a shape that contains itself
		b.WriteString("{}")
		return
	}
	if alternatives := slices.Concat(s.OneOf, s.AnyOf); len(alternatives) > 0 && len(s.Properties) == 0 {
		r.write(b, alternatives[0], indent, minimal, inside)
		return
	}
	inside = append(slices.Clone(inside), s)
	inner := indent + "  "
	switch {
	case len(s.Properties) > 0:
		sep := "{\n"
		for _, name := range names(s) {
			if minimal && !slices.Contains(s.Required, name) {
				continue
			}
			b.WriteString(sep + inner)
			writeJSON(b, name)
			b.WriteString(": ")
			r.write(b, s.Properties[name], inner, minimal, inside)
			sep = ",\n"
		}
		if sep == "{\n" {
			b.WriteString("{}")
			return
		}
		b.WriteString("\n" + indent + "}")
	case s.Items != nil:
		b.WriteString("[\n" + inner)
		r.write(b, s.Items, inner, minimal, inside)
		b.WriteString("\n" + indent + "]")
	default:
		writeJSON(b, plain(s))
	}
}

func writeJSON(b *strings.Builder, v any) {
	text, err := json.Marshal(v)
	if err != nil { // it came out of JSON
		text = []byte("null")
	}
	b.Write(text)
}

func given(s *schema) (any, bool) {
	switch {
	case s.Example != nil:
		return s.Example, true
	case len(s.Examples) > 0:
		return s.Examples[0], true
	case s.Default != nil:
		return s.Default, true
	case len(s.Enum) > 0:
		return s.Enum[0], true
	}
	return nil, false
}

// plain is a value for a type without an example of its own.
func plain(s *schema) any {
	if slices.Contains(s.Type, "string") {
		switch s.Format {
		case "date-time":
			return "2026-03-01T12:00:00Z"
		case "date":
			return "2026-03-01"
		case "uuid":
			return "018bcfe5-6800-8002-8000-01000000000b"
		case "password":
			return "•••"
		}
		return "…"
	}
	switch {
	case slices.Contains(s.Type, "integer"), slices.Contains(s.Type, "number"):
		return 1
	case slices.Contains(s.Type, "boolean"):
		return true
	}
	return map[string]any{}
}
