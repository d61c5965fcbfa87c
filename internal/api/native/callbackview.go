package native

import (
	"net/url"
	"strings"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/delivery/callback"
	"github.com/bankfeed/bankfeed/internal/eventlog"
	wire "github.com/bankfeed/bankfeed/wire/native"
)

// Callback is a receiver: a subscription of its own, or an origin (scheme, host
// and port) that requests named.
type Callback struct {
	ID         string           `json:"id" doc:"Number of the callback." example:"4"`
	UUID       string           `json:"uuid" format:"uuid"`
	Kind       string           `json:"kind" enum:"subscription,request" doc:"subscription: made here. request: the receiver of all callbacks that requests named on one origin."`
	Client     string           `json:"client" doc:"client_id of whoever made it first."`
	Name       string           `json:"name,omitempty"`
	URL        string           `json:"url,omitempty" doc:"Of a subscription. A password and the values of a query are shown as ***."`
	Origin     string           `json:"origin" doc:"Scheme, host and port." example:"https://receiver.example:443"`
	Types      []string         `json:"types,omitempty" nullable:"false" doc:"Only these types of event; absent: all."`
	User       string           `json:"user,omitempty" doc:"Only events of this user. Likewise connection and account."`
	Connection string           `json:"connection,omitempty"`
	Account    string           `json:"account,omitempty"`
	Ordered    bool             `json:"ordered" doc:"What follows for a connection waits until what went before was delivered or given up."`
	Concurrent int              `json:"concurrent,omitempty" doc:"Attempts at the same time, at most; absent: as the hub does."`
	PerSecond  int              `json:"per_second,omitempty" doc:"Attempts a second, at most; absent: no limit."`
	MaxRetries *int             `json:"max_retries,omitempty" doc:"Attempts after the first, at most; absent: the whole schedule."`
	Headers    *CallbackHeaders `json:"headers,omitempty"`
	Status     string           `json:"status" enum:"active,paused,disabled"`
	Reason     string           `json:"reason,omitempty" doc:"Why it is not active."`
	Health     CallbackHealth   `json:"health"`
	Notes      []CallbackNote   `json:"notes,omitempty" nullable:"false" doc:"What happened to its place in the log, newest last."`
	Progress   *Progress        `json:"progress,omitempty" doc:"Of a subscription, when one is asked for by its id."`
	Counts     *CallbackCounts  `json:"counts,omitempty" doc:"When one is asked for by its id."`
	CreatedAt  time.Time        `json:"created_at"`
	Secret     string           `json:"secret,omitempty" doc:"Only in the answer to the first subscription of a company that had no secret: what its callbacks are signed with. It is not shown again."`
}

// CallbackHeaders names headers.
type CallbackHeaders struct {
	ID        string            `json:"id,omitempty" maxLength:"100" doc:"Instead of webhook-id."`
	Timestamp string            `json:"timestamp,omitempty" maxLength:"100" doc:"Instead of webhook-timestamp."`
	Signature string            `json:"signature,omitempty" maxLength:"100" doc:"Instead of webhook-signature."`
	Static    map[string]string `json:"static,omitempty" doc:"Sent along as they are, 20 at most, for example Authorization. Values are kept sealed and shown as ***."`
}

// CallbackHealth is what is known of a receiver's answers.
type CallbackHealth struct {
	State         string     `json:"state" enum:"unknown,ok,failing,outage" doc:"unknown: nothing was tried yet. failing: the last attempts failed. outage: nothing is accepted any more; deliveries keep their schedule, and one of them probes now and then."`
	Failures      int        `json:"failures" doc:"Attempts in a row without success."`
	LastSuccessAt *time.Time `json:"last_success_at,omitempty"`
	LastFailureAt *time.Time `json:"last_failure_at,omitempty"`
	LastCause     string     `json:"last_cause,omitempty" doc:"Of the last failure: dns, forbidden, refused, reset, tls, timeout, redirect, gone, limited, status, invalid, render."`
	LastStatus    int        `json:"last_status,omitempty" doc:"HTTP status of the last failure, if there was an answer."`
	OutageSince   *time.Time `json:"outage_since,omitempty"`
	ProbeAt       *time.Time `json:"probe_at,omitempty" doc:"When the next attempt probes."`
	NotBefore     *time.Time `json:"not_before,omitempty" doc:"Nothing is sent before: the receiver asked so by Retry-After."`
}

// CallbackNote is something that happened to a subscription's place in the log.
type CallbackNote struct {
	Kind  string    `json:"kind" enum:"expired,restored" doc:"expired: retention removed the events from first to last before they could be sent. restored: the log was restored from a backup; what comes from first on may have been delivered before under other ids."`
	At    time.Time `json:"at"`
	First int64     `json:"first"`
	Last  int64     `json:"last,omitempty"`
}

// Progress is where a subscription stands in the log.
type Progress struct {
	Cursor string `json:"cursor" doc:"Everything up to it was dealt with or waits as a delivery. GET /v1/events takes it as after."`
	Head   string `json:"head" doc:"Cursor of the newest event."`
	Lag    int64  `json:"lag" doc:"Events of the log that it has not looked at yet."`
}

// CallbackCounts is how many deliveries stand where, each counted up to 100,000.
type CallbackCounts struct {
	States   map[string]int `json:"states" doc:"By state: waiting, delivered, given_up, erased, expired, skipped."`
	OldestAt *time.Time     `json:"oldest_at,omitempty" doc:"Since when the oldest one waits."`
}

// CallbackList is a page of callbacks.
type CallbackList struct {
	Items []Callback `json:"items" nullable:"false"`
	Next  string     `json:"next,omitempty" doc:"Send it as after for the next page; absent on the last one."`
}

// CallbackDelivery is one event on its way to one receiver.
type CallbackDelivery struct {
	ID         string            `json:"id" doc:"Number of the delivery." example:"812"`
	Callback   string            `json:"callback" doc:"Number of the callback."`
	MessageID  string            `json:"message_id" format:"uuid" doc:"What the receiver gets as webhook-id: the same over retries and redrives."`
	Event      string            `json:"event" format:"uuid" doc:"Id of the event. A replay has a message_id of its own and names this one as Bankfeed-Original-Id."`
	Replay     string            `json:"replay,omitempty" doc:"Number of the replay, if it is of one."`
	Type       string            `json:"type" example:"transaction.created"`
	User       string            `json:"user"`
	Connection string            `json:"connection,omitempty"`
	Position   int64             `json:"position" doc:"Of the event in the log; sent as Bankfeed-Sequence."`
	Once       bool              `json:"once,omitempty" doc:"Whatever comes of the first attempt, there is no other."`
	State      string            `json:"state" enum:"waiting,delivered,given_up,erased,expired,skipped"`
	Reason     string            `json:"reason,omitempty" doc:"Why it is in this state."`
	Behind     bool              `json:"behind,omitempty" doc:"It waits for another delivery of its connection: the subscription is ordered."`
	Attempts   int               `json:"attempts" doc:"How often it was tried."`
	Log        []CallbackAttempt `json:"log,omitempty" nullable:"false" doc:"The attempts, when one delivery is asked for by its id; the newest 100."`
	CreatedAt  time.Time         `json:"created_at"`
	FirstAt    *time.Time        `json:"first_at,omitempty" doc:"When it was first tried, since it was last redriven."`
	LastAt     *time.Time        `json:"last_at,omitempty" doc:"When it was last tried."`
	NextAt     *time.Time        `json:"next_at,omitempty" doc:"When it is tried next, while it waits."`
	EndedAt    *time.Time        `json:"ended_at,omitempty"`
}

// CallbackAttempt is one try.
type CallbackAttempt struct {
	Number      int       `json:"number"`
	At          time.Time `json:"at"`
	Node        string    `json:"node" doc:"The node of the hub that made it."`
	Cause       string    `json:"cause,omitempty" enum:"dns,forbidden,refused,reset,tls,timeout,redirect,gone,limited,status,invalid,render" doc:"Why it failed; absent: delivered."`
	Status      int       `json:"status,omitempty" doc:"HTTP status of the answer."`
	DurationMS  int64     `json:"duration_ms"`
	RetryAfterS int64     `json:"retry_after_s,omitempty" doc:"What the receiver asked for by Retry-After."`
	Text        string    `json:"text,omitempty" doc:"The beginning of the answer, or what kept the hub from asking."`
}

// CallbackDeliveryList is a page of deliveries.
type CallbackDeliveryList struct {
	Items []CallbackDelivery `json:"items" nullable:"false"`
	Next  string             `json:"next,omitempty" doc:"Send it as after for the next page; absent on the last one."`
}

// CallbackSecret is what callbacks are signed with.
type CallbackSecret struct {
	ID        string     `json:"id" doc:"Number of the secret."`
	Secret    string     `json:"secret,omitempty" doc:"Only in the answer that made it."`
	CreatedAt time.Time  `json:"created_at"`
	RetiredAt *time.Time `json:"retired_at,omitempty" doc:"When it stops or stopped to sign."`
}

// CallbackSecretList lists the newest secrets.
type CallbackSecretList struct {
	Items []CallbackSecret `json:"items" nullable:"false"`
}

// hidden stands for what is not shown again.
const hidden = "***"

func (a *API) callback(t callback.Target) Callback {
	v := Callback{
		ID: wire.Decimal(t.ID), UUID: a.Installation.UUID(bankfeed.KindTarget, t.Tenant, int64(t.ID)).String(), Kind: "request", Client: t.Client,
		Origin: t.Origin, Status: string(t.Status), Reason: t.Reason, Health: callbackHealth(t.Health), CreatedAt: t.CreatedAt.UTC(),
		Notes: wire.Each(t.Notes, func(n callback.Note) CallbackNote {
			return CallbackNote{Kind: string(n.Kind), At: n.At.UTC(), First: int64(n.First), Last: int64(n.Last)}
		}),
	}
	s := t.Subscription
	if s == nil {
		return v
	}
	v.Kind, v.Name, v.URL = "subscription", s.Name, shownURL(t.URL)
	v.Types, v.User, v.Connection, v.Account = wire.Words(s.Types), wire.Decimal(s.User), wire.Decimal(s.Connection), wire.Decimal(s.Account)
	v.Ordered, v.Concurrent, v.PerSecond, v.MaxRetries = s.Ordered, s.Concurrent, s.PerSecond, s.Retries
	if h := s.Headers; h.ID != "" || h.Timestamp != "" || h.Signature != "" || len(h.Static) > 0 {
		v.Headers = &CallbackHeaders{ID: h.ID, Timestamp: h.Timestamp, Signature: h.Signature}
		for name := range h.Static {
			if v.Headers.Static == nil {
				v.Headers.Static = map[string]string{}
			}
			v.Headers.Static[name] = hidden
		}
	}
	return v
}

// shownURL leaves out what is likely to be a secret.
func shownURL(raw bankfeed.Secret) string {
	u, err := url.Parse(string(raw))
	if err != nil {
		return hidden
	}
	if _, has := u.User.Password(); has {
		u.User = url.UserPassword(u.User.Username(), hidden)
	}
	if u.RawQuery != "" {
		parts := strings.Split(u.RawQuery, "&")
		for i, p := range parts {
			name, _, _ := strings.Cut(p, "=")
			parts[i] = name + "=" + hidden
		}
		u.RawQuery = strings.Join(parts, "&")
	}
	return strings.Replace(u.String(), url.UserPassword("", hidden).String(), ":"+hidden, 1)
}

func callbackHealth(h callback.Health) CallbackHealth {
	v := CallbackHealth{
		State: "ok", Failures: h.Failures, LastSuccessAt: wire.UTC(&h.LastSuccessAt), LastFailureAt: wire.UTC(&h.LastFailureAt), LastCause: string(h.LastCause),
		LastStatus: h.LastStatus, OutageSince: wire.UTC(&h.OutageSince), ProbeAt: wire.UTC(&h.ProbeAt), NotBefore: wire.UTC(&h.NotBefore),
	}
	switch {
	case !h.OutageSince.IsZero():
		v.State = "outage"
	case h.Failures > 0:
		v.State = "failing"
	case h.LastSuccessAt.IsZero():
		v.State = "unknown"
	}
	return v
}

// progress compares a subscription's place with the head of the log.
func progress(t callback.Target, head eventlog.Cursor) *Progress {
	at := eventlog.Cursor{Epoch: head.Epoch, Lanes: make([]bankfeed.Position, len(head.Lanes))}
	for _, c := range t.Cursors {
		at.Epoch = c.Epoch
		if c.Lane < len(at.Lanes) {
			at.Lanes[c.Lane] = c.Position
		}
	}
	v := &Progress{Cursor: at.String(), Head: head.String()}
	for i := range head.Lanes {
		v.Lag += max(0, int64(head.Lanes[i]-at.Lanes[i]))
	}
	return v
}

func callbackCounts(c callback.Counts) *CallbackCounts {
	v := &CallbackCounts{States: map[string]int{}, OldestAt: wire.UTC(&c.Oldest)}
	for _, s := range callbackStates {
		v.States[string(s)] = c.States[s]
	}
	return v
}

var callbackStates = []callback.State{callback.Waiting, callback.Delivered, callback.GivenUp, callback.Erased, callback.Expired, callback.Skipped}

func callbackDelivery(d callback.Delivery) CallbackDelivery {
	return CallbackDelivery{
		ID: wire.Decimal(d.ID), Callback: wire.Decimal(d.Target), MessageID: d.MessageID().String(), Event: d.EventID().String(), Replay: wire.Decimal(number64(d.Replay)),
		Type: string(d.Type), User: wire.Decimal(d.User), Connection: wire.Decimal(d.Connection), Position: int64(d.Position), Once: d.Once,
		State: string(d.State), Reason: d.Reason, Behind: d.Behind, Attempts: d.Attempts, CreatedAt: d.CreatedAt.UTC(),
		FirstAt: wire.UTC(&d.FirstAt), LastAt: wire.UTC(&d.LastAt), NextAt: wire.UTC(&d.NextAt), EndedAt: wire.UTC(&d.EndedAt),
	}
}

func callbackAttempt(x callback.Attempt) CallbackAttempt {
	return CallbackAttempt{
		Number: x.Number, At: x.At.UTC(), Node: x.Node, Cause: string(x.Cause), Status: x.Status, DurationMS: x.Duration.Milliseconds(),
		RetryAfterS: int64(x.RetryAfter.Seconds()), Text: x.Text,
	}
}

func callbackSecret(i callback.SecretInfo) CallbackSecret {
	return CallbackSecret{ID: wire.Decimal(number64(i.ID)), CreatedAt: i.CreatedAt.UTC(), RetiredAt: wire.UTC(&i.RetiredAt)}
}
