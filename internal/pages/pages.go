// Package pages is what all pages have in common that the hub shows to a PSU:
// one look, two languages, headers that let nothing else run in them, forms that
// only the browser can send that was shown them, and what is known of the person
// in front of it. Which page comes next is the business of whoever serves it.
package pages

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"html/template"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
)

//go:embed layout.html style.css
var files embed.FS

var style = must(files.ReadFile("style.css"))

func must(b []byte, err error) string {
	if err != nil {
		panic(err) // it is embedded
	}
	return string(b)
}

// Page is the frame of a page. Its words are English; where the dictionary knows
// them they are shown in the browser's language.
type Page struct {
	Status      int
	Bank        string // its name, above the title
	Title, Text string
	Fault       string // what was wrong with what the person did
	// Refresh is where the page goes on by itself, after some Seconds. With a
	// script that is the script's business, unless the browser runs none.
	Refresh string
	Seconds int
	// FormTargets are the origins outside the hub that the answer to a form may
	// lead to: browsers hold redirects against a page's form-action too.
	FormTargets string
	View        any // for the template named content
}

// Set draws pages: a template named content inside the common frame.
type Set struct {
	templates map[string]*template.Template // by language
	script    string
}

// New reads the content template from a file. script, which may be empty, is a
// program of ours that runs in each page.
func New(dir fs.FS, content, script string) *Set {
	s := &Set{templates: map[string]*template.Template{}, script: script}
	for _, lang := range languages {
		t := template.New("layout.html").Funcs(template.FuncMap{"t": translator(lang)})
		template.Must(t.ParseFS(files, "layout.html"))
		body := must(fs.ReadFile(dir, content))
		template.Must(t.New("content").Parse(body))
		s.templates[lang] = t
	}
	return s
}

// frame is what the layout sees.
type frame struct {
	Page
	Lang    string
	Style   template.CSS
	Script  template.JS
	Refresh string
}

// Render writes a page. An error has been answered by nobody yet.
func (s *Set) Render(w http.ResponseWriter, r *http.Request, p Page) error {
	lang := Language(r)
	f := frame{Page: p, Lang: lang, Style: template.CSS(style), Script: template.JS(s.script)} //nolint:gosec // our own files
	if p.Refresh != "" {
		f.Refresh = strconv.Itoa(p.Seconds) + ";url=" + p.Refresh
	}
	var b bytes.Buffer
	if err := s.templates[lang].Execute(&b, f); err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Security-Policy", policy(p.FormTargets, s.script))
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Language", lang)
	h.Set("Vary", "Accept-Language")
	w.WriteHeader(p.Status)
	_, _ = w.Write(b.Bytes()) // if nobody is there to read it, nobody is told
	return nil
}

// Headers are those of every answer of a page, redirects and errors included.
func Headers(h http.Header) {
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Robots-Tag", "noindex, nofollow")
	h.Set("Content-Security-Policy", policy("", ""))
}

// policy lets the browser take our style and our script and no other.
func policy(formTargets, script string) string {
	p := "default-src 'none'; img-src data:; style-src " + sourceHash(style) + "; base-uri 'none'; frame-ancestors 'none'; form-action 'self' " + formTargets
	p = strings.TrimSpace(p)
	if script != "" {
		p += "; script-src " + sourceHash(script) + "; connect-src 'self'"
	}
	return p
}

func sourceHash(s string) string {
	h := sha256.Sum256([]byte(s))
	return "'sha256-" + base64.StdEncoding.EncodeToString(h[:]) + "'"
}

// ImageURL shows a bank's picture, if it is one that browsers draw without
// running anything.
func ImageURL(b []byte) template.URL {
	switch t := http.DetectContentType(b); t {
	case "image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp":
		return template.URL("data:" + t + ";base64," + base64.StdEncoding.EncodeToString(b)) //nolint:gosec // base64 of a picture
	}
	return ""
}
