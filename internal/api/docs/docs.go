// Package docs is the page /docs: a reference of the hub's HTTP APIs, made from
// the OpenAPI documents that they serve, and of the event table. It is plain
// HTML and one style sheet out of the binary: it works offline and runs no
// script. The same table of events is written to docs/events.md.
package docs

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"net/http"
)

//go:generate go run gen.go ../../../docs/events.md

//go:embed page.html
var pageHTML string

//go:embed style.css
var styleCSS []byte

var page = template.Must(template.New("page").Parse(pageHTML))

// Spec is an OpenAPI document (3.1, JSON) and where it is served.
type Spec struct {
	Name string // short, for the list of contents
	Path string
	JSON []byte
}

// Page is the rendered page.
type Page struct{ html []byte }

// New renders the page.
func New(specs ...Spec) (*Page, error) {
	data := struct {
		APIs   []api
		Events []event
	}{Events: events()}
	for _, s := range specs {
		a, err := read(s)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.Path, err)
		}
		data.APIs = append(data.APIs, a)
	}
	var b bytes.Buffer
	if err := page.Execute(&b, data); err != nil {
		return nil, err
	}
	return &Page{b.Bytes()}, nil
}

// Mount adds the page to the routes of the hub.
func (p *Page) Mount(mux *http.ServeMux) {
	mux.HandleFunc("GET /docs", serve("text/html; charset=utf-8", p.html))
	mux.HandleFunc("GET /docs/style.css", serve("text/css; charset=utf-8", styleCSS))
}

func serve(contentType string, body []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Content-Type", contentType)
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "max-age=300")
		_, _ = w.Write(body) // if nobody is there to read it, nobody is told
	}
}
