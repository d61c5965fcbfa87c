package dialect

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/bankfeed/bankfeed"
)

// check holds a JSON value against a schema and returns what the schema knows
// of it. It names the place at fault and never repeats what stands there.
func check(r huma.Registry, s *huma.Schema, v any, at string) (any, error) {
	if s.Ref != "" {
		s = r.SchemaFromRef(s.Ref)
	}
	switch s.Type {
	case huma.TypeObject:
		return checkObject(r, s, v, at)
	case huma.TypeArray:
		l, ok := v.([]any)
		if !ok {
			return nil, wrong(at, "must be an array")
		}
		if s.MinItems != nil && len(l) < *s.MinItems || s.MaxItems != nil && len(l) > *s.MaxItems {
			return nil, wrong(at, "must be an array with %s entries", between(s.MinItems, s.MaxItems))
		}
		for i := range l {
			var err error
			if l[i], err = check(r, s.Items, l[i], at+"["+strconv.Itoa(i)+"]"); err != nil {
				return nil, err
			}
		}
		return l, nil
	case huma.TypeBoolean:
		if _, ok := v.(bool); !ok {
			return nil, wrong(at, "must be true or false")
		}
		return v, nil
	case huma.TypeInteger, huma.TypeNumber:
		return checkNumber(s, v, at)
	default:
		return checkText(s, v, at)
	}
}

func between(least, most *int) string {
	switch {
	case least == nil:
		return "at most " + strconv.Itoa(*most)
	case most == nil:
		return "at least " + strconv.Itoa(*least)
	}
	return strconv.Itoa(*least) + " to " + strconv.Itoa(*most)
}

func checkObject(r huma.Registry, s *huma.Schema, v any, at string) (any, error) {
	o, ok := v.(map[string]any)
	if !ok {
		return nil, wrong(at, "must be an object")
	}
	known := make(map[string]any, len(o))
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) { // so that of two faults it is always the same one that is told
		if o[name] == nil {
			continue
		}
		m, err := check(r, s.Properties[name], o[name], join(at, name))
		if err != nil {
			return nil, err
		}
		known[name] = m
	}
	for _, name := range s.Required {
		if known[name] == nil {
			return nil, &MissingError{join(at, name)}
		}
	}
	return known, nil
}

// checkNumber: a whole number must also fit what it is read into.
func checkNumber(s *huma.Schema, v any, at string) (any, error) {
	n, ok := v.(json.Number)
	if !ok {
		return nil, wrong(at, "must be a number")
	}
	if s.Type == huma.TypeInteger {
		if _, err := strconv.ParseInt(n.String(), 10, 64); err != nil {
			return nil, wrong(at, "must be a whole number")
		}
	}
	f, err := n.Float64()
	switch {
	case err != nil:
		return nil, wrong(at, "is out of range")
	case s.Minimum != nil && f < *s.Minimum:
		return nil, wrong(at, "must be at least %v", *s.Minimum)
	case s.Maximum != nil && f > *s.Maximum:
		return nil, wrong(at, "must be at most %v", *s.Maximum)
	}
	return n, nil
}

func checkText(s *huma.Schema, v any, at string) (any, error) {
	t, ok := v.(string)
	n := utf8.RuneCountInString(t)
	switch {
	case !ok:
		return nil, wrong(at, "must be a text")
	case s.MinLength != nil && n < *s.MinLength:
		return nil, wrong(at, "must have at least %d characters", *s.MinLength)
	case s.MaxLength != nil && n > *s.MaxLength:
		return nil, wrong(at, "must have at most %d characters", *s.MaxLength)
	case !utf8.ValidString(t) || strings.IndexByte(t, 0) >= 0:
		return nil, wrong(at, "holds characters that are not allowed")
	}
	if s.Pattern != "" && !compiled(s.Pattern).MatchString(t) {
		return nil, wrong(at, "must have the form %s", s.Pattern)
	}
	if len(s.Enum) == 0 {
		return t, nil
	}
	var words []string
	for _, e := range s.Enum {
		word, _ := e.(string)
		if word == t {
			return t, nil
		}
		words = append(words, word)
	}
	return nil, wrong(at, "must be one of %s", strings.Join(words, ", "))
}

// patterns are those of the schemas, by their text.
var patterns sync.Map

func compiled(pattern string) *regexp.Regexp {
	if re, ok := patterns.Load(pattern); ok {
		return re.(*regexp.Regexp) //nolint:forcetypeassert // nothing else is stored
	}
	re := regexp.MustCompile(pattern) // of a struct tag
	patterns.Store(pattern, re)
	return re
}

func wrong(at, format string, args ...any) error {
	if at == "" {
		at = "body"
	}
	return bankfeed.InvalidField(at, format, args...)
}

func join(at, name string) string {
	if at == "" {
		return name
	}
	return at + "." + name
}
