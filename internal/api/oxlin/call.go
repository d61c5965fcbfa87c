package oxlin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/access"
)

// call is one request on its way.
type call struct {
	api    *API
	w      http.ResponseWriter
	r      *http.Request
	op     *operation
	token  func(context.Context) (bankfeed.Caller, error) // who calls; a stream asks again
	caller bankfeed.Caller
	query  url.Values

	answered bool // the answer is on its way: an error cannot change it any more
}

func (c *call) ctx() context.Context { return c.r.Context() }

func (c *call) tenant() bankfeed.TenantID { return c.caller.Client.Tenant }

// maxBody is far more than any request of this API needs. Bodies and answers
// must move within ioTimeout, so that nobody holds a connection by being slow.
const (
	maxBody   = 64 << 10
	ioTimeout = 30 * time.Second
)

// readQuery keeps a malformed query from being half understood.
func (c *call) readQuery() (err error) {
	if c.query, err = url.ParseQuery(c.r.URL.RawQuery); err != nil {
		return malformed("the query is not readable")
	}
	return nil
}

// text reads a parameter of the query; empty is absent.
func (c *call) text(p param) (string, error) {
	s := c.query.Get(p.name)
	if s == "" {
		return "", nil
	}
	if _, err := check(nil, p.schema, s, p.name); err != nil {
		return "", err
	}
	return s, nil
}

// integer reads a parameter of the query, or takes its default.
func (c *call) integer(p param) (int, error) {
	s := c.query.Get(p.name)
	if s == "" {
		n, _ := p.schema.Default.(int)
		return n, nil
	}
	n, err := strconv.Atoi(s)
	least, most := int(*p.schema.Minimum), int(*p.schema.Maximum)
	if err != nil || n < least || n > most {
		return 0, bankfeed.InvalidField(p.name, "must be a whole number from %d to %d", least, most)
	}
	return n, nil
}

// list reads a parameter of the query that holds values separated by commas.
func (c *call) list(p param) ([]string, error) {
	s := c.query.Get(p.name)
	if s == "" {
		return nil, nil
	}
	values := strings.Split(s, ",")
	for _, v := range values {
		if _, err := check(nil, p.schema.Items, v, p.name); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// pathID reads an id of the path. What cannot be one names nothing.
func pathID[N ~int64](c *call) (N, error) {
	n, ok := bankfeed.ParseNumber(c.r.PathValue("id"))
	if !ok {
		return 0, bankfeed.ErrNotFound
	}
	return N(n), nil
}

// psu tells about the person in front of the screen, nil if the request does
// not say that there is one.
func (c *call) psu() (*bankfeed.PSU, error) {
	address, agent := c.r.Header.Get(psuAddress.name), c.r.Header.Get(psuAgent.name)
	psu, ok := access.PSU(address, agent)
	if !ok {
		return nil, bankfeed.InvalidField(psuAddress.name, "must be the IP address of the user's device")
	}
	if psu != nil {
		if _, err := check(nil, psuAgent.schema, agent, psuAgent.name); err != nil {
			return nil, err
		}
	}
	return psu, nil
}

// body reads a JSON body into v, whatever its content type says: curl -d calls
// it a form. Members that the schema does not know are ignored, null is as good
// as absent.
func (c *call) body(v any) error {
	// Only a writer without deadlines, as in tests, refuses. The deadline must
	// not stay: it would end the context while a bank is being asked.
	connection := http.NewResponseController(c.w)
	_ = connection.SetReadDeadline(time.Now().Add(ioTimeout))
	raw, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, maxBody))
	_ = connection.SetReadDeadline(time.Time{})
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return bankfeed.Errorf(bankfeed.TooLarge, "the body has more than %d bytes", maxBody)
	case err != nil:
		return malformed("the body could not be read to its end")
	case len(bytes.TrimSpace(raw)) == 0 && c.op.optional:
		return nil
	}
	var tree any
	if !utf8.Valid(raw) || json.Unmarshal(raw, &tree) != nil {
		return malformed("the body is not valid JSON")
	}
	if tree, err = check(c.api.registry, c.op.schema, tree, ""); err != nil {
		return err
	}
	known, err := json.Marshal(tree)
	if err != nil {
		return err
	}
	return json.Unmarshal(known, v) // what passed the schema made from v fits it
}

// check holds a JSON value against a schema and returns what the schema knows
// of it. It names the place at fault and never repeats what stands there.
func check(r huma.Registry, s *huma.Schema, v any, at string) (any, error) {
	if s.Ref != "" {
		s = r.SchemaFromRef(s.Ref)
	}
	switch s.Type {
	case huma.TypeObject:
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
				return nil, missing(join(at, name))
			}
		}
		return known, nil
	case huma.TypeArray:
		l, ok := v.([]any)
		if !ok || len(l) < *s.MinItems || len(l) > *s.MaxItems {
			return nil, wrong(at, "must be an array with %d to %d entries", *s.MinItems, *s.MaxItems)
		}
		for i := range l {
			var err error
			if l[i], err = check(r, s.Items, l[i], at+"["+strconv.Itoa(i)+"]"); err != nil {
				return nil, err
			}
		}
		return l, nil
	default:
		return checkText(s, v, at)
	}
}

// checkText: requests hold no other scalars than texts.
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

// write answers. An error means that the client has not got the answer whole,
// as far as this machine can tell: it was gone before, or the connection broke.
// A client that hangs up right after the last byte has got it; the length tells
// it which one that is.
func (c *call) write(status int, v any) error {
	var body []byte
	if v != nil {
		var err error
		if body, err = json.Marshal(v); err != nil {
			return err
		}
		c.w.Header().Set("Content-Type", "application/json")
	}
	if status != http.StatusNoContent { // which has no body, and so no length
		c.w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	}
	c.answered = true
	gone := c.ctx().Err()
	connection := http.NewResponseController(c.w)
	_ = connection.SetWriteDeadline(time.Now().Add(ioTimeout))
	c.w.WriteHeader(status)
	_, err := c.w.Write(body)
	err = errors.Join(gone, err, flush(connection))
	_ = connection.SetWriteDeadline(time.Time{})
	return err
}

// flush sends what is written. A writer that cannot is one of a test.
func flush(connection *http.ResponseController) error {
	if err := connection.Flush(); !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}
