package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
)

// request is what the hub got, and when since the start.
type request struct {
	After    time.Duration
	Messages int
}

// fakeHub answers without a network, so that time can be faked.
type fakeHub struct {
	t       *testing.T
	began   time.Time
	answers []string // "503", "503 7" with Retry-After, "cut", "200" that knows none; then 204
	got     []request
	ids     []string
}

func (h *fakeHub) RoundTrip(r *http.Request) (*http.Response, error) {
	require.Equal(h.t, "https://hub.example/base/v1/streams/main%2F1/acknowledgements", r.URL.String())
	require.Equal(h.t, "Bearer secret", r.Header.Get("Authorization"))
	require.Equal(h.t, "application/json", r.Header.Get("Content-Type"))
	var body struct {
		MessageIDs []string `json:"message_ids"`
		Consumer   string   `json:"consumer"`
	}
	require.NoError(h.t, json.NewDecoder(r.Body).Decode(&body))
	require.Equal(h.t, "books-1", body.Consumer)
	h.got = append(h.got, request{time.Since(h.began), len(body.MessageIDs)})
	answer := "204"
	if len(h.answers) > 0 {
		answer, h.answers = h.answers[0], h.answers[1:]
	}
	if answer == "cut" {
		return nil, errors.New("connection reset")
	}
	resp := &http.Response{Header: http.Header{}, Body: io.NopCloser(strings.NewReader("")), Request: r}
	code, wait, _ := strings.Cut(answer, " ")
	resp.Header.Set("Retry-After", wait)
	if code == "200" {
		text, err := json.Marshal(map[string]any{"accepted": 0, "new": 0, "unknown": body.MessageIDs})
		require.NoError(h.t, err)
		resp.Body = io.NopCloser(strings.NewReader(string(text)))
	}
	resp.StatusCode = map[string]int{"200": 200, "204": 204, "401": 401, "404": 404, "503": 503}[code]
	if code == "204" {
		h.ids = append(h.ids, body.MessageIDs...)
	}
	return resp, nil
}

// acknowledge runs an acknowledger in fake time while work is done, then stops it.
func acknowledge(t *testing.T, o Acknowledge, answers []string, work func(a *acknowledger)) (hub *fakeHub, err error) {
	t.Helper()
	return acknowledgeAndLog(t, slog.New(slog.DiscardHandler), o, answers, work)
}

func acknowledgeAndLog(t *testing.T, log *slog.Logger, o Acknowledge, answers []string, work func(a *acknowledger)) (hub *fakeHub, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		hub = &fakeHub{t: t, began: time.Now(), answers: answers}
		o.Hub, o.Stream, o.Consumer = "https://hub.example/base/", "main/1", "books-1"
		o.HTTP = &http.Client{Transport: hub}
		if o.Token == nil {
			o.Token = func(context.Context) (string, error) { return "secret", nil }
		}
		a, e := newAcknowledger(o, log)
		require.NoError(t, e)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- a.run(ctx, t.Context()) }()
		work(a)
		stop()
		err = <-ended
	})
	return hub, err
}

func add(a *acknowledger, first, last int) {
	for n := first; n <= last; n++ {
		a.add(bankfeed.EventID(1, 1, 0, bankfeed.Position(n)))
	}
}

func wait(d time.Duration) { <-time.After(d); synctest.Wait() }

func TestAcknowledgementsGoOutByCountAndTime(t *testing.T) {
	hub, err := acknowledge(t, Acknowledge{Batch: 10}, nil, func(a *acknowledger) {
		add(a, 1, 25)
		synctest.Wait()
		require.Equal(t, 5, a.left(), "two batches are full, the rest waits")
		wait(5 * time.Second)
		add(a, 26, 26)
		wait(10 * time.Second)
		add(a, 27, 28)
	})
	require.NoError(t, err)
	require.Equal(t, []request{{0, 10}, {0, 10}, {time.Second, 5}, {6 * time.Second, 1}, {15 * time.Second, 2}}, hub.got, "the last at the stop")
	require.Len(t, hub.ids, 28)
	require.Equal(t, bankfeed.EventID(1, 1, 0, 1).String(), hub.ids[0])
}

func TestAcknowledgementsAreRetried(t *testing.T) {
	hub, err := acknowledge(t, Acknowledge{}, []string{"503", "cut", "401", "503 30"}, func(a *acknowledger) {
		add(a, 1, 3)
		wait(2 * time.Minute)
	})
	require.NoError(t, err)
	require.Equal(t, []request{{time.Second, 3}, {2 * time.Second, 3}, {4 * time.Second, 3}, {8 * time.Second, 3}, {38 * time.Second, 3}}, hub.got)
	require.Len(t, hub.ids, 3)
}

func TestNoTokenIsRetriedToo(t *testing.T) {
	calls := 0
	token := func(context.Context) (string, error) {
		if calls++; calls == 1 {
			return "", errors.New("the hub is away")
		}
		return "secret", nil
	}
	hub, err := acknowledge(t, Acknowledge{Token: token}, nil, func(a *acknowledger) {
		add(a, 1, 1)
		wait(time.Minute)
	})
	require.NoError(t, err)
	require.Equal(t, []request{{2 * time.Second, 1}}, hub.got)
}

// What the hub will never take is not sent again, and holds nobody up.
func TestRefusedAcknowledgementsAreLeftAlone(t *testing.T) {
	hub, err := acknowledge(t, Acknowledge{Batch: 2}, []string{"404"}, func(a *acknowledger) { add(a, 1, 4) })
	require.NoError(t, err)
	require.Len(t, hub.got, 2)
	require.Len(t, hub.ids, 2)
}

// A token of the wrong world is answered with 200 and a list: it must not go unnoticed.
func TestUnknownMessagesAreSaidOnce(t *testing.T) {
	var log bytes.Buffer
	_, err := acknowledgeAndLog(t, slog.New(slog.NewTextHandler(&log, nil)), Acknowledge{Batch: 1000}, []string{"200", "200"}, func(a *acknowledger) {
		add(a, 1, 1000)
		wait(time.Minute)
		add(a, 1001, 1002)
		wait(time.Minute)
	})
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(log.String(), "level=WARN"), log.String())
	require.Contains(t, log.String(), "messages=1000 of=1000 stream=main/1")
}

func TestAcknowledgementsThatWaitAreBounded(t *testing.T) {
	away := make([]string, 8)
	for i := range away {
		away[i] = "503"
	}
	hub, err := acknowledge(t, Acknowledge{Batch: 1000, Waiting: 10}, away, func(a *acknowledger) {
		add(a, 1, 5)
		wait(time.Second)
		add(a, 6, 30) // the hub is away with the first five
		wait(5 * time.Minute)
	})
	require.NoError(t, err)
	require.Len(t, hub.ids, 15)
	require.Equal(t, bankfeed.EventID(1, 1, 0, 30).String(), hub.ids[14], "the newest are kept")
}

// At the stop one failure is enough, and it is said what was lost.
func TestAcknowledgementsThatAreLostAtTheStop(t *testing.T) {
	hub, err := acknowledge(t, Acknowledge{Batch: 2}, []string{"503", "503", "503"}, func(a *acknowledger) { add(a, 1, 3) })
	require.ErrorContains(t, err, "3 acknowledgements were not sent")
	require.LessOrEqual(t, len(hub.got), 2)
}
