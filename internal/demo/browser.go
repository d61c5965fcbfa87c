package demo

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

// browser plays the person: it follows redirects, keeps cookies, fills in forms
// and presses their first button. It knows of the pages only what a person sees.
type browser struct {
	http    *http.Client
	answers map[string]string // by the name of the input
	visited func(page string) // told of every page it comes to
}

func newBrowser(answers map[string]string, visited func(string)) (*browser, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	b := &browser{answers: answers, visited: visited}
	b.http = &http.Client{Jar: jar, Transport: &http.Transport{}, Timeout: time.Minute}
	return b, nil
}

// maxPages is more than any link takes.
const maxPages = 30

// visit goes on from address until a page asks nothing more, and returns that
// page's address.
func (b *browser) visit(ctx context.Context, address string) (end string, err error) {
	defer b.http.CloseIdleConnections()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return "", err
	}
	for range maxPages {
		at, text, err := b.load(r)
		if err != nil {
			return "", err
		}
		b.visited(at.Scheme + "://" + at.Host + shorten(at.Path))
		if next, ok := refreshed(at, text); ok {
			if r, err = http.NewRequestWithContext(ctx, http.MethodGet, next, nil); err != nil {
				return "", err
			}
			select {
			case <-time.After(time.Second): // pages that wait for a bank
				continue
			case <-ctx.Done():
				return "", ctx.Err()
			}
		}
		f, ok := firstForm(text)
		if !ok {
			return at.String(), nil
		}
		values, err := f.fill(b.answers)
		if err != nil {
			return "", fmt.Errorf("%s%s: %w", at.Host, at.Path, err)
		}
		target, err := at.Parse(f.action)
		if err != nil {
			return "", err
		}
		if r, err = submission(ctx, f, target, values); err != nil {
			return "", err
		}
		r.Header.Set("Origin", at.Scheme+"://"+at.Host)
	}
	return "", errors.New("the pages go round in circles")
}

func submission(ctx context.Context, f form, target *url.URL, values url.Values) (*http.Request, error) {
	if f.method == http.MethodGet {
		target.RawQuery = values.Encode()
		return http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), strings.NewReader(values.Encode()))
	if err == nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return r, err
}

func (b *browser) load(r *http.Request) (*url.URL, string, error) {
	r.Header.Set("Accept", "text/html")
	r.Header.Set("User-Agent", "bankfeed-demo/1 (a person's browser)")
	resp, err := b.http.Do(r)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, "", err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, "", fmt.Errorf("%s answered %s", resp.Request.URL.Host+resp.Request.URL.Path, resp.Status)
	}
	return resp.Request.URL, string(text), nil
}

// shorten keeps long ids of a path out of the output.
func shorten(path string) string {
	parts := strings.Split(path, "/")
	for i, p := range parts {
		if len(p) > 16 {
			parts[i] = p[:6] + "…"
		}
	}
	return strings.Join(parts, "/")
}

// form is the first form of a page.
type form struct {
	action, method string
	inputs         []input
}

type input struct{ name, kind, value string }

var (
	formTag  = regexp.MustCompile(`(?is)<form\b([^>]*)>(.*?)</form>`)
	inputTag = regexp.MustCompile(`(?is)<(input|button)\b([^>]*)>`)
	metaTag  = regexp.MustCompile(`(?is)<meta\b[^>]*http-equiv="refresh"[^>]*>`)
	attrTag  = regexp.MustCompile(`(?is)([a-z-]+)\s*=\s*"([^"]*)"`)
)

func attributes(s string) map[string]string {
	m := map[string]string{}
	for _, a := range attrTag.FindAllStringSubmatch(s, -1) {
		m[strings.ToLower(a[1])] = html.UnescapeString(a[2])
	}
	return m
}

// refreshed is where a page goes on by itself.
func refreshed(at *url.URL, page string) (next string, ok bool) {
	m := metaTag.FindString(page)
	if m == "" {
		return "", false
	}
	_, target, _ := strings.Cut(attributes(m)["content"], ";")
	target = strings.TrimSpace(target)
	if len(target) >= 4 && strings.EqualFold(target[:4], "url=") {
		target = target[4:]
	}
	u, err := at.Parse(target)
	return u.String(), err == nil
}

func firstForm(page string) (f form, ok bool) {
	m := formTag.FindStringSubmatch(page)
	if m == nil {
		return f, false
	}
	a := attributes(m[1])
	f.action, f.method = a["action"], http.MethodGet
	if strings.EqualFold(a["method"], "post") {
		f.method = http.MethodPost
	}
	for _, tag := range inputTag.FindAllStringSubmatch(m[2], -1) {
		a := attributes(tag[2])
		kind := a["type"]
		if strings.EqualFold(tag[1], "button") {
			kind = "submit"
		}
		if a["name"] != "" {
			f.inputs = append(f.inputs, input{a["name"], kind, a["value"]})
		}
	}
	return f, true
}

// fill answers what the form asks: hidden inputs and choices as they are, the
// first button, the rest by name.
func (f form) fill(answers map[string]string) (url.Values, error) {
	v := url.Values{}
	pressed := false
	chosen := map[string]bool{}
	for _, in := range f.inputs {
		switch in.kind {
		case "hidden", "checkbox":
			v.Add(in.name, in.value)
		case "radio":
			if !chosen[in.name] {
				chosen[in.name] = true
				v.Set(in.name, in.value)
			}
		case "submit":
			if !pressed {
				pressed = true
				v.Set(in.name, in.value)
			}
		default:
			answer, ok := answers[in.name]
			if !ok {
				return nil, fmt.Errorf("the page asks for %q", in.name)
			}
			v.Set(in.name, answer)
		}
	}
	return v, nil
}
