// Package banqup serves what clients of banqUP's hub call over HTTP beside its
// stream: the deletion of a user's accounts at a bank. What follows of it is
// told by the stream. Linking and synchronizing are other APIs' business.
//
// The vendor publishes the paths (support.banqware.com, article 395835) and, for
// the calls beside this one, the shapes of answers and the member userId of the
// body (articles 395889, 395891). It does not say where this call has the user,
// so query and body are both read.
package banqup

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/access"
	"github.com/bankfeed/bankfeed/internal/api/dialect"
)

// Access tells who calls and for whom: access.Service.
type Access interface {
	Authenticate(ctx context.Context, bearer bankfeed.Secret) (bankfeed.Caller, error)
	// User and UserByExternalID return a user that the caller may act for.
	User(ctx context.Context, caller bankfeed.Caller, id bankfeed.UserID) (bankfeed.User, error)
	UserByExternalID(ctx context.Context, caller bankfeed.Caller, externalID string) (bankfeed.User, error)
}

// Reader reads a user's connections.
type Reader interface {
	Connections(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID) ([]bankfeed.Connection, error)
}

// Remover removes connections, with their consents and data, in the background.
type Remover interface {
	DeleteConnection(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, connection bankfeed.ConnectionID) error
}

// Config is what the API stands on.
type Config struct {
	Version      string // of the build, shown in the OpenAPI document
	Installation bankfeed.Installation
	Log          *slog.Logger

	Access  Access
	Reader  Reader
	Remover Remover
	Limit   *access.Limiter[bankfeed.TenantID] // nil: no limit
}

// API serves two paths under /api/v2/bank and /openapi/banqup.json.
type API struct {
	Config
	dialect *dialect.API
}

// The paths, as the vendor's page has them.
const (
	byID   = "/api/v2/bank/{bankId}/bankAccount"
	byType = "/api/v2/bank/{idType}/{idValue}/bankAccount"
)

// New fails only if the OpenAPI document cannot be written.
func New(c Config) (*API, error) {
	a := &API{Config: c}
	var err error
	a.dialect, err = dialect.New(dialect.Config{
		Name: "banqup", Log: c.Log, Access: c.Access, Limit: c.Limit, Fault: answerTo, Document: document(c.Version),
	}, a.operations())
	return a, err
}

// Mount adds the API to the routes of the hub.
func (a *API) Mount(mux *http.ServeMux) {
	mux.Handle(byID, a.dialect)
	mux.Handle(byType, a.dialect)
	mux.HandleFunc("GET /openapi/banqup.json", a.dialect.ServeSpec)
}

// Spec is the OpenAPI document.
func (a *API) Spec() []byte { return a.dialect.Spec() }

func (a *API) delete(c *dialect.Call) error {
	is, err := bank(c.R)
	if err != nil {
		return err
	}
	name, err := userName(c)
	if err != nil {
		return err
	}
	user, err := a.user(c.Context(), c.Caller, name)
	if err != nil {
		return err
	}
	connections, err := a.Reader.Connections(c.Context(), c.Tenant(), user)
	if err != nil {
		return err
	}
	connections = slices.DeleteFunc(slices.Clone(connections), func(c bankfeed.Connection) bool { return !is(c) })
	if len(connections) == 0 {
		return bankfeed.ErrNotFound
	}
	for _, conn := range connections {
		// One that went in between is as good as removed.
		if err := a.Remover.DeleteConnection(c.Context(), c.Tenant(), user, conn.ID); err != nil && !errors.Is(err, bankfeed.ErrNotFound) {
			return err
		}
	}
	return c.Write(http.StatusAccepted, Accepted{Success: true})
}

// Types of a bank's identifier, in any case. A bank's own code is called
// swiftBicCode in the vendor's list of banks and swiftCode on the page.
var (
	swiftTypes = []string{"swift", "bic", "swiftCode", "swiftBicCode"}
	idTypes    = []string{"id", "bankId", "providerId"}
)

// bank tells a connection to the bank that the path names. The connection says
// itself which one it is to: its bank need not be configured any more.
func bank(r *http.Request) (func(bankfeed.Connection) bool, error) {
	kind, value := r.PathValue("idType"), r.PathValue("idValue")
	if kind == "" {
		kind, value = idTypes[0], r.PathValue("bankId")
	}
	named := func(names []string) bool {
		return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, kind) })
	}
	switch {
	case named(idTypes):
		return func(c bankfeed.Connection) bool { return strings.EqualFold(c.ProviderID, value) }, nil
	case named(swiftTypes):
		return func(c bankfeed.Connection) bool { return c.BIC != "" && headOffice(c.BIC) == headOffice(value) }, nil
	}
	return nil, bankfeed.InvalidField("idType", "must be one of %s", strings.Join(append(slices.Clone(swiftTypes), idTypes...), ", "))
}

// headOffice brings a BIC into the form of eight characters if it is that of a
// whole bank (ISO 9362).
func headOffice(bic string) string {
	bic = strings.ToUpper(strings.TrimSpace(bic))
	if len(bic) == 11 {
		bic = strings.TrimSuffix(bic, "XXX")
	}
	return bic
}

// userName reads whom the request is about, from the query or the body, where it
// may be a number; empty if neither says.
func userName(c *dialect.Call) (string, error) {
	if name := c.Query.Get(userID.Name); name != "" {
		return name, nil
	}
	raw, err := c.RawBody()
	if err != nil || len(bytes.TrimSpace(raw)) == 0 {
		return "", err
	}
	var body struct {
		UserID json.RawMessage `json:"userId"`
	}
	if json.Unmarshal(raw, &body) != nil {
		return "", bankfeed.InvalidField("body", "must be a JSON object")
	}
	var text string
	var number json.Number
	switch {
	case len(body.UserID) == 0 || json.Unmarshal(body.UserID, &text) == nil:
		return text, nil
	case json.Unmarshal(body.UserID, &number) == nil:
		return number.String(), nil
	}
	return "", bankfeed.InvalidField(userID.Name, "must be a text or a number")
}

// user finds the user that a request is about: by the client's own id, which
// the vendor's API has there too, or by the hub's UUID, which the stream's
// messages carry. The hub's number is for users without an own id only: a
// client whose ids are numbers must never hit somebody else with one that is not
// known any more.
func (a *API) user(ctx context.Context, caller bankfeed.Caller, name string) (bankfeed.UserID, error) {
	if name == "" {
		if caller.User == 0 {
			return 0, bankfeed.InvalidField("userId", "a client's token needs it")
		}
		return caller.User, nil
	}
	u, err := a.Access.UserByExternalID(ctx, caller, name)
	if err == nil || !errors.Is(err, bankfeed.ErrNotFound) {
		return u.ID, err
	}
	n, ok := a.Installation.ParseID(name, bankfeed.KindUser, caller.Client.Tenant)
	if !ok {
		return 0, bankfeed.ErrNotFound
	}
	u, err = a.Access.User(ctx, caller, bankfeed.UserID(n))
	if _, number := bankfeed.ParseNumber(name); err == nil && number && u.ExternalID != "" {
		err = bankfeed.ErrNotFound
	}
	return u.ID, err
}
