package docs

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// What is read of an OpenAPI document.
type document struct {
	Info struct {
		Title       string `json:"title"`
		Version     string `json:"version"`
		Description string `json:"description"`
	} `json:"info"`
	Tags []struct {
		Name        string `json:"name"`
		Description string `json:"description"`
	} `json:"tags"`
	// Paths by path and lower-case method.
	Paths      map[string]map[string]json.RawMessage `json:"paths"`
	Components struct {
		Schemas map[string]*schema `json:"schemas"`
	} `json:"components"`
}

type operation struct {
	OperationID string      `json:"operationId"`
	Summary     string      `json:"summary"`
	Description string      `json:"description"`
	Tags        []string    `json:"tags"`
	Parameters  []parameter `json:"parameters"`
	RequestBody *struct {
		Content map[string]media `json:"content"`
	} `json:"requestBody"`
	Responses map[string]struct {
		Description string           `json:"description"`
		Content     map[string]media `json:"content"`
	} `json:"responses"`
}

type parameter struct {
	Name        string  `json:"name"`
	In          string  `json:"in"`
	Description string  `json:"description"`
	Required    bool    `json:"required"`
	Schema      *schema `json:"schema"`
}

type media struct {
	Schema *schema `json:"schema"`
}

type schema struct {
	Ref         string             `json:"$ref"`
	Type        typeNames          `json:"type"`
	Format      string             `json:"format"`
	Description string             `json:"description"`
	Enum        []any              `json:"enum"`
	Default     any                `json:"default"`
	Example     any                `json:"example"`
	Examples    []any              `json:"examples"`
	Items       *schema            `json:"items"`
	Properties  map[string]*schema `json:"properties"`
	Required    []string           `json:"required"`
	Minimum     json.Number        `json:"minimum"`
	Maximum     json.Number        `json:"maximum"`
	AnyOf       []*schema          `json:"anyOf"`
	OneOf       []*schema          `json:"oneOf"`
}

// typeNames is one name or a list of them.
type typeNames []string

func (t *typeNames) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*t = typeNames{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(t))
}

// What the template draws.
type (
	api struct {
		ID, Name, Title, Version, Path string
		Description                    []string
		Groups                         []group
		Shapes                         []shape
	}
	group struct {
		ID, Name, Description string
		Operations            []action
	}
	action struct {
		ID, Method, Path, Summary string
		Description               []string
		Parameters                []field
		Body                      *body
		Curl                      string
		Answers                   []answer
	}
	body struct {
		Type    typeRef
		Example string
	}
	answer struct {
		Status, Description, Media string
		Body                       *body
	}
	shape struct {
		ID, Name string
		Fields   []field
	}
	field struct {
		Name, In    string
		Type        typeRef
		Required    bool
		Description string
		Limits      string
	}
	// typeRef names a type; Shape is the id of its description, if it has one.
	typeRef struct {
		Before, Name, Shape string
	}
)

var methods = []string{"get", "post", "put", "patch", "delete"}

// read turns a document into what the page shows, in the order of its tags,
// then of paths and methods.
func read(s Spec) (api, error) {
	var d document
	if err := json.Unmarshal(s.JSON, &d); err != nil {
		return api{}, err
	}
	r := reader{id: slug(s.Name), schemas: d.Components.Schemas}
	a := api{ID: r.id, Name: s.Name, Title: d.Info.Title, Version: d.Info.Version, Path: s.Path, Description: paragraphs(d.Info.Description)}
	byTag := map[string]int{}
	for _, t := range d.Tags {
		byTag[t.Name] = len(a.Groups)
		a.Groups = append(a.Groups, group{ID: r.id + "-" + slug(t.Name), Name: t.Name, Description: t.Description})
	}
	for _, path := range slices.Sorted(maps.Keys(d.Paths)) {
		for _, method := range methods {
			raw, ok := d.Paths[path][method]
			if !ok {
				continue
			}
			var op operation
			if err := json.Unmarshal(raw, &op); err != nil {
				return api{}, fmt.Errorf("%s %s: %w", method, path, err)
			}
			tag := "Other"
			if len(op.Tags) > 0 {
				tag = op.Tags[0]
			}
			at, ok := byTag[tag]
			if !ok {
				at = len(a.Groups)
				byTag[tag] = at
				a.Groups = append(a.Groups, group{ID: r.id + "-" + slug(tag), Name: tag})
			}
			a.Groups[at].Operations = append(a.Groups[at].Operations, r.action(method, path, op))
		}
	}
	a.Groups = slices.DeleteFunc(a.Groups, func(g group) bool { return len(g.Operations) == 0 })
	for _, name := range slices.Sorted(maps.Keys(d.Components.Schemas)) {
		if sc := d.Components.Schemas[name]; len(sc.Properties) > 0 {
			a.Shapes = append(a.Shapes, shape{ID: r.shapeID(name), Name: name, Fields: r.fields(sc)})
		}
	}
	return a, nil
}

type reader struct {
	id      string
	schemas map[string]*schema
}

func (r reader) action(method, path string, op operation) action {
	x := action{
		ID: r.id + "-" + slug(cmp.Or(op.OperationID, method+path)), Method: strings.ToUpper(method), Path: path,
		Summary: op.Summary, Description: paragraphs(op.Description),
	}
	for _, p := range op.Parameters {
		sc := p.Schema
		if sc == nil {
			sc = &schema{}
		}
		x.Parameters = append(x.Parameters, field{
			Name: p.Name, In: p.In, Type: r.typeOf(sc), Required: p.Required, Description: cmp.Or(p.Description, sc.Description), Limits: limits(sc),
		})
	}
	minimal := ""
	if op.RequestBody != nil {
		if m, _, ok := first(op.RequestBody.Content); ok {
			x.Body = &body{Type: r.typeOf(m.Schema), Example: r.example(m.Schema, false)}
			minimal = r.example(m.Schema, true)
		}
	}
	x.Curl = curl(x.Method, path, minimal)
	for _, status := range slices.Sorted(maps.Keys(op.Responses)) {
		res := op.Responses[status]
		an := answer{Status: status, Description: res.Description}
		if m, name, ok := first(res.Content); ok {
			an.Media = name
			an.Body = &body{Type: r.typeOf(m.Schema)}
			if strings.HasPrefix(status, "2") && strings.HasSuffix(name, "json") {
				an.Body.Example = r.example(m.Schema, false)
			}
		}
		x.Answers = append(x.Answers, an)
	}
	return x
}

// first is the JSON media type if there is one.
func first(content map[string]media) (m media, name string, ok bool) {
	for _, name := range slices.Sorted(maps.Keys(content)) {
		if m := content[name]; m.Schema != nil {
			return m, name, true
		}
	}
	return media{}, "", false
}

func curl(method, path, body string) string {
	s := "curl"
	if method != "GET" {
		s += " -X " + method
	}
	s += ` "$HUB` + path + `" -H "Authorization: Bearer $TOKEN"`
	if body != "" {
		s += " \\\n  -H \"Content-Type: application/json\" \\\n  -d '" + strings.ReplaceAll(body, "'", `'\''`) + "'"
	}
	return s
}

func (r reader) fields(s *schema) []field {
	var list []field
	for _, name := range names(s) {
		p := s.Properties[name]
		list = append(list, field{
			Name: name, Type: r.typeOf(p), Required: slices.Contains(s.Required, name),
			Description: cmp.Or(p.Description, r.resolve(p).Description), Limits: limits(p),
		})
	}
	return list
}

// names orders properties: ids, then what is always there, then the rest.
func names(s *schema) []string {
	rank := func(name string) int {
		switch {
		case name == "id":
			return 0
		case name == "uuid":
			return 1
		case slices.Contains(s.Required, name):
			return 2
		}
		return 3
	}
	return slices.SortedFunc(maps.Keys(s.Properties), func(a, b string) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b))
	})
}

func (r reader) shapeID(name string) string { return r.id + "-shape-" + slug(name) }

func (r reader) resolve(s *schema) *schema {
	if name, ok := strings.CutPrefix(s.Ref, "#/components/schemas/"); ok && r.schemas[name] != nil {
		return r.schemas[name]
	}
	return s
}

func (r reader) typeOf(s *schema) typeRef {
	if s == nil {
		return typeRef{Name: "anything"}
	}
	if name, ok := strings.CutPrefix(s.Ref, "#/components/schemas/"); ok {
		if target := r.schemas[name]; target != nil && len(target.Properties) > 0 {
			return typeRef{Name: name, Shape: r.shapeID(name)}
		}
		return r.typeOf(r.schemas[name])
	}
	if s.Items != nil {
		t := r.typeOf(s.Items)
		t.Before = "list of " + t.Before
		return t
	}
	name := strings.Join(s.Type, " or ")
	if s.Format != "" && !slices.Contains(s.Type, "integer") {
		name += " (" + s.Format + ")"
	}
	return typeRef{Name: cmp.Or(name, "anything")}
}

func limits(s *schema) string {
	var parts []string
	enum := s.Enum
	if s.Items != nil && len(enum) == 0 {
		enum = s.Items.Enum
	}
	if len(enum) > 0 {
		var words []string
		for _, e := range enum {
			words = append(words, fmt.Sprint(e))
		}
		parts = append(parts, "one of "+strings.Join(words, ", "))
	}
	if s.Minimum != "" && s.Maximum != "" {
		parts = append(parts, "from "+s.Minimum.String()+" to "+s.Maximum.String())
	}
	if s.Default != nil {
		parts = append(parts, "default "+fmt.Sprint(s.Default))
	}
	return strings.Join(parts, "; ")
}

func paragraphs(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == '\n' })
}

func slug(s string) string {
	return strings.Trim(strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '-'
	}, s), "-")
}
