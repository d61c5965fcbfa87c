package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/access"
	"github.com/bankfeed/bankfeed/internal/api/oxlin"
	"github.com/bankfeed/bankfeed/internal/delivery/pollqueue"
	"github.com/bankfeed/bankfeed/internal/eventlog"
	"github.com/bankfeed/bankfeed/internal/store"
)

// load is what the queue bench puts on a hub.
type load struct {
	live    int           // queues, each of a user of its own
	open    int           // of them with an open poll
	commits int           // measured ones, spread over the users with an open poll
	warm    int           // commits before those
	every   time.Duration // between commits
}

// queueBench measures how soon a commit reaches a client that waits for it.
func queueBench(ctx context.Context, r *run) error {
	l := load{live: 10_000, open: 500, commits: 3_000, warm: 50, every: 10 * time.Millisecond}
	if r.Quick {
		l.commits = 1_000
	}
	return r.each(ctx, func(p place) error { return r.longpoll(ctx, p, l) })
}

// longpoll: clients poll the Oxlin dialect over HTTP on the loopback interface
// while commits come at a fixed rate, whether the one before has been answered
// or not. A latency begins when the database has confirmed the commit, before
// anybody is told of it, and ends when the client has read the whole answer.
func (r *run) longpoll(ctx context.Context, p place, l load) (err error) {
	h, err := openQueueHub(ctx, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	r.Progress(fmt.Sprintf("queue longpoll, %s: %d queues", p.engine, l.live))
	pollers, err := h.subscribe(ctx, l)
	if err != nil {
		return err
	}
	r.Progress(fmt.Sprintf("queue longpoll, %s: %d open polls, %d commits", p.engine, l.open, l.warm+l.commits))
	rate, err := h.drive(ctx, pollers, l)
	if err != nil {
		return err
	}
	var took []time.Duration
	lost, repeated, disordered := h.missing(), 0, 0
	for _, q := range pollers {
		repeated += q.repeated
		disordered += q.disordered
		took = append(took, q.took...)
	}
	if len(took) == 0 {
		return errors.New("no event reached a client")
	}
	row := Row{Bench: "queue", Case: "longpoll", Engine: string(p.engine), Rate: rounded(rate), Lost: &lost, Repeated: &repeated, OutOfOrder: &disordered}
	latencies(&row, took)
	return r.emit(row)
}

// queueHub is as much of the hub as a commit passes on its way to a client:
// store, log, queues, dialect and an HTTP server.
type queueHub struct {
	store  *store.Store
	queues *pollqueue.Queues
	server *http.Server
	url    string
	http   *http.Client
	tenant bankfeed.TenantID
	token  bankfeed.Secret
	open   atomic.Int64 // requests under way
	stop   context.CancelFunc
	done   sync.WaitGroup

	mu        sync.Mutex
	committed map[bankfeed.Position]commit
	received  int  // of those
	measuring bool // the warm-up is over
	strayed   bool // an event came to a queue of another user
}

// commit is an event in a user's log.
type commit struct {
	user     bankfeed.UserID
	at       time.Time
	measured bool
}

func openQueueHub(ctx context.Context, p place) (_ *queueHub, err error) {
	s, err := openStore(ctx, p)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	log := slog.New(slog.DiscardHandler)
	hub := eventlog.NewHub(s, 0, log)
	h := &queueHub{store: s, queues: pollqueue.New(s, hub, s.Installation().Epoch, time.Now), committed: map[bankfeed.Position]commit{},
		http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 10_000}}}
	s.OnCommit(func(c bankfeed.Committed) {
		h.note(c)
		hub.Committed(c)
	})
	guard := access.New(s.Access(), access.Options{Installation: s.Installation()})
	client, err := guard.CreateClient(ctx, "bench", "bench", true)
	if err != nil {
		return nil, err
	}
	grant, err := guard.ClientToken(ctx, client.Client, "")
	if err != nil {
		return nil, err
	}
	h.tenant, h.token = client.Tenant, grant.AccessToken
	api, err := oxlin.New(oxlin.Config{Log: log, Access: guard, Queues: dialect{h.queues}})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	api.Mount(mux)
	h.server = &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.open.Add(1)
		defer h.open.Add(-1)
		mux.ServeHTTP(w, r)
	})}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	h.url = "http://" + l.Addr().String()
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	h.stop = stop
	h.done.Go(func() { _ = h.server.Serve(l) }) // ends with close
	h.done.Go(func() { _ = hub.Run(running) })  // ends with close
	return h, nil
}

func (h *queueHub) close() error {
	h.stop()
	err := h.server.Close()
	h.http.CloseIdleConnections()
	h.done.Wait()
	return errors.Join(err, h.store.Close())
}

// dialect lets the Oxlin dialect use the queues.
type dialect struct{ *pollqueue.Queues }

func owner(q oxlin.Queue) pollqueue.Owner { return pollqueue.Owner{Tenant: q.Tenant, User: q.User} }

// Create implements oxlin.Queues.
func (d dialect) Create(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, _ []bankfeed.Topic) (string, error) {
	return d.Queues.Create(ctx, pollqueue.Owner{Tenant: tenant, User: user}, []string{pollqueue.TopicConnections})
}

// Read implements oxlin.Queues.
func (d dialect) Read(ctx context.Context, q oxlin.Queue, after *bankfeed.Position, limit int, wait time.Duration) ([]bankfeed.Event, func(bool), error) {
	b, err := d.Queues.Read(ctx, q.ID, owner(q), pollqueue.Options{After: after, Limit: limit, Wait: wait})
	if err != nil {
		return nil, nil, err
	}
	return b.Events, func(written bool) {
		if written {
			_ = b.Answered(context.WithoutCancel(ctx), nil) // shows as a repeated event
		} else {
			_ = b.Answered(ctx, io.ErrClosedPipe) // returns nil: the batch comes again
		}
	}, nil
}

// Follow implements oxlin.Queues.
func (d dialect) Follow(ctx context.Context, q oxlin.Queue, after *bankfeed.Position, limit int, wait time.Duration) ([]bankfeed.Event, error) {
	return d.Queues.Follow(ctx, q.ID, owner(q), after, limit, wait)
}

// Delete implements oxlin.Queues.
func (d dialect) Delete(ctx context.Context, q oxlin.Queue) error {
	return d.Queues.Delete(ctx, q.ID, owner(q))
}

// subscribe makes the users and their queues, and returns those that will have
// an open poll.
func (h *queueHub) subscribe(ctx context.Context, l load) ([]*poller, error) {
	var pollers []*poller
	before := runtime.NumGoroutine()
	g, making := errgroup.WithContext(ctx)
	g.SetLimit(8)
	var mu sync.Mutex
	topics := []string{pollqueue.TopicConnections}
	for i := range l.live {
		g.Go(func() error {
			if i >= l.open { // nobody asks for it, so nobody asks whose it is
				_, err := h.queues.Create(making, pollqueue.Owner{Tenant: h.tenant, User: bankfeed.UserID(1_000_000 + i)}, topics)
				return err
			}
			user, err := newUser(making, h.store, h.tenant, time.Now())
			if err != nil {
				return err
			}
			// What a user has who was synchronized before: a key.
			if err := h.commit(making, user); err != nil {
				return err
			}
			id, err := h.queues.Create(making, pollqueue.Owner{Tenant: h.tenant, User: user}, topics)
			mu.Lock()
			defer mu.Unlock()
			pollers = append(pollers, &poller{hub: h, user: user, id: id, seen: map[bankfeed.Position]bool{}})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	h.mu.Lock()
	clear(h.committed) // from before the queues
	h.mu.Unlock()
	// Connections of the pool have goroutines; queues must not.
	if grown := runtime.NumGoroutine() - before; grown > 50+l.live/100 {
		return nil, fmt.Errorf("%d queues without an open poll cost %d goroutines", l.live, grown)
	}
	return pollers, nil
}

// commit appends one event to a user's log, as the start of a session does.
func (h *queueHub) commit(ctx context.Context, user bankfeed.UserID) error {
	now := time.Now().UTC()
	id := bankfeed.ConnectionID(user)
	_, err := h.store.Apply(ctx, &bankfeed.Change{Tenant: h.tenant, User: user, Events: []bankfeed.Draft{{Type: bankfeed.EventSyncStarted, At: now, Connection: id,
		Snapshot: &bankfeed.Snapshot{Schema: bankfeed.SnapshotSchema, Build: "20260101.1", Node: "0123456789ab",
			User:    bankfeed.UserRef{ID: user, BusinessContext: bankfeed.Individual},
			Session: &bankfeed.SessionRef{ID: 1, Type: bankfeed.SessionAll, Status: bankfeed.SessionInProgress, Stage: bankfeed.StageAccounts},
			Connection: &bankfeed.Connection{ID: id, User: user, ProviderID: "200", ProviderName: "Canned Bank", BIC: "CANNDEFFXXX", Status: bankfeed.ConnectionRunning,
				CreatedAt: now, Channels: []bankfeed.Channel{{Mode: bankfeed.Redirect, Status: bankfeed.ChannelRunning}, {Mode: bankfeed.Embedded, Status: bankfeed.ChannelEmpty}}},
		}}}})
	return err
}

// note is called when a commit is durable, before anybody is woken.
func (h *queueHub) note(c bankfeed.Committed) {
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	for p := c.First; p <= c.Last; p++ {
		if early, ok := h.committed[p]; ok { // a poll that was reading just then was faster
			h.strayed = h.strayed || early.user != c.User
			continue
		}
		h.committed[p] = commit{c.User, now, h.measuring}
	}
}

// drive polls all queues while it commits, and returns the commits a second.
func (h *queueHub) drive(ctx context.Context, pollers []*poller, l load) (rate float64, err error) {
	polling, stop := context.WithCancel(ctx)
	defer stop()
	g, polling := errgroup.WithContext(polling)
	for _, q := range pollers {
		g.Go(func() error { return q.follow(polling) })
	}
	driving := func() error {
		if err := until(polling, func() bool { return h.open.Load() == int64(len(pollers)) }); err != nil {
			return fmt.Errorf("opening %d polls: %w", len(pollers), err)
		}
		if rate, err = h.commits(polling, pollers, l); err != nil {
			return err
		}
		// What has not arrived after that is lost.
		late, cancel := context.WithTimeout(polling, 10*time.Second)
		defer cancel()
		_ = until(late, func() bool { return h.missing() == 0 })
		return nil
	}
	err = driving()
	h.mu.Lock()
	strayed := h.strayed
	h.mu.Unlock()
	if strayed {
		err = errors.Join(err, errors.New("a queue brought an event that is not its user's"))
	}
	stop()
	if polled := g.Wait(); err == nil || errors.Is(err, context.Canceled) {
		err = errors.Join(polled, ctx.Err())
	}
	for _, q := range pollers { // an answer whose cursor was not stored comes again
		if err == nil {
			err = q.poll(ctx, 0)
		}
	}
	return rate, err
}

// missing counts what was committed and has not come.
func (h *queueHub) missing() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.committed) - h.received
}

func until(ctx context.Context, done func() bool) error {
	t := time.NewTicker(5 * time.Millisecond)
	defer t.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
	return nil
}

// commits keeps to its times: after a slow commit the next ones follow at once.
func (h *queueHub) commits(ctx context.Context, pollers []*poller, l load) (rate float64, err error) {
	begin := time.Now()
	t := time.NewTimer(0)
	defer t.Stop()
	for i := range l.warm + l.commits {
		t.Reset(time.Until(begin.Add(time.Duration(i) * l.every)))
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-t.C:
		}
		if i == l.warm {
			h.mu.Lock()
			h.measuring = true
			h.mu.Unlock()
		}
		if err := h.commit(ctx, pollers[i%len(pollers)].user); err != nil {
			return 0, err
		}
	}
	return float64(l.warm+l.commits) / time.Since(begin).Seconds(), nil
}

// poller is a client that waits for events of one queue.
type poller struct {
	hub  *queueHub
	user bankfeed.UserID
	id   string

	last                 bankfeed.Position
	seen                 map[bankfeed.Position]bool
	took                 []time.Duration
	repeated, disordered int
}

// follow polls until ctx ends.
func (q *poller) follow(ctx context.Context) error {
	for {
		err := q.poll(ctx, pollqueue.MaxWait)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the run is over, and the poll with it
		}
		if err != nil {
			return err
		}
	}
}

// poll asks once and takes down what comes.
func (q *poller) poll(ctx context.Context, wait time.Duration) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/v2.1/queues/%s?wait=%d&user_id=%d", q.hub.url, q.id, int(wait.Seconds()), q.user), nil)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+string(q.hub.token))
	resp, err := q.hub.http.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	now := time.Now()
	switch {
	case err != nil:
		return err
	case resp.StatusCode == http.StatusNoContent:
		return nil
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("polling a queue: %s: %s", resp.Status, bytes.TrimSpace(body))
	}
	var events []struct {
		ID bankfeed.Position `json:"id,string"`
	}
	if err := json.Unmarshal(body, &events); err != nil {
		return fmt.Errorf("polling a queue: %w", err)
	}
	for _, e := range events {
		if err := q.take(e.ID, now); err != nil {
			return err
		}
	}
	return nil
}

func (q *poller) take(p bankfeed.Position, now time.Time) error {
	q.hub.mu.Lock()
	defer q.hub.mu.Unlock()
	c, ok := q.hub.committed[p]
	if !ok {
		c = commit{q.user, now, q.hub.measuring}
		q.hub.committed[p] = c
	}
	switch {
	case c.user != q.user:
		return fmt.Errorf("the queue of user %d brought event %d, which is not the user's", q.user, p)
	case q.seen[p]:
		q.repeated++
		return nil
	case p < q.last:
		q.disordered++
	}
	q.seen[p], q.last = true, max(q.last, p)
	q.hub.received++
	if c.measured {
		q.took = append(q.took, now.Sub(c.at))
	}
	return nil
}
