package docs

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/api/native"
	"github.com/bankfeed/bankfeed/internal/api/oxlin"
)

// specs are the documents that the hub serves.
func specs(t *testing.T) []Spec {
	t.Helper()
	n, err := native.New(native.Config{Version: "1.2.3"})
	require.NoError(t, err)
	o, err := oxlin.New(oxlin.Config{Version: "1.2.3"})
	require.NoError(t, err)
	return []Spec{{"Native API", "/openapi/native.json", n.Spec()}, {"Oxlin dialect", "/openapi/oxlin.json", o.Spec()}}
}

func get(t *testing.T, p *Page, target string) *httptest.ResponseRecorder {
	t.Helper()
	mux := http.NewServeMux()
	p.Mount(mux)
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, target, nil))
	require.Equal(t, 200, w.Code)
	return w
}

func TestPageShowsEveryOperationOfEveryDialect(t *testing.T) {
	all := specs(t)
	p, err := New(all...)
	require.NoError(t, err)
	html := get(t, p, "/docs").Body.String()
	for _, s := range all {
		require.Contains(t, html, `<a href="`+s.Path+`">`)
		var d document
		require.NoError(t, json.Unmarshal(s.JSON, &d))
		require.NotEmpty(t, d.Paths)
		for path, item := range d.Paths {
			for method := range item {
				method = strings.ToUpper(method)
				require.Contains(t, html, `<span class="method `+method+`">`+method+`</span> <code>`+path+`</code>`)
			}
		}
	}
	for _, e := range bankfeed.EventTypes {
		require.Contains(t, html, "<code>"+string(e.Type)+"</code>")
	}
}

// The page works without a network, and a strict policy breaks nothing of it.
func TestPageIsSelfContained(t *testing.T) {
	p, err := New(specs(t)...)
	require.NoError(t, err)
	w := get(t, p, "/docs")
	html := w.Body.String()
	require.NotRegexp(t, `<script|<iframe|<img|<style| style=| on[a-z]+=|(src|href)="(https?:)?//`, html)
	require.Contains(t, w.Header().Get("Content-Security-Policy"), "default-src 'none'; style-src 'self'")
	css := get(t, p, "/docs/style.css")
	require.Contains(t, css.Header().Get("Content-Type"), "text/css")
	require.NotRegexp(t, `url\(|@import`, css.Body.String())
	require.Less(t, w.Body.Len(), 1<<20)
}

// Every link inside the page leads somewhere, and no two things have one name.
func TestLinksLead(t *testing.T) {
	p, err := New(specs(t)...)
	require.NoError(t, err)
	html := get(t, p, "/docs").Body.String()
	ids := map[string]bool{}
	for _, m := range regexp.MustCompile(` id="([^"]*)"`).FindAllStringSubmatch(html, -1) {
		require.False(t, ids[m[1]], m[1])
		ids[m[1]] = true
	}
	links := regexp.MustCompile(`href="#([^"]*)"`).FindAllStringSubmatch(html, -1)
	require.NotEmpty(t, links)
	for _, m := range links {
		require.True(t, ids[m[1]], m[1])
	}
}

func TestExamplesAreJSON(t *testing.T) {
	for _, s := range specs(t) {
		a, err := read(s)
		require.NoError(t, err)
		n := 0
		check := func(text string) {
			if text != "" {
				n++
				require.True(t, json.Valid([]byte(text)), text)
			}
		}
		for _, g := range a.Groups {
			for _, op := range g.Operations {
				if op.Body != nil {
					check(op.Body.Example)
				}
				for _, an := range op.Answers {
					if an.Body != nil {
						check(an.Body.Example)
					}
				}
			}
		}
		require.Positive(t, n)
	}
}

func TestWhatADocumentSaysIsEscaped(t *testing.T) {
	doc := `{"info":{"title":"<script>alert(1)</script>","version":"1"},"paths":{"/a":{"post":{"operationId":"a","summary":"<b>","requestBody":{"content":{"application/json":
		{"schema":{"type":"object","required":["q"],"properties":{"q":{"type":"string","example":"it's"}}}}}},"responses":{"204":{"description":"ok"}}}}}}`
	p, err := New(Spec{"x", "/x.json", []byte(doc)})
	require.NoError(t, err)
	require.NotContains(t, string(p.html), "<script>")
	require.NotContains(t, string(p.html), "<b>")
	a, err := read(Spec{"x", "/x.json", []byte(doc)})
	require.NoError(t, err)
	require.Equal(t, "curl -X POST \"$HUB/a\" -H \"Authorization: Bearer $TOKEN\" \\\n  -H \"Content-Type: application/json\" \\\n  -d '{\n  \"q\": \"it'\\''s\"\n}'", a.Groups[0].Operations[0].Curl)
}

func TestBadDocumentIsAnError(t *testing.T) {
	_, err := New(Spec{"x", "/x.json", []byte("{")})
	require.ErrorContains(t, err, "/x.json")
	_, err = New(Spec{"x", "/x.json", []byte(`{"paths":{"/a":{"get":[]}}}`)})
	require.ErrorContains(t, err, "get /a")
}

func TestShapeThatContainsItselfEnds(t *testing.T) {
	s := &schema{Properties: map[string]*schema{"child": {Ref: "#/components/schemas/Node"}}}
	r := reader{schemas: map[string]*schema{"Node": s}}
	require.JSONEq(t, `{"child":{}}`, r.example(&schema{Ref: "#/components/schemas/Node"}, false))
}

func TestEventsPageIsUpToDate(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, WriteEvents(&b))
	have, err := os.ReadFile("../../../docs/events.md")
	require.NoError(t, err)
	require.Equal(t, b.String(), string(have), "make generate writes it anew")
}

// A row of the event table without a face anywhere is a decision: it stands
// here.
func TestFacesOfEvents(t *testing.T) {
	faceless := map[string]bool{
		"account.removed": true, "user.erased": true,
		"request.finished": true, "request.user_needed": true, // callbacks of requests
	}
	for _, e := range events() {
		require.Equal(t, !faceless[e.Type], len(e.Oxlin) > 0 || e.Banqup != "", e.Type)
		require.NotEmpty(t, e.Topic)
		require.NotContains(t, e.Meaning+e.Carries, "|")
	}
}
