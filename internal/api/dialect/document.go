package dialect

import (
	"encoding/json"
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// Document is what an API's OpenAPI document says beside its operations. It is
// made from the same table and types that serve requests, by huma's generator;
// requests do not pass through huma.
type Document struct {
	Title, Version, About string
	Schemes               map[string]*huma.SecurityScheme
	// Error is the type of an error's body.
	Error func(op *Operation, status int) reflect.Type
	// Alias ends the ids of operations under their other paths, AliasAbout says
	// what these are for.
	Alias, AliasAbout string
	// Enums are the closed lists, by schema and member: "Account.status".
	Enums map[string][]any
	// Kinds are the types of which a member is one, by schema and member.
	Kinds map[string][]reflect.Type
	// Numbers are types that JSON shows as numbers, whatever they are in Go.
	Numbers []reflect.Type
}

func newRegistry(numbers []reflect.Type) huma.Registry {
	r := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	r.RegisterTypeAlias(reflect.TypeFor[json.Number](), reflect.TypeFor[float64]()) // in the document only: the wire keeps every digit
	for _, t := range numbers {
		r.RegisterTypeAlias(t, reflect.TypeFor[float64]())
	}
	return r
}

func (a *API) document(operations []*Operation) ([]byte, error) {
	d := a.Document
	doc := &huma.OpenAPI{
		OpenAPI:    "3.1.0",
		Info:       &huma.Info{Title: d.Title, Version: d.Version, Description: d.About},
		Servers:    []*huma.Server{{URL: "/"}},
		Components: &huma.Components{Schemas: a.registry, SecuritySchemes: d.Schemes},
	}
	for _, op := range operations {
		for i := range op.Paths {
			doc.AddOperation(a.describe(op, i))
		}
	}
	for at, kinds := range d.Kinds {
		schema, member, _ := strings.Cut(at, ".")
		s := a.registry.Map()[schema].Properties[member]
		for _, t := range kinds {
			s.AnyOf = append(s.AnyOf, a.registry.Schema(t, true, ""))
		}
	}
	for name, s := range a.registry.Map() {
		s.AdditionalProperties = nil // both sides ignore what they do not know
		for member, p := range s.Properties {
			if e, ok := d.Enums[name+"."+member]; ok {
				p.Enum = e
			}
		}
	}
	return json.Marshal(doc)
}

func (a *API) describe(op *Operation, alias int) *huma.Operation {
	path := op.Paths[alias]
	o := &huma.Operation{
		Method: op.Method, Path: path, OperationID: op.ID, Summary: op.Summary, Description: op.About,
		Tags: []string{op.Tag}, Responses: map[string]*huma.Response{},
	}
	for name := range a.Document.Schemes {
		o.Security = append(o.Security, map[string][]string{name: {}})
	}
	if alias > 0 {
		o.OperationID += a.Document.Alias
		o.Description = "The same as " + op.Paths[0] + ", " + a.Document.AliasAbout + "."
	}
	if len(op.Scopes) > 0 {
		o.Description = strings.TrimSpace(o.Description + " A token with scopes needs " + strings.Join(op.Scopes, " or ") + ".")
	}
	for segment := range strings.SplitSeq(path, "/") {
		if name, ok := strings.CutPrefix(segment, "{"); ok {
			o.Parameters = append(o.Parameters, &huma.Param{Name: strings.TrimSuffix(name, "}"), In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString}})
		}
	}
	for _, p := range op.Params {
		o.Parameters = append(o.Parameters, describeParam(p))
	}
	if op.Body != nil {
		o.RequestBody = &huma.RequestBody{Required: !op.Optional, Content: a.content(op.Body)}
	}
	o.Responses[strconv.Itoa(op.Status)] = a.success(op)
	for _, status := range op.statuses() {
		r := &huma.Response{Description: http.StatusText(status)}
		if status != http.StatusNoContent {
			r.Content = a.content(a.Document.Error(op, status))
		}
		o.Responses[strconv.Itoa(status)] = r
	}
	if op.Describe != nil {
		op.Describe(o)
	}
	return o
}

func describeParam(p Param) *huma.Param {
	d := &huma.Param{Name: p.Name, In: "query", Description: p.Doc, Schema: p.Schema}
	if p.Header {
		d.In = "header"
	}
	if p.Schema.Type == huma.TypeArray {
		explode := false
		d.Style, d.Explode = "form", &explode
	}
	return d
}

func (a *API) success(op *Operation) *huma.Response {
	r := &huma.Response{Description: http.StatusText(op.Status)}
	if op.Answer != nil {
		r.Content = a.content(op.Answer)
	}
	if op.Location != "" {
		r.Headers = map[string]*huma.Header{"Location": {Description: "The path of " + op.Location + ".", Schema: &huma.Schema{Type: huma.TypeString}}}
	}
	return r
}

func (a *API) content(t reflect.Type) map[string]*huma.MediaType {
	s := a.registry.Schema(t, true, "")
	if s.Type == huma.TypeArray {
		s.Nullable = false
	}
	return map[string]*huma.MediaType{"application/json": {Schema: s}}
}
