package connectortest

import (
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
)

// BerlinGroup finds the Berlin Group's OpenAPI file among the test data.
func BerlinGroup(t testing.TB, specDir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(specDir, "berlin-group-nextgenpsd2-*.openapi.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no Berlin Group OpenAPI file in the test data (%v)", err)
	}
	return files[len(files)-1]
}

// Validator checks requests against an OpenAPI file.
type Validator struct {
	router routers.Router
}

// The library knows uuid but leaves it to its users whether to check it. The
// setting is global.
var checkUUIDs = sync.OnceFunc(func() {
	openapi3.DefineStringFormatValidator("uuid", openapi3.NewRegexpFormatValidator(openapi3.FormatOfStringForUUIDOfRFC4122))
})

// NewValidator loads an OpenAPI file.
func NewValidator(t testing.TB, file string) *Validator {
	t.Helper()
	checkUUIDs()
	doc, err := openapi3.NewLoader().LoadFromFile(file)
	if err != nil {
		t.Fatalf("OpenAPI file: %v", err)
	}
	doc.Servers = nil // paths are matched below whatever endpoint a test has
	relax(doc)
	router, err := legacy.NewRouter(doc, openapi3.DisableExamplesValidation()) // its examples break its schemas
	if err != nil {
		t.Fatalf("OpenAPI file: %v", err)
	}
	return &Validator{router: router}
}

// relax mends a defect of the Berlin Group's file: bodies of an authorisation
// are oneOf the empty schema and others, and as the empty schema allows
// everything nothing could ever match exactly one.
func relax(doc *openapi3.T) {
	for _, item := range doc.Paths.Map() {
		for _, op := range item.Operations() {
			if op.RequestBody == nil || op.RequestBody.Value == nil {
				continue
			}
			for _, media := range op.RequestBody.Value.Content {
				if media.Schema == nil || media.Schema.Value == nil {
					continue
				}
				s := media.Schema.Value
				var named openapi3.SchemaRefs
				for _, ref := range s.OneOf {
					if ref.Ref != "" {
						named = append(named, ref)
					}
				}
				if len(named) < len(s.OneOf) {
					empty := openapi3.NewObjectSchema().WithMaxProperties(0)
					named = append(named, openapi3.NewSchemaRef("", empty))
					s.OneOf = named
				}
			}
		}
	}
}

// Check validates a request whose path begins with prefix.
func (v *Validator) Check(req *http.Request, prefix string) error {
	clone := req.Clone(req.Context())
	// Escaped, so that an id with a slash in it stays one segment.
	clone.URL = &url.URL{Path: strings.TrimPrefix(req.URL.EscapedPath(), prefix), RawQuery: req.URL.RawQuery}
	if req.GetBody != nil {
		body, err := req.GetBody()
		if err != nil {
			return err
		}
		clone.Body = body
	}
	route, params, err := v.router.FindRoute(clone)
	if err != nil {
		return fmt.Errorf("%s %s: %w", req.Method, req.URL.Path, err)
	}
	return openapi3filter.ValidateRequest(req.Context(), &openapi3filter.RequestValidationInput{
		Request: clone, PathParams: params, Route: route,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, MultiError: true},
	})
}

// Transport is an http.RoundTripper that fails the test for each request that
// breaks the file, and sends it all the same.
func (v *Validator) Transport(t testing.TB, prefix string, next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		if err := v.Check(req, prefix); err != nil {
			t.Errorf("the request breaks the OpenAPI file: %v", err)
		}
		return next.RoundTrip(req)
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }
