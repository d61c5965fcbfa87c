package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/sandbox"
	"github.com/bankfeed/bankfeed/wire/oxlin"
)

// The user of the demo, here and at the bank.
const (
	userPassword = "a-long-password"
	bankUser     = "fine"
)

// dataEvents are what ends up in the log when data changes.
const dataEvents = "account.*,transaction.*"

// Journey is what a client and its user do, from the first token to the second
// synchronization. The fields say where; the credentials are a sandbox client's.
type Journey struct {
	HubURL, BankURL        string
	ClientID, ClientSecret string

	print      *printer
	client     *client
	email      string
	password   string
	known      bool // the user exists
	userID     string
	connection string
	events     chan oxlin.Event

	consumer *consumer // of the stream; nil without one
	owner    *client   // the same client without a user
	logged   []change  // events that have a message, as far as the log was read
	streamed string    // where to read on
	takes    bool      // the user takes a consent back at the end

	calledBack bool // the hub may call a server on this machine
}

// NewJourney prints to out.
func NewJourney(hubURL, bankURL, clientID, clientSecret string, out interface{ Write([]byte) (int, error) }) *Journey {
	return &Journey{HubURL: hubURL, BankURL: bankURL, ClientID: clientID, ClientSecret: clientSecret, print: &printer{out: out}}
}

// UseUser lets a user travel who exists already.
func (j *Journey) UseUser(email, password string) {
	j.email, j.password, j.known = email, password, true
}

// Run travels. The error says what did not arrive.
func (j *Journey) Run(ctx context.Context) (err error) {
	j.client = &client{base: j.HubURL, http: newHTTP()}
	defer j.client.http.CloseIdleConnections()
	j.events = make(chan oxlin.Event, 1000)
	if err := j.register(ctx); err != nil {
		return err
	}
	if j.consumer != nil {
		if err := j.openStream(ctx); err != nil {
			return err
		}
	}
	queue, err := j.subscribe(ctx)
	if err != nil {
		return err
	}
	polling, stop := context.WithCancel(ctx)
	var poller sync.WaitGroup
	polled := make(chan error, 1)
	poller.Go(func() { polled <- j.client.follow(polling, queue, j.events) })
	defer func() {
		stop()
		poller.Wait()
		if e := <-polled; err == nil {
			err = e
		}
	}()
	parts := []func(context.Context) error{j.connect, j.answerCode, j.firstData, j.secondSync, j.thirdSync}
	if j.consumer != nil {
		parts = append(parts, j.received, j.tellStory)
	}
	if j.takes {
		parts = append(parts, j.takeBack)
	}
	for _, part := range parts {
		if err := part(ctx); err != nil {
			return err
		}
	}
	j.print.title("Everything arrived.")
	return nil
}

func (j *Journey) register(ctx context.Context) error {
	j.print.step("A client, and a user of it")
	j.print.remark("POST /token (client_credentials), POST /v2.1/users, POST /token (password)")
	if err := j.client.login(ctx, map[string]string{"grant_type": "client_credentials", "client_id": j.ClientID, "client_secret": j.ClientSecret}); err != nil {
		return err
	}
	if !j.known {
		j.email, j.password = fmt.Sprintf("anna-%d@example.org", time.Now().UnixMilli()), userPassword
		_, err := j.client.do(ctx, http.MethodPost, "/v2.1/users", map[string]string{"email": j.email, "password": j.password}, http.StatusCreated, nil)
		if err != nil {
			return err
		}
	}
	err := j.client.login(ctx, map[string]string{"grant_type": "password", "client_id": j.ClientID, "client_secret": j.ClientSecret,
		"username": j.email, "password": j.password})
	if err != nil {
		return err
	}
	var me oxlin.User
	if _, err := j.client.do(ctx, http.MethodGet, "/v2.1/users/me", nil, http.StatusOK, &me); err != nil {
		return err
	}
	j.userID = me.ID
	j.print.say("client %s, user %s", j.ClientID, j.userID)
	return nil
}

func (j *Journey) subscribe(ctx context.Context) (queue string, err error) {
	j.print.step("A queue, polled from now on")
	j.print.remark(`POST /v2.1/queues/subscribe {"topics":["connections"]}, then GET /v2.1/queues/{id}?wait=20 again and again`)
	h, err := j.client.do(ctx, http.MethodPost, "/v2.1/queues/subscribe", map[string][]string{"topics": {"connections"}}, http.StatusCreated, nil)
	if err != nil {
		return "", err
	}
	j.print.say("queue at %s", shorten(h.Get("Location")))
	return h.Get("Location"), nil
}

func (j *Journey) connect(ctx context.Context) error {
	j.print.step("The test bank, connected over both channels")
	j.print.remark("POST /v2.1/connections with %s (REDIRECT) and %s (EMBEDDED)", sandbox.ChannelRedirect, sandbox.ChannelEmbedded)
	back, err := newArrival(ctx)
	if err != nil {
		return err
	}
	defer back.close()
	var conn oxlin.ConnectionDetail
	_, err = j.client.do(ctx, http.MethodPost, "/v2.1/connections", map[string]any{
		"provider_id": sandbox.ProviderID, "redirect_url": back.url,
		"channels": []map[string]any{
			{"channel_definition_id": sandbox.ChannelRedirect},
			{"channel_definition_id": sandbox.ChannelEmbedded, "credentials": map[string]string{"login": bankUser, "password": sandbox.Password}},
		},
	}, http.StatusCreated, &conn, psu)
	if err != nil {
		return err
	}
	j.connection = conn.ID
	at := slices.IndexFunc(conn.Channels, func(c oxlin.ChannelDetail) bool { return c.RedirectURL != "" })
	if at < 0 {
		return errors.New("the hub gave no redirect URL")
	}
	j.print.say("connection %s to %s; the user's browser opens the redirect URL:", conn.ID, conn.Name)
	b, err := newBrowser(map[string]string{"username": bankUser, "login": bankUser, "password": sandbox.Password, "code": sandbox.Code},
		func(page string) { j.print.say("  %s", page) })
	if err != nil {
		return err
	}
	end, err := b.visit(ctx, conn.Channels[at].RedirectURL)
	if err != nil {
		return fmt.Errorf("in the user's browser: %w", err)
	}
	if !strings.HasPrefix(end, back.url) {
		return fmt.Errorf("the user's browser ended up at %s", shorten(end))
	}
	j.print.say("and the user is back at the client's own page")
	return nil
}

// answerCode answers the challenge of the EMBEDDED channel, choosing a method
// first if the bank asks for one.
func (j *Journey) answerCode(ctx context.Context) error {
	j.print.step("The one-time code of the other channel")
	j.print.remark("POST /v2.1/connections/%s/user_inputs", j.connection)
	var conn oxlin.ConnectionDetail
	if _, err := j.client.do(ctx, http.MethodGet, "/v2.1/connections/"+j.connection, nil, http.StatusOK, &conn); err != nil {
		return err
	}
	at := slices.IndexFunc(conn.Channels, func(c oxlin.ChannelDetail) bool { return c.ChannelDefinitionID == sandbox.ChannelEmbedded })
	if at < 0 || conn.Channels[at].Challenge == nil {
		return fmt.Errorf("the EMBEDDED channel has no challenge: %+v", conn.Channels)
	}
	challenge := conn.Channels[at].Challenge
	for challenge != nil {
		input := map[string]string{"channel_definition_id": sandbox.ChannelEmbedded}
		switch challenge.Kind {
		case bankfeed.ChallengeMethodChoice:
			input["method_id"] = challenge.Methods[0].ID
			j.print.say("the bank offers %d methods; the user takes %s", len(challenge.Methods), challenge.Methods[0].Name)
		case bankfeed.ChallengeCode:
			input["code"] = sandbox.Code
			j.print.say("the bank asks for a code; the user types %s", sandbox.Code)
		default:
			return fmt.Errorf("unexpected challenge %s", challenge.Kind)
		}
		var step oxlin.Step
		if _, err := j.client.do(ctx, http.MethodPost, "/v2.1/connections/"+j.connection+"/user_inputs", input, http.StatusOK, &step, psu); err != nil {
			return err
		}
		challenge = step.Challenge
	}
	return nil
}

func (j *Journey) firstData(ctx context.Context) error {
	j.print.step("The first synchronization, as the queue tells it")
	seen, err := j.untilSynced(ctx)
	if err != nil {
		return err
	}
	for _, channel := range []string{sandbox.ChannelRedirect, sandbox.ChannelEmbedded} {
		for _, want := range []oxlin.EventType{oxlin.AuthSuccess, oxlin.ListAccountsSuccess, oxlin.ListTransactionsSuccess} {
			if !slices.ContainsFunc(seen, func(e oxlin.Event) bool { return e.EventType == want && e.ChannelDefinitionID == channel }) {
				return fmt.Errorf("no %s came for channel %s", want, channel)
			}
		}
	}
	j.print.step("What is there now")
	j.print.remark("GET /v2.1/accounts, GET /v2.1/transactions")
	var accounts []oxlin.Account
	if _, err := j.client.do(ctx, http.MethodGet, "/v2.1/accounts", nil, http.StatusOK, &accounts); err != nil {
		return err
	}
	for _, a := range accounts {
		j.print.say("%-11s  %-28s  %12s %s  by %s", a.Type, a.Name, a.Balance, a.Currency, a.LastChannelDefinitionID)
	}
	if len(accounts) != 4 {
		return fmt.Errorf("%d accounts arrived, not 4", len(accounts))
	}
	all, err := j.client.transactions(ctx)
	if err != nil {
		return err
	}
	j.print.say("%d transactions", len(all))
	if len(all) == 0 {
		return errors.New("no transactions arrived")
	}
	return nil
}

func (j *Journey) secondSync(ctx context.Context) error {
	sync := j.sync
	if j.calledBack {
		j.print.step("A day later at the bank: one synchronization, in every dialect")
		j.print.remark("the bank's clock is moved by 24 hours")
		sync = j.syncEverywhere
	} else {
		j.print.step("A day later at the bank")
		j.print.remark("the bank's clock is moved by 24 hours; POST /v2.1/connections/%s/synchronize", j.connection)
	}
	bank := &client{base: j.BankURL, http: j.client.http}
	if _, err := bank.do(ctx, http.MethodPost, "/sandbox/clock", map[string]string{"advance": "24h"}, http.StatusOK, nil); err != nil {
		return err
	}
	before, err := j.client.transactions(ctx)
	if err != nil {
		return err
	}
	changes, err := sync(ctx)
	if err != nil {
		return err
	}
	after, err := j.client.transactions(ctx)
	if err != nil {
		return err
	}
	count := map[string]int{}
	for _, c := range changes {
		count[c.Type]++
	}
	j.print.say("%d transactions are known; in the log:", len(after))
	for _, t := range []string{"transaction.created", "transaction.updated", "transaction.removed", "account.updated"} {
		j.print.say("  %-20s %4d", t, count[t])
	}
	j.print.say("nothing else, because nothing else changed")
	switch {
	case count["transaction.created"] == 0:
		return errors.New("a day passed and nothing new arrived")
	case len(after)-len(before) != count["transaction.created"]-count["transaction.removed"]:
		return fmt.Errorf("%d transactions became %d, but the log has %v", len(before), len(after), count)
	case len(changes) >= len(before):
		return fmt.Errorf("%d events for one day: what was known came again", len(changes))
	case count["account.created"]+count["account.removed"] > 0:
		return fmt.Errorf("accounts came or went: %v", count)
	}
	return nil
}

func (j *Journey) thirdSync(ctx context.Context) error {
	j.print.step("Once more, with nothing new at the bank")
	changes, err := j.sync(ctx)
	if err != nil {
		return err
	}
	if len(changes) != 0 {
		return fmt.Errorf("nothing changed, but the log has %v", changes)
	}
	j.print.say("no event about data: only changes make events")
	return nil
}

// sync synchronizes to the end and returns the events about data that it made.
func (j *Journey) sync(ctx context.Context) ([]change, error) {
	_, from, err := j.client.changes(ctx, "latest", dataEvents)
	if err != nil {
		return nil, err
	}
	if _, err := j.client.do(ctx, http.MethodPost, "/v2.1/connections/"+j.connection+"/synchronize", nil, http.StatusNoContent, nil, psu); err != nil {
		return nil, err
	}
	if _, err := j.untilSynced(ctx); err != nil {
		return nil, err
	}
	made, _, err := j.client.changes(ctx, from, dataEvents)
	return made, err
}

// untilSynced shows the queue's events until the end of a synchronization.
func (j *Journey) untilSynced(ctx context.Context) (seen []oxlin.Event, err error) {
	for {
		select {
		case e := <-j.events:
			seen = append(seen, e)
			j.print.event(string(e.EventType), about(e))
			switch e.EventType {
			case oxlin.SyncAllSuccess:
				if e.Resource.Status != "SUCCESS" {
					return seen, fmt.Errorf("the synchronization ended with %s", e.Resource.Status)
				}
				return seen, nil
			case oxlin.SyncAllFailed:
				return seen, fmt.Errorf("the synchronization failed: %+v", e.Resource.Channels)
			}
		case <-ctx.Done():
			return seen, fmt.Errorf("waiting for the end of a synchronization: %w", ctx.Err())
		}
	}
}

// about says which channel an event is about and how it stands.
func about(e oxlin.Event) string {
	var parts []string
	for _, c := range e.Resource.Channels {
		parts = append(parts, c.ChannelDefinitionID+" "+string(c.Status))
	}
	s := "channel " + e.ChannelDefinitionID
	if e.Category == "global" {
		s = "connection " + string(e.Resource.Status)
	}
	return s + "  (" + strings.Join(parts, ", ") + ")"
}

// arrival is the client's own page, to which its user comes back.
type arrival struct {
	url    string
	server *http.Server
}

func newArrival(ctx context.Context) (*arrival, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	a := &arrival{url: "http://" + l.Addr().String() + "/back", server: &http.Server{ReadHeaderTimeout: 5 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("Welcome back.\n")) })}}
	go func() { _ = a.server.Serve(l) }() // ends with close
	return a, nil
}

func (a *arrival) close() { _ = a.server.Close() }
