package oxlin

import (
	"context"
	"encoding/json"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/api/dialect"
	"github.com/bankfeed/bankfeed/wire/oxlin"
)

// Queues are the per-user queues. An unknown, expired, ended or foreign queue
// is bankfeed.ErrNotFound; a position below what the log keeps is Gone.
type Queues interface {
	Create(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, topics []bankfeed.Topic) (id string, err error)
	// Read returns the next events, and waits up to wait while there are none.
	// It commits what the previous call returned if that call's done heard
	// true, else returns it again. With after it reads what follows that
	// position instead and sets the queue there. done is called once, also
	// without events: the queue lives on from then. A client that asks again
	// before done is heard waits for it at the same node.
	Read(ctx context.Context, q Queue, after *bankfeed.Position, limit int, wait time.Duration) (events []bankfeed.Event, done func(written bool), err error)
	// Follow returns what follows after, or where the queue stands if nil, and
	// moves nothing. It waits up to wait while there is nothing.
	Follow(ctx context.Context, q Queue, after *bankfeed.Position, limit int, wait time.Duration) ([]bankfeed.Event, error)
	Delete(ctx context.Context, q Queue) error
}

// Queue names a queue of a user.
type Queue struct {
	Tenant bankfeed.TenantID
	User   bankfeed.UserID
	ID     string
}

type subscription struct {
	Topics []string `json:"topics" minItems:"1" maxItems:"10" nullable:"false" enum:"connections"`
}

// maxEvents is the most that one poll returns.
const maxEvents = 500

var (
	queueAfter = dialect.Param{Name: "after", Schema: dialect.Text(18),
		Doc: "The id of an event, 0 for the first that is kept: read what follows it, and let the queue go on from there. A stream moves nothing."}
	queueLimit = dialect.Param{Name: "limit", Doc: "Events in one answer.", Schema: dialect.Integer(1, maxEvents, maxEvents)}
	queueWait  = dialect.Param{Name: "wait", Doc: "How many seconds to wait for an event before answering 204.", Schema: dialect.Integer(0, 30, 0)}
	lastEvent  = dialect.Param{Name: "Last-Event-ID", Header: true, Schema: dialect.Text(18), Doc: "Where a stream goes on; it wins over `after`."}

	queueParams = []dialect.Param{userID, queueAfter, queueLimit, queueWait, lastEvent}
)

func (a *API) subscribe(c *dialect.Call) error {
	user, err := a.user(c)
	if err != nil {
		return err
	}
	var body subscription
	if err := c.Body(&body); err != nil {
		return err
	}
	id, err := a.Queues.Create(c.Context(), c.Tenant(), user, []bankfeed.Topic{bankfeed.TopicConnections})
	if err != nil {
		return err
	}
	c.W.Header().Set("Location", "/queues/"+id)
	return c.Write(http.StatusCreated, nil)
}

func (a *API) queue(c *dialect.Call) (Queue, error) {
	user, err := a.user(c)
	return Queue{c.Tenant(), user, c.R.PathValue("queue_id")}, err
}

func (a *API) deleteQueue(c *dialect.Call) error {
	q, err := a.queue(c)
	if err != nil {
		return err
	}
	if err := a.Queues.Delete(c.Context(), q); err != nil {
		return err
	}
	return c.Write(http.StatusNoContent, nil)
}

func (a *API) readQueue(c *dialect.Call) error {
	q, err := a.queue(c)
	if err != nil {
		return err
	}
	after, err := position(queueAfter, c.Query.Get(queueAfter.Name))
	if err != nil {
		return err
	}
	most, err := c.Integer(queueLimit)
	if err != nil {
		return err
	}
	wait, err := c.Integer(queueWait)
	if err != nil {
		return err
	}
	if acceptsStream(c.R) {
		return a.stream(c, q, after, most)
	}
	return a.poll(c, q, after, most, time.Duration(wait)*time.Second)
}

// position reads an event id; nil if there is none.
func position(p dialect.Param, s string) (*bankfeed.Position, error) {
	if s == "" {
		return nil, nil
	}
	n, ok := bankfeed.ParseNumber(s)
	if !ok && s != "0" {
		return nil, bankfeed.InvalidField(p.Name, "must be the id of an event")
	}
	after := bankfeed.Position(n)
	return &after, nil
}

func acceptsStream(r *http.Request) bool {
	for accept := range strings.SplitSeq(strings.Join(r.Header.Values("Accept"), ","), ",") {
		if kind, _, err := mime.ParseMediaType(accept); err == nil && kind == "text/event-stream" {
			return true
		}
	}
	return false
}

// poll answers with the next events that can be shown. A batch of nothing but
// erased ones is passed over, within the time that the client waits.
func (a *API) poll(c *dialect.Call, q Queue, after *bankfeed.Position, most int, wait time.Duration) error {
	deadline := time.Now().Add(wait)
	for {
		events, done, err := a.Queues.Read(c.Context(), q, after, most, max(0, time.Until(deadline)))
		if err != nil {
			return err
		}
		shown := render(events)
		switch {
		case len(shown) > 0:
			err = c.Write(http.StatusOK, shown)
		case len(events) == 0:
			err = c.Write(http.StatusNoContent, nil)
		default:
			done(true)
			after = nil
			continue
		}
		done(err == nil)
		return err
	}
}

func render(events []bankfeed.Event) []oxlin.Event {
	shown := make([]oxlin.Event, 0, len(events))
	for _, e := range events {
		if w, ok := oxlin.RenderEvent(e); ok {
			shown = append(shown, w)
		}
	}
	return shown
}

// heartbeat is how often a silent stream says that it is alive: proxies cut
// what is silent for longer.
const heartbeat = 15 * time.Second

// stream sends events as they come (HTML Living Standard, server-sent events),
// until the client goes, the queue or the token ends. A message has no event
// name, so that a browser's onmessage gets them all.
func (a *API) stream(c *dialect.Call, q Queue, after *bankfeed.Position, most int) error {
	if last, err := position(lastEvent, c.R.Header.Get(lastEvent.Name)); err != nil {
		return err
	} else if last != nil {
		after = last
	}
	// Asked before the first byte, so that an unknown queue is a plain 404.
	events, err := a.Queues.Follow(c.Context(), q, after, most, 0)
	if err != nil {
		return err
	}
	header := c.W.Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("X-Accel-Buffering", "no") // nginx would hold events back
	c.Begin(http.StatusOK)
	defer http.NewResponseController(c.W).SetWriteDeadline(time.Time{}) //nolint:errcheck // of send; the connection may serve others
	authenticated := time.Now()
	for {
		if err := send(c, events); err != nil {
			return err
		}
		if len(events) > 0 {
			after = &events[len(events)-1].Position
		}
		if time.Since(authenticated) >= heartbeat {
			if caller, err := c.Authenticate(c.Context()); err != nil || caller.Client.Tenant != q.Tenant {
				return err
			}
			authenticated = time.Now()
		}
		if events, err = a.Queues.Follow(c.Context(), q, after, most, heartbeat); err != nil {
			return err
		}
	}
}

// send writes messages, or a comment if there are none to show.
func send(c *dialect.Call, events []bankfeed.Event) error {
	var chunk []byte
	for _, w := range render(events) {
		data, err := json.Marshal(w) // on one line, as a message needs it
		if err != nil {
			return err
		}
		chunk = append(append(append(chunk, "id: "+w.ID+"\ndata: "...), data...), "\n\n"...)
	}
	if len(chunk) == 0 {
		chunk = []byte(":\n\n")
	}
	connection := http.NewResponseController(c.W)
	_ = connection.SetWriteDeadline(time.Now().Add(dialect.IOTimeout))
	if _, err := c.W.Write(chunk); err != nil {
		return err
	}
	return dialect.Flush(connection)
}
