package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"
)

const (
	heartbeat   = 15 * time.Second // of a stream in which nothing happens
	writeWithin = 30 * time.Second // a reader who takes longer is cut off
	changePage  = 100
)

// View is what a frontend sees, to be mounted with http.StripPrefix:
//
//	GET /{id}      one process, with its results
//	GET /events    changes as Server-Sent Events, each a process without results;
//	               ?process={id} narrows it to one, which comes first as it is now
//
// A stream goes on after Last-Event-ID, or ?after=; without either, the stream of
// all begins with what happens next. Where changes are missing that the reader has not
// seen, an event "reset" says so: it should read what it shows anew.
//
// may decides who sees a process; what is not allowed does not exist. Nil shows
// everything to everybody.
func (s *Service) View(may func(*http.Request, Process) bool) http.Handler {
	if may == nil {
		may = func(*http.Request, Process) bool { return true }
	}
	v := view{s, may}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /events", v.events)
	mux.HandleFunc("GET /{id}", v.one)
	return mux
}

type view struct {
	s   *Service
	may func(*http.Request, Process) bool
}

// get reads a process for a request, or answers it.
func (v view) get(w http.ResponseWriter, r *http.Request, id string) (Process, bool) {
	p, err := v.s.Get(r.Context(), id)
	switch {
	case errors.Is(err, ErrNotFound), err == nil && !v.may(r, p):
		http.Error(w, "there is no such process", http.StatusNotFound)
	case err != nil:
		v.s.o.Log.ErrorContext(r.Context(), "process: it could not be read", "err", err)
		http.Error(w, "try again later", http.StatusInternalServerError)
	default:
		return p, true
	}
	return Process{}, false
}

func (v view) one(w http.ResponseWriter, r *http.Request) {
	p, ok := v.get(w, r, r.PathValue("id"))
	if !ok {
		return
	}
	steps := p.Summary().Steps
	p.Steps = steps
	text, err := json.Marshal(p)
	if err != nil { // a result that a store has spoilt
		v.s.o.Log.ErrorContext(r.Context(), "process: it cannot be shown", "process", p.ID, "err", err)
		http.Error(w, "try again later", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(text) // if nobody is there to read it, nobody is told
}

func (v view) events(w http.ResponseWriter, r *http.Request) {
	after, given, err := position(r)
	if err != nil {
		http.Error(w, "after and Last-Event-ID are numbers", http.StatusBadRequest)
		return
	}
	only := r.URL.Query().Get("process")
	var now Process
	if only != "" {
		var ok bool
		if now, ok = v.get(w, r, only); !ok {
			return
		}
		if given && now.Status.Ended() && after >= now.Sequence {
			w.WriteHeader(http.StatusNoContent) // keeps a browser from connecting again
			return
		}
	}
	first, last, err := v.s.o.Store.Bounds(r.Context())
	if err != nil {
		v.s.o.Log.ErrorContext(r.Context(), "process: the stream of changes could not be read", "err", err)
		http.Error(w, "try again later", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
	out := sse{w, http.NewResponseController(w)}
	if first == 0 {
		first = last + 1
	}
	missed := given && (after > last || after < first-1)
	switch {
	case only != "":
		after = now.Sequence
		if err := out.process(after, now); err != nil || now.Status.Ended() {
			return
		}
	case missed:
		after = last
		if out.send("reset", last, struct{}{}) != nil {
			return
		}
	case !given:
		after = last
	}
	if out.flush() != nil {
		return
	}
	v.follow(r.Context(), r, out, after, only)
}

// follow sends changes until the reader goes, or until the one process that it
// looks at has ended.
func (v view) follow(ctx context.Context, r *http.Request, out sse, after int64, only string) {
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	look := time.NewTicker(idle) // other programs change processes too
	defer look.Stop()
	for {
		changed := v.s.stream.wait()
		list, err := v.s.o.Store.Changes(ctx, after, changePage)
		if err != nil {
			if ctx.Err() == nil {
				v.s.o.Log.WarnContext(ctx, "process: a stream of changes broke off", "err", err)
			}
			return // the reader comes back
		}
		for _, c := range list {
			after = c.Sequence
			if only != "" && c.Process.ID != only || !v.may(r, c.Process) {
				continue
			}
			if out.process(c.Sequence, c.Process) != nil || only != "" && c.Process.Status.Ended() {
				return
			}
		}
		if len(list) == changePage {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-look.C:
		case <-beat.C:
			if only != "" {
				if _, err := v.s.Get(ctx, only); errors.Is(err, ErrNotFound) {
					return // it was deleted: nothing will change any more
				}
			}
			if out.comment() != nil {
				return
			}
		}
	}
}

// position is after which change a stream should go on.
func position(r *http.Request) (after int64, given bool, err error) {
	text := r.Header.Get("Last-Event-ID")
	if text == "" {
		text = r.URL.Query().Get("after")
	}
	if text == "" {
		return 0, false, nil
	}
	after, err = strconv.ParseInt(text, 10, 64)
	if err == nil && after < 0 {
		err = strconv.ErrRange
	}
	return after, true, err
}

// sse writes Server-Sent Events.
type sse struct {
	w http.ResponseWriter
	c *http.ResponseController
}

func (o sse) process(sequence int64, p Process) error {
	if p.Results != nil {
		p = p.Summary()
	}
	return o.send("process", sequence, p)
}

func (o sse) send(event string, id int64, data any) error {
	text, err := json.Marshal(data)
	if err != nil {
		return err
	}
	o.deadline()
	if _, err := fmt.Fprintf(o.w, "id: %d\nevent: %s\ndata: %s\n\n", id, event, text); err != nil {
		return err
	}
	return o.flush()
}

func (o sse) comment() error {
	o.deadline()
	if _, err := fmt.Fprint(o.w, ":\n\n"); err != nil {
		return err
	}
	return o.flush()
}

func (o sse) flush() error { return o.c.Flush() }

// deadline cuts off a reader who takes nothing. A writer without deadlines goes
// without.
func (o sse) deadline() { _ = o.c.SetWriteDeadline(time.Now().Add(writeWithin)) }

// broadcast wakes everybody who waits.
type broadcast struct {
	mu sync.Mutex
	c  chan struct{}
}

func newBroadcast() *broadcast { return &broadcast{c: make(chan struct{})} }

// wait is closed with the next signal.
func (b *broadcast) wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.c
}

func (b *broadcast) signal() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.c)
	b.c = make(chan struct{})
}
