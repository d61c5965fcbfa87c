package demo

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/bankfeed/bankfeed"
	sdk "github.com/bankfeed/bankfeed/client"
	"github.com/bankfeed/bankfeed/internal/config"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

// How long things may take that take moments on a machine with time to spare.
const (
	leadPatience    = time.Minute     // until the hub leads its stream
	arrivalPatience = 2 * time.Minute // until a message that is due has come
	pollEvery       = 200 * time.Millisecond
)

// acknowledging is how the consumer tells the hub what it has processed.
func (j *Journey) acknowledging() sdk.Acknowledge {
	const fresh = 10 * time.Minute // tokens live longer
	c := &client{base: j.HubURL, http: newHTTP()}
	var until time.Time
	return sdk.Acknowledge{Hub: j.HubURL, Stream: config.DefaultStream, Consumer: Queue, Token: func(ctx context.Context) (string, error) {
		if time.Now().After(until) {
			if err := j.loginClient(ctx, c); err != nil {
				return "", err
			}
			until = time.Now().Add(fresh)
		}
		return c.token, nil
	}}
}

// loginClient gets a token of the client itself: a stream carries all its users.
func (j *Journey) loginClient(ctx context.Context, c *client) error {
	return c.login(ctx, map[string]string{"grant_type": "client_credentials", "client_id": j.ClientID, "client_secret": j.ClientSecret})
}

// streamStatus is what the journey looks at in GET /v1/streams.
type streamStatus struct {
	ID      string   `json:"id"`
	Trouble []string `json:"trouble"`
	Leader  *struct {
		Node string `json:"node"`
	} `json:"leader"`
}

// status is how the stream is doing; zero while the hub has not begun with it.
func (j *Journey) status(ctx context.Context) (streamStatus, error) {
	var page struct {
		Items []streamStatus `json:"items"`
	}
	_, err := j.owner.do(ctx, http.MethodGet, "/v1/streams", nil, http.StatusOK, &page)
	for _, s := range page.Items {
		if s.ID == config.DefaultStream {
			return s, err
		}
	}
	return streamStatus{}, err
}

// openStream waits until the hub leads its stream: another hub that streams into
// the same virtual host keeps it from that.
func (j *Journey) openStream(ctx context.Context) error {
	j.owner = &client{base: j.HubURL, http: j.client.http}
	if err := j.loginClient(ctx, j.owner); err != nil {
		return err
	}
	var last streamStatus
	err := j.until(ctx, leadPatience, func(ctx context.Context) (done bool, err error) {
		last, err = j.status(ctx)
		return last.Leader != nil, err
	})
	if errors.Is(err, errPatience) {
		err = fmt.Errorf("the hub does not get to stream within %s; another hub may stream into the same virtual host (it holds the queue bankfeed.leader)%s",
			leadPatience, last.says())
	}
	return err
}

// says is what the hub says about its stream, to be appended.
func (s streamStatus) says() string {
	if len(s.Trouble) == 0 {
		return ""
	}
	return "; the hub says: " + strings.Join(s.Trouble, "; ")
}

// errPatience: something did not happen in time.
var errPatience = errors.New("it took too long")

// until asks again and again, for as long as patience lasts.
func (j *Journey) until(ctx context.Context, patience time.Duration, ask func(context.Context) (done bool, err error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errPatience)
	defer cancel()
	for {
		done, err := ask(ctx)
		if ctx.Err() != nil && !done {
			return context.Cause(ctx)
		}
		if done || err != nil {
			return err
		}
		select {
		case <-time.After(pollEvery):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// faces are the types of events that become a message.
var faces = func() string {
	var list []string
	for _, info := range bankfeed.EventTypes {
		if _, ok := banqup.KindOf(info.Type); ok && info.Topic != bankfeed.TopicSeen {
			list = append(list, string(info.Type))
		}
	}
	return strings.Join(list, ",")
}()

// arrived waits until everything in the log that has a message has arrived. It
// returns what arrived, and for people what that amounts to.
func (j *Journey) arrived(ctx context.Context) (list []message, verdict string, err error) {
	missing := map[banqup.Kind]int{}
	var repeated, strange int
	err = j.until(ctx, arrivalPatience, func(ctx context.Context) (bool, error) {
		made, next, err := j.owner.changes(ctx, j.streamed, faces)
		if err != nil {
			return false, err
		}
		j.logged, j.streamed = append(j.logged, made...), next
		list, repeated = j.consumer.received()
		kinds := make(map[string]banqup.Kind, len(list))
		for _, m := range list {
			kinds[m.id.String()] = m.kind
		}
		clear(missing)
		for _, e := range j.logged {
			if k, _ := banqup.KindOf(bankfeed.EventType(e.Type)); kinds[e.ID] != k {
				missing[k]++
			}
			delete(kinds, e.ID)
		}
		strange = len(kinds) // what came may have been logged a moment after we looked
		return len(missing) == 0 && strange == 0, nil
	})
	if errors.Is(err, errPatience) {
		return nil, "", j.incomplete(ctx, missing, strange)
	}
	if err != nil {
		return nil, "", err
	}
	return list, fmt.Sprintf("%d events of the log have a message, %d messages arrived: 0 lost, %d repeated", len(j.logged), len(list), repeated), nil
}

// incomplete says what did not arrive.
func (j *Journey) incomplete(ctx context.Context, missing map[banqup.Kind]int, strange int) error {
	var parts []string
	for _, k := range banqup.Kinds {
		if n := missing[k]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, wireName(k)))
		}
	}
	s, err := j.status(ctx)
	if err != nil {
		s.Trouble = []string{err.Error()}
	}
	if len(parts) == 0 {
		return fmt.Errorf("%d messages arrived that are not in the log: somebody else publishes to the same exchanges%s", strange, s.says())
	}
	return fmt.Errorf("of %d messages these did not arrive within %s: %s%s", len(j.logged), arrivalPatience, strings.Join(parts, ", "), s.says())
}

// received shows what the consumer got.
func (j *Journey) received(ctx context.Context) error {
	j.print.step("What a consumer of the stream received")
	j.print.remark("queue %s, bound to the five exchanges as MassTransit binds its queues; the first of each kind:", Queue)
	list, verdict, err := j.arrived(ctx)
	if err != nil {
		return err
	}
	const shown = 4
	count := map[banqup.Kind]int{}
	for _, m := range list {
		if count[m.kind]++; count[m.kind] <= shown {
			j.print.message(wireName(m.kind), m.about)
		}
	}
	j.print.say("in all:")
	for _, k := range banqup.Kinds {
		j.print.say("  %-24s %5d", wireName(k), count[k])
		if count[k] == 0 {
			return fmt.Errorf("no %s arrived", wireName(k))
		}
	}
	j.print.say("%s", verdict)
	if !slices.ContainsFunc(list, func(m message) bool { return m.kind == banqup.Consent && m.operation == "created" }) {
		return errors.New("no ConsentMessage created arrived")
	}
	return nil
}

// story is what the journey looks at in a story of the stream's events.
type story struct {
	Event struct {
		Type     string `json:"type"`
		Position int64  `json:"position"`
	} `json:"event"`
	State string `json:"state"`
	Steps []struct {
		State    string     `json:"state"`
		At       *time.Time `json:"at"`
		Text     string     `json:"text"`
		Consumer string     `json:"consumer"`
	} `json:"steps"`
}

func (s *story) has(state string) bool {
	for _, step := range s.Steps {
		if step.State == state {
			return true
		}
	}
	return false
}

// tellStory shows what the hub knows of one message.
func (j *Journey) tellStory(ctx context.Context) error {
	at := slices.IndexFunc(j.logged, func(c change) bool { return c.Type == string(bankfeed.EventTransactionCreated) })
	if at < 0 {
		return errors.New("no transaction is in the log")
	}
	id := j.logged[at].ID
	path := "/v1/streams/" + config.DefaultStream + "/events?message_id="
	j.print.step("The story of one message, as the hub knows it")
	j.print.remark("GET %s%s", path, id)
	var told story
	err := j.until(ctx, arrivalPatience, func(ctx context.Context) (bool, error) {
		var page struct {
			Items []story `json:"items"`
		}
		if _, err := j.owner.do(ctx, http.MethodGet, path+url.QueryEscape(id), nil, http.StatusOK, &page); err != nil {
			return false, err
		}
		if len(page.Items) != 1 {
			return false, fmt.Errorf("the hub has %d stories of message %s", len(page.Items), id)
		}
		told = page.Items[0]
		return told.has("routed") && told.has("drained") && told.has("acknowledged"), nil
	})
	j.print.say("event %d of the log, %s: %s", told.Event.Position, told.Event.Type, told.State)
	for _, step := range told.Steps {
		when := ""
		if step.At != nil {
			when = step.At.Local().Format("15:04:05.000")
		}
		who := ""
		if step.Consumer != "" {
			who = " (" + step.Consumer + ")"
		}
		j.print.say("  %-12s  %-12s  %s%s", when, step.State, step.Text, who)
	}
	if errors.Is(err, errPatience) {
		return fmt.Errorf("the story of message %s ends with %s: it was not seen to be routed, drained and acknowledged within %s", id, told.State, arrivalPatience)
	}
	return err
}

// consent is what the journey looks at in a consent.
type consent struct {
	ID     string `json:"id"`
	UUID   string `json:"uuid"`
	Status string `json:"status"`
}

// confirmed finds a consent of the user that works.
func (j *Journey) confirmed(ctx context.Context) (consent, error) {
	var page struct {
		Items []consent `json:"items"`
	}
	if _, err := j.client.do(ctx, http.MethodGet, "/v1/consents", nil, http.StatusOK, &page); err != nil {
		return consent{}, err
	}
	at := slices.IndexFunc(page.Items, func(c consent) bool { return c.Status == string(bankfeed.ConsentConfirmed) })
	if at < 0 {
		return consent{}, errors.New("the user has no consent that works")
	}
	return page.Items[at], nil
}

// takeBack deletes a consent and waits for the last word about it.
func (j *Journey) takeBack(ctx context.Context) error {
	j.print.step("The user takes a consent back")
	c, err := j.confirmed(ctx)
	if err != nil {
		return err
	}
	j.print.remark("DELETE /v1/consents/%s", c.ID)
	j.consumer.showLive()
	if _, err := j.client.do(ctx, http.MethodDelete, "/v1/consents/"+c.ID, nil, http.StatusAccepted, nil); err != nil {
		return err
	}
	err = j.until(ctx, arrivalPatience, func(context.Context) (bool, error) {
		list, _ := j.consumer.received()
		return slices.ContainsFunc(list, func(m message) bool {
			return m.kind == banqup.Consent && m.operation == "deleted" && m.subject == c.UUID
		}), nil
	})
	if errors.Is(err, errPatience) {
		return fmt.Errorf("no ConsentMessage deleted arrived within %s", arrivalPatience)
	}
	if err != nil {
		return err
	}
	_, verdict, err := j.arrived(ctx)
	if err == nil {
		j.print.say("%s", verdict)
	}
	return err
}
