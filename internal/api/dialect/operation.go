package dialect

import (
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/bankfeed/bankfeed"
)

// Operation is one row of an API: what is served and what is documented.
type Operation struct {
	Method  string
	Paths   []string // the first is its own, the others are aliases
	ID      string
	Tag     string
	Summary string
	About   string
	Token   Token
	Scopes  []string // a token with scopes needs one of these; none: any token will do
	Params  []Param
	Body    reflect.Type // of the request; nil: none is read
	// Optional: the body may be absent.
	Optional bool
	MaxBody  int64 // in bytes; 0: DefaultMaxBody
	Status   int   // of success
	// Location is what the header of that name points to, if the answer has one.
	Location string
	Answer   reflect.Type // nil: no body
	Also     []int        // statuses beside those that every operation can answer with
	// Describe changes what the document says, if the fields above are not enough.
	Describe func(*huma.Operation)
	Handle   func(*Call) error

	schema *huma.Schema // of Body
}

// Token is whose token an operation takes.
type Token int

// Tokens.
const (
	AnyToken Token = iota
	ClientToken
	UserToken
)

// admit checks the caller against what the operation takes. A token that was
// issued without a scope is not restricted.
func (op *Operation) admit(c bankfeed.Caller) error {
	switch {
	case op.Token == ClientToken && c.User != 0:
		return bankfeed.Errorf(bankfeed.Forbidden, "this needs a client token")
	case op.Token == UserToken && c.User == 0:
		return bankfeed.Errorf(bankfeed.Forbidden, "this needs a user token")
	case len(c.Scopes) > 0 && len(op.Scopes) > 0 &&
		!slices.ContainsFunc(op.Scopes, func(s string) bool { return slices.Contains(c.Scopes, s) }):
		return bankfeed.Errorf(bankfeed.Forbidden, "the token's scope does not cover this request")
	}
	return nil
}

// statuses are the errors that it can answer with.
func (op *Operation) statuses() []int {
	all := append([]int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests, http.StatusInternalServerError}, op.Also...)
	if strings.Contains(op.Paths[0], "{") {
		all = append(all, http.StatusNotFound)
	}
	if op.Body != nil {
		all = append(all, http.StatusRequestEntityTooLarge)
	}
	return all
}

// Param is a parameter of the query or a header.
type Param struct {
	Name   string
	Doc    string
	Schema *huma.Schema
	Header bool
}

// Parameters of the request that tell of the person in front of the screen.
var (
	PSUAddress = Param{Name: "PSU-IP-Address", Header: true, Schema: Text(45),
		Doc: "The IP address of the user's device. It says that the user is present, and is passed on to the bank: never send anything else."}
	PSUAgent = Param{Name: "PSU-User-Agent", Header: true, Schema: Text(512), Doc: "The user's browser or app; passed on to the bank."}
)

// Integer is the schema of a whole number between two bounds.
func Integer(least, most, def int) *huma.Schema {
	lo, hi := float64(least), float64(most)
	return &huma.Schema{Type: huma.TypeInteger, Minimum: &lo, Maximum: &hi, Default: def}
}

// Text is the schema of a text of so many characters at most.
func Text(most int) *huma.Schema { return &huma.Schema{Type: huma.TypeString, MaxLength: &most} }

// OneOf is the schema of a word of a closed list, ListOf of several of them
// separated by commas.
func OneOf[W ~string](words []W) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Enum: Enum(words)}
}

// ListOf is described with OneOf.
func ListOf[W ~string](words []W) *huma.Schema {
	return &huma.Schema{Type: huma.TypeArray, Items: OneOf(words)}
}

// Enum is a closed list as schemas have it.
func Enum[W ~string](words []W) []any {
	values := make([]any, len(words))
	for i, w := range words {
		values[i] = string(w)
	}
	return values
}
