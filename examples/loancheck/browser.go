package main

import (
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// browser plays the customer's: it keeps cookies, follows redirects, fills in
// forms by the names of their fields and presses their first button.
type browser struct {
	http    *http.Client
	answers map[string]string
	visited func(address string)
}

func newBrowser(answers map[string]string, visited func(string)) (*browser, error) {
	jar, err := cookiejar.New(nil)
	return &browser{http: &http.Client{Jar: jar, Timeout: time.Minute}, answers: answers, visited: visited}, err
}

// page is where the browser is.
type page struct {
	at   *url.URL
	text string
}

func (b *browser) open(ctx context.Context, method, address string, form url.Values, from *url.URL) (page, error) {
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	r, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return page{}, err
	}
	r.Header.Set("Accept", "text/html")
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if from != nil {
		r.Header.Set("Origin", from.Scheme+"://"+from.Host)
	}
	resp, err := b.http.Do(r)
	if err != nil {
		return page{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return page{}, err
	}
	at := resp.Request.URL
	b.visited(at.Scheme + "://" + at.Host + shorten(at.Path))
	if resp.StatusCode != http.StatusOK {
		return page{}, fmt.Errorf("%s%s answered %s", at.Host, shorten(at.Path), resp.Status)
	}
	return page{at, string(text)}, nil
}

// through goes on from a page, filling in what it is asked, until it is back at
// home.
func (b *browser) through(ctx context.Context, address, home string) (page, error) {
	p, err := b.open(ctx, http.MethodGet, address, nil, nil)
	for range 60 {
		if err != nil || strings.HasPrefix(p.at.String(), home) {
			return p, err
		}
		if next := refreshOf(p); next != "" { // a page that waits for a bank
			select {
			case <-ctx.Done():
				return p, ctx.Err()
			case <-time.After(500 * time.Millisecond):
			}
			p, err = b.open(ctx, http.MethodGet, next, nil, nil)
			continue
		}
		method, target, values, ok := b.fill(p)
		switch {
		case !ok && linkOf(p) != "":
			p, err = b.open(ctx, http.MethodGet, linkOf(p), nil, nil)
		case !ok:
			return p, fmt.Errorf("%s%s is a dead end", p.at.Host, shorten(p.at.Path))
		case method == http.MethodGet:
			p, err = b.open(ctx, method, target+"?"+values.Encode(), nil, nil)
		default:
			p, err = b.open(ctx, method, target, values, p.at)
		}
	}
	return p, errors.New("the pages go round in circles")
}

var (
	formTag = regexp.MustCompile(`(?is)<form\b([^>]*)>(.*?)</form>`)
	input   = regexp.MustCompile(`(?is)<(input|button)\b([^>]*)>`)
	refresh = regexp.MustCompile(`(?is)<meta\b[^>]*http-equiv="refresh"[^>]*>`)
	anchor  = regexp.MustCompile(`(?is)<a\b[^>]*class="button"[^>]*>`)
	attr    = regexp.MustCompile(`(?is)([a-z-]+)(?:\s*=\s*"([^"]*)")?`)
)

func attributes(s string) map[string]string {
	m := map[string]string{}
	for _, a := range attr.FindAllStringSubmatch(s, -1) {
		m[strings.ToLower(a[1])] = html.UnescapeString(a[2])
	}
	return m
}

// fill answers the first form of a page that is not a search.
func (b *browser) fill(p page) (method, target string, values url.Values, ok bool) {
	for _, f := range formTag.FindAllStringSubmatch(p.text, -1) {
		a := attributes(f[1])
		if a["role"] == "search" {
			continue
		}
		at, err := p.at.Parse(a["action"])
		if err != nil {
			return "", "", nil, false
		}
		method, values = http.MethodGet, url.Values{}
		if strings.EqualFold(a["method"], "post") {
			method = http.MethodPost
		}
		if method == http.MethodGet {
			at.RawQuery = ""
		}
		pressed := false
		for _, i := range input.FindAllStringSubmatch(f[2], -1) {
			a := attributes(i[2])
			kind, name := a["type"], a["name"]
			if strings.EqualFold(i[1], "button") {
				kind = "submit"
			}
			switch {
			case kind == "submit":
				if !pressed && name != "" {
					values.Set(name, a["value"])
				}
				pressed = true
			case name == "":
			case kind == "hidden" || kind == "checkbox":
				values.Add(name, a["value"])
			case kind == "radio":
				if !values.Has(name) {
					values.Set(name, a["value"])
				}
			default:
				values.Set(name, b.answers[name])
			}
		}
		return method, at.String(), values, true
	}
	return "", "", nil, false
}

// linkOf is the link of a page that looks like a button.
func linkOf(p page) string {
	at, err := p.at.Parse(attributes(anchor.FindString(p.text))["href"])
	if err != nil || anchor.FindString(p.text) == "" {
		return ""
	}
	return at.String()
}

// refreshOf is where a page goes on by itself.
func refreshOf(p page) string {
	tag := refresh.FindString(p.text)
	if tag == "" {
		return ""
	}
	_, target, _ := strings.Cut(attributes(tag)["content"], "=")
	at, err := p.at.Parse(strings.Trim(target, `'" `))
	if err != nil {
		return ""
	}
	return at.String()
}

// shorten keeps ids and secrets of a path out of the output.
func shorten(path string) string {
	parts := strings.Split(path, "/")
	for i, p := range parts {
		if len(p) > 16 {
			parts[i] = p[:6] + "…"
		}
	}
	return strings.Join(parts, "/")
}
