package dialect

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/access"
)

// Call is one request on its way.
type Call struct {
	W      http.ResponseWriter
	R      *http.Request
	Caller bankfeed.Caller
	Query  url.Values

	api *API
	op  *Operation
	// answered: an answer is on its way, an error cannot change it any more.
	answered bool
}

// Context is the request's.
func (c *Call) Context() context.Context { return c.R.Context() }

// Tenant is the caller's.
func (c *Call) Tenant() bankfeed.TenantID { return c.Caller.Client.Tenant }

// Authenticate finds out who calls; a stream asks again while it runs.
func (c *Call) Authenticate(ctx context.Context) (bankfeed.Caller, error) {
	bearer, ok := access.Bearer(c.R)
	if !ok {
		return bankfeed.Caller{}, ErrNoToken
	}
	return c.api.Access.Authenticate(ctx, bearer)
}

const (
	// DefaultMaxBody is more than a request needs that carries no data.
	DefaultMaxBody = 64 << 10
	// IOTimeout is how long a body or a part of an answer may take, so that
	// nobody holds a connection by being slow.
	IOTimeout = 30 * time.Second
)

// readQuery keeps a malformed query from being half understood.
func (c *Call) readQuery() (err error) {
	if c.Query, err = url.ParseQuery(c.R.URL.RawQuery); err != nil {
		return &MalformedError{"the query is not readable"}
	}
	return nil
}

// Text reads a parameter of the query; empty is absent.
func (c *Call) Text(p Param) (string, error) {
	s := c.Query.Get(p.Name)
	if s == "" {
		return "", nil
	}
	if _, err := check(nil, p.Schema, s, p.Name); err != nil {
		return "", err
	}
	return s, nil
}

// Integer reads a parameter of the query, or takes its default.
func (c *Call) Integer(p Param) (int, error) {
	s := c.Query.Get(p.Name)
	if s == "" {
		n, _ := p.Schema.Default.(int)
		return n, nil
	}
	n, err := strconv.Atoi(s)
	least, most := int(*p.Schema.Minimum), int(*p.Schema.Maximum)
	if err != nil || n < least || n > most {
		return 0, bankfeed.InvalidField(p.Name, "must be a whole number from %d to %d", least, most)
	}
	return n, nil
}

// Bool reads a parameter of the query: true, false, or absent, which is false.
func (c *Call) Bool(p Param) (bool, error) {
	switch c.Query.Get(p.Name) {
	case "true":
		return true, nil
	case "", "false":
		return false, nil
	}
	return false, bankfeed.InvalidField(p.Name, "must be true or false")
}

// List reads a parameter of the query that holds values separated by commas.
func (c *Call) List(p Param) ([]string, error) {
	s := c.Query.Get(p.Name)
	if s == "" {
		return nil, nil
	}
	values := strings.Split(s, ",")
	for _, v := range values {
		if _, err := check(nil, p.Schema.Items, v, p.Name); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// PSU tells about the person in front of the screen, nil if the request does
// not say that there is one.
func (c *Call) PSU() (*bankfeed.PSU, error) {
	address, agent := c.R.Header.Get(PSUAddress.Name), c.R.Header.Get(PSUAgent.Name)
	psu, ok := access.PSU(address, agent)
	if !ok {
		return nil, bankfeed.InvalidField(PSUAddress.Name, "must be the IP address of the user's device")
	}
	if psu != nil {
		if _, err := check(nil, PSUAgent.Schema, agent, PSUAgent.Name); err != nil {
			return nil, err
		}
	}
	return psu, nil
}

// ReadsBody refuses a body of a media type that the dialect does not read.
func (c *Call) ReadsBody() error {
	if c.api.Reads == nil || c.R.ContentLength == 0 {
		return nil
	}
	kind := c.R.Header.Get("Content-Type")
	if kind != "" {
		var err error
		if kind, _, err = mime.ParseMediaType(kind); err != nil {
			return ErrMediaType
		}
	}
	if !c.api.Reads(kind) {
		return ErrMediaType
	}
	return nil
}

// Body reads a JSON body into v, which is of the operation's Body. Members that
// the schema does not know are ignored, null is as good as absent.
func (c *Call) Body(v any) error {
	raw, err := c.RawBody()
	if err != nil {
		return err
	}
	if len(bytes.TrimSpace(raw)) == 0 && c.op.Optional {
		return nil
	}
	var tree any
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber() // amounts keep their digits
	if !utf8.Valid(raw) || !json.Valid(raw) || d.Decode(&tree) != nil {
		return &MalformedError{"the body is not valid JSON"}
	}
	if tree == nil && c.op.Optional { // as it is with members
		return nil
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

// RawBody reads the body as it is, within the operation's bound.
func (c *Call) RawBody() ([]byte, error) {
	if err := c.ReadsBody(); err != nil {
		return nil, err
	}
	limit := int64(DefaultMaxBody)
	if c.op.MaxBody > 0 {
		limit = c.op.MaxBody
	}
	// Only a writer without deadlines, as in tests, refuses. The deadline must
	// not stay: it would end the context while a bank is being asked.
	connection := http.NewResponseController(c.W)
	_ = connection.SetReadDeadline(time.Now().Add(IOTimeout))
	raw, err := io.ReadAll(http.MaxBytesReader(c.W, c.R.Body, limit))
	_ = connection.SetReadDeadline(time.Time{})
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, bankfeed.Errorf(bankfeed.TooLarge, "the body has more than %d bytes", limit)
	case err != nil:
		return nil, &MalformedError{"the body could not be read to its end"}
	}
	return raw, nil
}

// Write answers. An error means that the client has not got the answer whole,
// as far as this machine can tell: it was gone before, or the connection broke.
// A client that hangs up right after the last byte has got it; the length tells
// it which one that is.
func (c *Call) Write(status int, v any) error {
	var body []byte
	if v != nil {
		var err error
		if body, err = json.Marshal(v); err != nil {
			return err
		}
		c.W.Header().Set("Content-Type", "application/json")
	}
	if status != http.StatusNoContent { // which has no body, and so no length
		c.W.Header().Set("Content-Length", strconv.Itoa(len(body)))
	}
	gone := c.Context().Err()
	connection := http.NewResponseController(c.W)
	_ = connection.SetWriteDeadline(time.Now().Add(IOTimeout))
	c.Begin(status)
	_, err := c.W.Write(body)
	err = errors.Join(gone, err, Flush(connection))
	_ = connection.SetWriteDeadline(time.Time{})
	return err
}

// Begin sends status and header of an answer that the caller writes itself.
func (c *Call) Begin(status int) {
	c.answered = true
	c.W.WriteHeader(status)
}

// Flush sends what is written. A writer that cannot is one of a test.
func Flush(connection *http.ResponseController) error {
	if err := connection.Flush(); !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}
