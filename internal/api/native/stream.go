package native

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/eventlog"
	wire "github.com/bankfeed/bankfeed/wire/native"
)

const (
	heartbeat    = 15 * time.Second // keeps proxies from closing a quiet stream
	writeTimeout = 10 * time.Second // for one page to a reader that does not read
	streamPage   = 200
)

// stream sends page after page, first p, as server-sent events (WHATWG HTML,
// section 9.2) until the reader, its token or the hub is gone. Each write has
// its own deadline.
func (a *API) stream(ctx context.Context, c *call, q eventlog.Query, after eventlog.Cursor, p eventlog.Page) {
	rc := http.NewResponseController(c.w)
	defer func() { _ = rc.SetWriteDeadline(time.Time{}) }() // the connection may serve another request
	send := func(b []byte) bool {
		_ = rc.SetWriteDeadline(time.Now().Add(writeTimeout)) // only a writer in tests has none
		_, err := c.w.Write(b)
		return err == nil && rc.Flush() == nil
	}
	h := c.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // nginx: pass on at once
	c.w.WriteHeader(http.StatusOK)

	r := a.renderer(c)
	for checked := time.Now(); ; {
		body, err := page(r, after, p)
		if err != nil {
			a.endStream(ctx, send, err)
			return
		}
		if !send(body) {
			return
		}
		if time.Since(checked) >= heartbeat {
			now, err := c.authenticate(ctx)
			if err == nil && (now.User != c.User || now.Client != c.Client) {
				err = bankfeed.Errorf(bankfeed.Unauthorized, "the access token speaks for somebody else")
			}
			if err != nil {
				a.endStream(ctx, send, err)
				return
			}
			checked = time.Now()
		}
		after = p.Next
		if p, err = a.readEvents(ctx, c, q, after, heartbeat); err != nil {
			a.endStream(ctx, send, err)
			return
		}
	}
}

// page draws what was read after a cursor. Each event's id is the cursor behind
// it. If more was looked at than is shown, a comment with an id follows: it
// reaches no handler, but moves the reader's Last-Event-ID on.
func page(r wire.Renderer, after eventlog.Cursor, p eventlog.Page) ([]byte, error) {
	var b bytes.Buffer
	at := eventlog.Cursor{Epoch: after.Epoch, Lanes: slices.Clone(after.Lanes)}
	for _, e := range p.Events {
		at.Lanes[e.Lane] = e.Position
		data, err := json.Marshal(r.Event(e))
		if err != nil {
			return nil, err
		}
		b.WriteString("id: " + at.String() + "\nevent: " + string(e.Type) + "\ndata: ")
		b.Write(data)
		b.WriteString("\n\n")
	}
	if len(p.Events) == 0 || !slices.Equal(at.Lanes, p.Next.Lanes) {
		b.WriteString(": \nid: " + p.Next.String() + "\n\n")
	}
	return b.Bytes(), nil
}

// endStream says why, if anybody is there to be told.
func (a *API) endStream(ctx context.Context, send func([]byte) bool, err error) {
	if ctx.Err() != nil {
		return
	}
	data, err := json.Marshal(a.problem(ctx, err))
	if err == nil {
		send(slices.Concat([]byte("event: problem\ndata: "), data, []byte("\n\n")))
	}
}
