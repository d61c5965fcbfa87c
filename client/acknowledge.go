package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/bankfeed/bankfeed"
)

// Acknowledge says how the hub learns of processed messages. The broker cannot
// tell it: a message that left a queue may have been processed or not.
type Acknowledge struct {
	// Hub is its public URL, https://hub.example.
	Hub string
	// Stream is the name of the stream at the hub.
	Stream string
	// Consumer is how this one is called there; empty is the name of the machine.
	Consumer string
	// Token returns the access token of a client of the hub, a fresh one if the
	// last has run out. It is called for every request. A client acts for live or
	// for sandbox users: messages of the others stay unacknowledged, which is
	// logged once.
	Token func(context.Context) (string, error)
	// HTTP sends the requests; nil is a client with a timeout of 30 s.
	HTTP *http.Client

	// A request goes out with Batch messages (0 is 500), or Every (0 is 1 s) after
	// the first that waits.
	Batch int
	Every time.Duration
	// Waiting is how many messages are kept while the hub does not answer (0 is
	// 100,000); beyond it the oldest are not acknowledged. Consuming never waits.
	Waiting int
}

// acknowledger collects ids and sends them in the order of their processing.
type acknowledger struct {
	o    Acknowledge
	url  string
	log  *slog.Logger
	wake chan struct{} // something waits
	full chan struct{} // a batch waits

	mu      sync.Mutex
	waiting []bankfeed.UUID
	dropped int

	warned bool // that the hub does not know messages; of run
}

const (
	maxBatch         = 1000
	requestTimeout   = 30 * time.Second
	longestAckPause  = time.Minute
	maxAnswer        = 64 << 10 // bytes of an answer that are read, so that the connection can be used again
	shortestAckPause = time.Second
)

func newAcknowledger(o Acknowledge, log *slog.Logger) (*acknowledger, error) {
	u, err := url.Parse(o.Hub)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil:
		return nil, bankfeed.InvalidField("Acknowledge.Hub", "is not the URL of a hub")
	case o.Stream == "":
		return nil, bankfeed.InvalidField("Acknowledge.Stream", "is needed")
	case o.Token == nil:
		return nil, bankfeed.InvalidField("Acknowledge.Token", "is needed")
	case o.Batch < 0 || o.Batch > maxBatch:
		return nil, bankfeed.InvalidField("Acknowledge.Batch", "must be at most %d", maxBatch)
	}
	if o.Consumer == "" {
		if o.Consumer, err = os.Hostname(); err != nil {
			return nil, bankfeed.InvalidField("Acknowledge.Consumer", "is needed: the machine has no name")
		}
	}
	if o.HTTP == nil {
		o.HTTP = &http.Client{Timeout: requestTimeout}
	}
	if o.Batch == 0 {
		o.Batch = 500
	}
	if o.Every == 0 {
		o.Every = time.Second
	}
	if o.Waiting == 0 {
		o.Waiting = 100_000
	}
	return &acknowledger{
		o: o, log: log, wake: make(chan struct{}, 1), full: make(chan struct{}, 1),
		url: strings.TrimSuffix(o.Hub, "/") + "/v1/streams/" + url.PathEscape(o.Stream) + "/acknowledgements",
	}, nil
}

// add never blocks.
func (a *acknowledger) add(id bankfeed.UUID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting = append(a.waiting, id)
	if over := len(a.waiting) - a.o.Waiting; over > 0 {
		a.waiting = a.waiting[over:]
		a.dropped += over
	}
	signal(a.wake)
	if len(a.waiting) >= a.o.Batch {
		signal(a.full)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// take removes the next batch, and says how many were dropped meanwhile.
func (a *acknowledger) take() (batch []bankfeed.UUID, dropped int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := min(len(a.waiting), a.o.Batch)
	batch, a.waiting = a.waiting[:n:n], a.waiting[n:]
	if len(a.waiting) >= a.o.Batch {
		signal(a.full)
	}
	if len(a.waiting) > 0 {
		signal(a.wake)
	}
	dropped, a.dropped = a.dropped, 0
	return batch, dropped
}

// run sends until ctx ends, and then, as long as patient lasts, what still waits.
// The error is about acknowledgements that were not sent at the end.
func (a *acknowledger) run(ctx, patient context.Context) error {
	for {
		select {
		case <-a.wake:
		case <-ctx.Done():
		}
		select {
		case <-a.full:
		case <-time.After(a.o.Every):
		case <-ctx.Done():
		}
		batch, dropped := a.take()
		if dropped > 0 {
			a.log.WarnContext(ctx, "stream: the hub did not answer for too long; processed messages stay unacknowledged there", "messages", dropped)
		}
		if len(batch) == 0 {
			select {
			case <-ctx.Done():
				return nil
			default:
				continue
			}
		}
		if err := a.deliver(ctx, patient, batch); err != nil {
			return fmt.Errorf("client: %d acknowledgements were not sent: %w", len(batch)+a.left(), err)
		}
	}
}

func (a *acknowledger) left() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.waiting)
}

// deliver sends a batch until the hub answers. Once ctx has ended, one failure is
// enough.
func (a *acknowledger) deliver(ctx, patient context.Context, batch []bankfeed.UUID) error {
	body, err := json.Marshal(struct {
		MessageIDs []bankfeed.UUID `json:"message_ids"`
		Consumer   string          `json:"consumer"`
	}{batch, a.o.Consumer})
	if err != nil {
		return err
	}
	pause := shortestAckPause
	for {
		unknown, wait, err := a.post(patient, body)
		switch {
		case err == nil:
			if unknown > 0 && !a.warned {
				a.warned = true
				a.log.WarnContext(ctx, "stream: the hub does not know messages that it was told of: those of another stream, or of users that the token's client does not act for; said once",
					"messages", unknown, "of", len(batch), "stream", a.o.Stream)
			}
			return nil
		case errors.Is(err, errRefused):
			a.log.ErrorContext(ctx, "stream: the hub refuses acknowledgements", "messages", len(batch), "err", err)
			return nil // it would refuse them again
		case ctx.Err() != nil:
			return err
		}
		wait = max(wait, pause)
		a.log.WarnContext(ctx, "stream: the hub does not take acknowledgements", "messages", len(batch)+a.left(), "again_in", wait, "err", err)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
		pause = min(2*pause, longestAckPause)
	}
}

// errRefused: sending it again would not help.
var errRefused = errors.New("refused")

// post sends one request. unknown is how many of its messages the hub has no
// record of; after a failure, retryAfter is what it asked for.
func (a *acknowledger) post(ctx context.Context, body []byte) (unknown int, retryAfter time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	token, err := a.o.Token(ctx)
	if err != nil {
		return 0, 0, fmt.Errorf("token: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.url, bytes.NewReader(body))
	if err != nil {
		return 0, 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := a.o.HTTP.Do(req)
	if err != nil {
		return 0, 0, err
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer)) // the status says what matters
	switch code := resp.StatusCode; {
	case code < http.StatusMultipleChoices:
		var answer struct {
			Unknown []string `json:"unknown"`
		}
		_ = json.Unmarshal(text, &answer)
		return len(answer.Unknown), 0, nil
	case code == http.StatusUnauthorized, code == http.StatusRequestTimeout, code == http.StatusTooManyRequests, code >= http.StatusInternalServerError:
		seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After")) // 0 if it is missing or a date
		return 0, min(time.Duration(max(seconds, 0))*time.Second, longestAckPause), errors.New(resp.Status)
	default:
		return 0, 0, fmt.Errorf("%w: %s", errRefused, resp.Status)
	}
}
