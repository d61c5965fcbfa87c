package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/bankfeed/bankfeed"
	sdk "github.com/bankfeed/bankfeed/client"
	"github.com/bankfeed/bankfeed/wire/banqup"
	"github.com/bankfeed/bankfeed/wire/finapi"
	"github.com/bankfeed/bankfeed/wire/oxlin"
)

// syncEverywhere starts a synchronization as finAPI's clients do and follows it
// in every dialect. It returns the events about data that it made.
func (j *Journey) syncEverywhere(ctx context.Context) (changes []change, err error) {
	_, from, err := j.client.changes(ctx, "latest", "")
	if err != nil {
		return nil, err
	}
	token, err := j.finapiToken(ctx)
	if err != nil {
		return nil, err
	}
	in, err := j.openCallbacks(ctx)
	if err != nil {
		return nil, err
	}
	defer in.close()
	const handle = "38793e87-499d-4860-b947-2c2c8ab10322"
	j.print.remark(`POST /api/v1/dataSources/bankConnections/synchronization {"callbackUrl":"%s","callbackHandle":"%s"}`, in.url, handle)
	di := &sdk.DataIntelligence{BaseURL: j.HubURL + "/api/v1", HTTP: j.client.http}
	started, err := di.Synchronize(ctx, token, sdk.SyncRequest{CallbackURL: in.url, CallbackHandle: handle})
	if err != nil {
		return nil, err
	}
	if len(started.BankConnections) != 1 {
		return nil, fmt.Errorf("%d data sources are synchronized, not 1", len(started.BankConnections))
	}
	source := started.BankConnections[0]
	j.print.say("data source %s, %s: %s", source.DataSourceID, source.BankName, source.BankStatus)
	seen, err := j.untilSynced(ctx)
	if err != nil {
		return nil, err
	}
	told, err := in.wait(ctx)
	if err != nil {
		return nil, err
	}
	if told.CallbackHandle != handle || told.Status != finapi.Successful {
		return nil, fmt.Errorf("the callback says %s, %s for %q", told.Status, told.Code, told.CallbackHandle)
	}
	status, err := di.Status(ctx, token, source.DataSourceID)
	if err != nil {
		return nil, err
	}
	j.print.say("the callback has come, its signature is good: %s, %s; the status agrees: %s, %s", told.Status, told.Code, status.Status, status.Code)
	if !status.Status.Successful() {
		return nil, errors.New("the status differs from the callback")
	}
	made, _, err := j.client.changes(ctx, from, "")
	if err != nil {
		return nil, err
	}
	if err := j.sideBySide(ctx, made, seen, told); err != nil {
		return nil, err
	}
	for _, c := range made {
		if strings.HasPrefix(c.Type, "account.") || strings.HasPrefix(c.Type, "transaction.") {
			changes = append(changes, c)
		}
	}
	return changes, nil
}

// finapiToken gets a token of the user as finAPI's clients do.
func (j *Journey) finapiToken(ctx context.Context) (bankfeed.Secret, error) {
	form := url.Values{"grant_type": {"password"}, "client_id": {j.ClientID}, "client_secret": {j.ClientSecret}, "username": {j.email}, "password": {j.password}}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, j.HubURL+"/oauth/token", strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := j.client.http.Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var answer struct {
		AccessToken bankfeed.Secret `json:"access_token"`
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("POST /oauth/token: %s", resp.Status)
	}
	return answer.AccessToken, json.NewDecoder(resp.Body).Decode(&answer)
}

// callbacks is the client's own server, which the hub calls back.
type callbacks struct {
	url    string
	server *http.Server
	hook   sdk.Webhook
	came   chan called
}

// called is a callback, or why it is not believed.
type called struct {
	finapi.SyncCallback
	id  string
	err error
}

func (j *Journey) openCallbacks(ctx context.Context) (*callbacks, error) {
	owner := &client{base: j.HubURL, http: j.client.http}
	if err := j.loginClient(ctx, owner); err != nil {
		return nil, err
	}
	var created struct {
		Secret bankfeed.Secret `json:"secret"`
	}
	if _, err := owner.do(ctx, http.MethodPost, "/v1/callbacks/secrets", nil, http.StatusCreated, &created); err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c := &callbacks{url: "http://" + l.Addr().String() + "/callbacks", hook: sdk.Webhook{Secrets: []bankfeed.Secret{created.Secret}}, came: make(chan called, 8)}
	c.server = &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: c}
	go func() { _ = c.server.Serve(l) }() // ends with close
	return c, nil
}

const maxCallback = 1 << 20

// ServeHTTP takes a callback.
func (c *callbacks) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	got := called{id: c.hook.ID(r.Header)}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxCallback))
	if err == nil {
		err = c.hook.Verify(r.Header, body)
	}
	if err == nil {
		err = json.Unmarshal(body, &got.SyncCallback)
	}
	if got.err = err; err != nil {
		w.WriteHeader(http.StatusBadRequest)
	}
	select {
	case c.came <- got:
	default: // more than anybody waits for
	}
}

func (c *callbacks) wait(ctx context.Context) (called, error) {
	select {
	case got := <-c.came:
		if got.err != nil {
			return got, fmt.Errorf("a callback came that cannot be believed: %w", got.err)
		}
		return got, nil
	case <-time.After(arrivalPatience):
		return called{}, fmt.Errorf("no callback came within %s", arrivalPatience)
	case <-ctx.Done():
		return called{}, ctx.Err()
	}
}

func (c *callbacks) close() { _ = c.server.Close() }

// sideBySide shows how each dialect told of the same events: what the queue, the
// stream and the callback brought is matched by the events' own ids.
func (j *Journey) sideBySide(ctx context.Context, made []change, queue []oxlin.Event, call called) error {
	streamed := map[string]banqup.Kind{}
	if j.consumer != nil {
		list, _, err := j.arrived(ctx)
		if err != nil {
			return err
		}
		for _, m := range list {
			streamed[m.id.String()] = m.kind
		}
	}
	queued := map[string]oxlin.EventType{}
	for _, e := range queue {
		queued[e.ID] = e.EventType
	}
	type row struct {
		face [4]string
		n    int
	}
	var rows []row
	var faces [4]int
	for _, e := range made {
		r := row{face: [4]string{e.Type, string(queued[strconv.FormatInt(e.Position, 10)])}, n: 1}
		switch k, ok := banqup.KindOf(bankfeed.EventType(e.Type)); {
		case ok && j.consumer == nil:
			r.face[2] = "(" + wireName(k) + ")"
		case streamed[e.ID] != "":
			r.face[2] = wireName(streamed[e.ID])
		}
		if e.ID == call.id {
			r.face[3] = "callback " + string(call.Status)
		}
		for i, f := range r.face {
			if f != "" {
				faces[i]++
			}
		}
		if last := len(rows) - 1; last >= 0 && rows[last].face == r.face {
			rows[last].n++
			continue
		}
		rows = append(rows, r)
	}
	j.print.say("")
	j.print.say("the same synchronization, event by event:")
	j.print.say("%-38s %-26s %-25s %s", "the hub's log", "Oxlin queue", "banqUP stream", "finAPI")
	for _, r := range rows {
		name := r.face[0]
		if r.n > 1 {
			name = fmt.Sprintf("%s × %d", name, r.n)
		}
		j.print.say("%-38s %-26s %-25s %s", name, r.face[1], r.face[2], r.face[3])
	}
	if j.consumer == nil {
		j.print.say("(in brackets: with --amqp-url it goes out)")
	}
	switch {
	case faces[1] != len(queue):
		return fmt.Errorf("the queue brought %d events, of which %d are in the log", len(queue), faces[1])
	case faces[2] == 0 || faces[3] != 1:
		return fmt.Errorf("of %d events %d have a message and %d a callback", len(made), faces[2], faces[3])
	}
	return nil
}
