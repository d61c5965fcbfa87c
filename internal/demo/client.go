package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/bankfeed/bankfeed/wire/oxlin"
)

// client calls the hub as a company's software does.
type client struct {
	base  string
	http  *http.Client
	token string
}

// psu says that the user is there; this one's device is this machine.
func psu(r *http.Request) { r.Header.Set("PSU-IP-Address", "127.0.0.1") }

// do sends in (nil: no body) and reads the answer into out (nil: none). Any
// status but want is an error.
func (c *client) do(ctx context.Context, method, path string, in any, want int, out any, change ...func(*http.Request)) (http.Header, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, err
	}
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	for _, f := range change {
		f(r)
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != want {
		return nil, fmt.Errorf("%s %s: %d %s", method, path, resp.StatusCode, bytes.TrimSpace(data))
	}
	if out != nil {
		if err := json.Unmarshal(data, out); err != nil {
			return nil, fmt.Errorf("%s %s: %w", method, path, err)
		}
	}
	return resp.Header, nil
}

// login gets a token.
func (c *client) login(ctx context.Context, grant map[string]string) error {
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	if _, err := c.do(ctx, http.MethodPost, "/token", grant, http.StatusOK, &answer); err != nil {
		return err
	}
	c.token = answer.AccessToken
	return nil
}

// follow long-polls a queue until ctx ends, as the vendor's page shows it.
func (c *client) follow(ctx context.Context, queue string, events chan<- oxlin.Event) error {
	for {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+"/v2.1"+queue+"?wait=20", nil)
		if err != nil {
			return err
		}
		r.Header.Set("Authorization", "Bearer "+c.token)
		batch, err := c.poll(r)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the journey is over, and the poll with it
		}
		if err != nil {
			return fmt.Errorf("polling the queue: %w", err)
		}
		for _, e := range batch {
			select {
			case events <- e:
			case <-ctx.Done():
				return nil
			}
		}
	}
}

func (c *client) poll(r *http.Request) (batch []oxlin.Event, err error) {
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		err = json.NewDecoder(resp.Body).Decode(&batch)
		return batch, err
	case http.StatusNoContent:
		return nil, nil
	}
	return nil, errors.New(resp.Status)
}

// transactions reads all pages.
func (c *client) transactions(ctx context.Context) (all []oxlin.Transaction, err error) {
	const limit = 500
	for page := 1; ; page++ {
		var list []oxlin.Transaction
		path := "/v2.1/transactions?limit=" + strconv.Itoa(limit) + "&page=" + strconv.Itoa(page)
		if _, err := c.do(ctx, http.MethodGet, path, nil, http.StatusOK, &list); err != nil {
			return nil, err
		}
		all = append(all, list...)
		if len(list) < limit {
			return all, nil
		}
	}
}

// change is what the journey looks at in the hub's own log of events.
type change struct {
	ID       string `json:"id"`
	Position int64  `json:"position"`
	Type     string `json:"type"`
}

// changes reads the log after a cursor, and where to go on.
func (c *client) changes(ctx context.Context, after, types string) (all []change, next string, err error) {
	for {
		var page struct {
			Items []change `json:"items"`
			Next  string   `json:"next"`
		}
		path := "/v1/events?limit=1000&after=" + after
		if types != "" {
			path += "&types=" + types
		}
		if _, err := c.do(ctx, http.MethodGet, path, nil, http.StatusOK, &page); err != nil {
			return nil, "", err
		}
		all = append(all, page.Items...)
		if len(page.Items) == 0 {
			return all, page.Next, nil
		}
		after = page.Next
	}
}

// newHTTP is a client with connections of its own.
func newHTTP() *http.Client { return &http.Client{Transport: &http.Transport{}, Timeout: time.Minute} }
