package masstransit

import (
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Version is a major version of MassTransit.
type Version int

// Versions with a reader of their own: Newtonsoft.Json, which converts a lot, and
// System.Text.Json, which converts nothing.
const (
	V7 Version = 7
	V8 Version = 8
)

// binder reads a payload into a contract. What MassTransit cannot read is an
// error; what it reads although the page promised something else is a breach.
type binder struct {
	version  Version
	doubles  bool // the class declares double where the page says decimal
	breaches []string
	missing  []string // nullable members that are not there at all
}

func (b *binder) breach(path, format string, args ...any) {
	b.breaches = append(b.breaches, path+": "+fmt.Sprintf(format, args...))
}

func (b *binder) bind(v value, n *node, path string) error {
	if v.token == tokenMissing {
		if n.nullable {
			b.missing = append(b.missing, path)
		} else {
			b.breach(path, "missing")
		}
		return nil // the default of its type
	}
	if v.token == tokenNull {
		if n.nullable {
			return nil
		}
		if n.kind.valueType() && b.version == V8 {
			return cannot(v, n.kind, path)
		}
		b.breach(path, "null")
		return nil
	}
	switch n.kind {
	case kindObject:
		return b.object(v, n, path)
	case kindMap:
		return b.dictionary(v, n, path)
	case kindList:
		return b.list(v, n, path)
	default:
		return b.scalar(v, n, path)
	}
}

func (b *binder) object(v value, n *node, path string) error {
	if v.token != tokenObject {
		return cannot(v, n.kind, path)
	}
	if name := v.repeated(); name != "" {
		b.breach(path+"."+name, "twice")
	}
	for _, m := range v.members {
		if n.member(m.name) == nil {
			b.breach(path+"."+m.name, "not on the page")
		} else if !slices.ContainsFunc(n.members, func(x *member) bool { return x.name == m.name }) {
			b.breach(path+"."+m.name, "spelled otherwise on the page")
		}
	}
	for _, m := range n.members {
		if err := b.bind(v.get(m.name), m.node, path+"."+m.name); err != nil {
			return err
		}
	}
	return nil
}

func (b *binder) dictionary(v value, n *node, path string) error {
	if v.token != tokenObject {
		return cannot(v, n.kind, path)
	}
	if name := v.repeated(); name != "" {
		b.breach(path+"."+name, "twice")
	}
	for _, m := range v.members {
		if len(n.element.values) > 0 && !slices.Contains(n.element.values, m.name) {
			b.breach(path+"."+m.name, "not a key of the page")
		}
		if err := b.bind(m.value, n.element, path+"."+m.name); err != nil {
			return err
		}
	}
	return nil
}

func (b *binder) list(v value, n *node, path string) error {
	if v.token != tokenArray {
		return cannot(v, n.kind, path)
	}
	for i, item := range v.items {
		if err := b.bind(item, n.element, path+"["+strconv.Itoa(i)+"]"); err != nil {
			return err
		}
	}
	return nil
}

func (b *binder) scalar(v value, n *node, path string) error {
	if v.token == tokenArray || v.token == tokenObject {
		return cannot(v, n.kind, path)
	}
	switch n.kind {
	case kindInt:
		return b.integer(v, path)
	case kindBool:
		return b.boolean(v, path)
	case kindDecimal:
		return b.decimal(v, path)
	case kindDateTime:
		return b.dateTime(v, path)
	case kindTimeSpan:
		return b.timeSpan(v, path)
	case kindGUID:
		return b.guid(v, path)
	default:
		return b.str(v, n, path)
	}
}

func (b *binder) str(v value, n *node, path string) error {
	if v.token != tokenString {
		if b.version == V8 {
			return cannot(v, n.kind, path)
		}
		b.breach(path, "%s instead of a string", v.token)
	}
	switch {
	case len(n.values) > 0 && !slices.Contains(n.values, v.text):
		b.breach(path, "not a value of the page")
	case n.kind == kindText && v.text == "":
		b.breach(path, "empty")
	case n.kind == kindCurrency && !currencyForm.MatchString(v.text):
		b.breach(path, "not an ISO 4217 code")
	}
	return nil
}

func (b *binder) integer(v value, path string) error {
	if v.token != tokenNumber {
		if b.version == V8 || v.token == tokenBool {
			return cannot(v, kindInt, path)
		}
		b.breach(path, "%s instead of a number", v.token)
	}
	if _, err := strconv.ParseInt(v.text, 10, 32); err != nil {
		return cannot(v, kindInt, path)
	}
	return nil
}

func (b *binder) boolean(v value, path string) error {
	if v.token == tokenBool {
		return nil
	}
	if b.version == V8 {
		return cannot(v, kindBool, path)
	}
	if _, err := strconv.ParseInt(v.text, 10, 64); err != nil && !strings.EqualFold(v.text, "true") && !strings.EqualFold(v.text, "false") {
		return cannot(v, kindBool, path)
	}
	b.breach(path, "%s instead of a boolean", v.token)
	return nil
}

// significant is how many digits every .NET reader keeps of a decimal.
const significant = 28

// maxDecimal is the first whole number that System.Decimal cannot hold.
var maxDecimal = new(big.Rat).SetInt(new(big.Int).Lsh(big.NewInt(1), 96))

func (b *binder) decimal(v value, path string) error {
	switch {
	case v.token == tokenBool:
		return cannot(v, kindDecimal, path)
	case v.token == tokenString && b.doubles && b.version == V8:
		return fmt.Errorf("the JSON value could not be converted to System.Double: a string; path: %s", path)
	case !numberForm.MatchString(v.text):
		return cannot(v, kindDecimal, path)
	}
	n, ok := new(big.Rat).SetString(v.text)
	if !ok || new(big.Rat).Abs(n).Cmp(maxDecimal) >= 0 {
		return cannot(v, kindDecimal, path)
	}
	if strings.ContainsAny(v.text, "eE") {
		b.breach(path, "with an exponent")
	}
	digits := strings.Trim(strings.TrimLeft(strings.ReplaceAll(v.text, ".", ""), "-0"), "-")
	if len(digits) > significant {
		b.breach(path, "more digits than a decimal keeps")
	}
	return nil
}

func (b *binder) dateTime(v value, path string) error {
	if v.token != tokenString || !dateTime(v.text) {
		return cannot(v, kindDateTime, path)
	}
	if !strings.HasSuffix(v.text, "Z") {
		b.breach(path, "not in UTC")
	}
	return nil
}

func (b *binder) timeSpan(v value, path string) error {
	m := timeSpanForm.FindStringSubmatch(v.text)
	if v.token != tokenString || m == nil {
		return cannot(v, kindTimeSpan, path)
	}
	if fraction := m[1]; len(fraction) != 0 && len(fraction) != 7 {
		b.breach(path, "not the constant form of a TimeSpan")
	}
	return nil
}

func (b *binder) guid(v value, path string) error {
	if v.token != tokenString || !guidForm.MatchString(v.text) || b.version == V8 && !dashedForm.MatchString(v.text) {
		return cannot(v, kindGUID, path)
	}
	if !dashedForm.MatchString(v.text) || strings.ToLower(v.text) != v.text {
		b.breach(path, "not in lower case with dashes")
	}
	return nil
}

var (
	currencyForm = regexp.MustCompile(`^[A-Z]{3}$`)
	numberForm   = regexp.MustCompile(`^-?\d+(\.\d+)?([eE][-+]?\d{1,3})?$`)
	dateTimeForm = regexp.MustCompile(`^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2}(\.\d{1,7})?)?(Z|[+-]\d{2}:\d{2})?)?$`)
	timeSpanForm = regexp.MustCompile(`^-?(?:\d{1,8}\.)?(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.(\d{1,7}))?$`)
	guidForm     = regexp.MustCompile(`^(?i:[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\{[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\})$`)
	dashedForm   = regexp.MustCompile(`^(?i:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$`)
)

// dateTime says whether both readers take s: ISO 8601 with at most 7 digits of a
// second, which is all that a DateTime holds.
func dateTime(s string) bool {
	if !dateTimeForm.MatchString(s) {
		return false
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04Z07:00", "2006-01-02T15:04", time.DateOnly} {
		if _, err := time.Parse(layout, s); err == nil {
			return true
		}
	}
	return false
}

func cannot(v value, k kind, path string) error {
	return fmt.Errorf("the JSON value could not be converted to %s: %s; path: %s", names[k], v.token, path)
}
