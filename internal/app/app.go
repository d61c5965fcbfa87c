// Package app puts the parts of the hub together: what runs on a node, in which
// order it starts and stops, and what is served where. It is the only package
// that knows all others.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/access"
	"github.com/bankfeed/bankfeed/internal/config"
	"github.com/bankfeed/bankfeed/internal/connector"
	"github.com/bankfeed/bankfeed/internal/eventlog"
	"github.com/bankfeed/bankfeed/internal/lease"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/telemetry"
)

// App is a node.
type App struct {
	cfg     config.Config
	log     *slog.Logger
	now     func() time.Time
	node    string
	build   string
	metrics *telemetry.Metrics

	listener  net.Listener
	server    *http.Server
	publicURL string
	sandbox   *SandboxServer // nil unless it runs in this process

	data     *Data
	access   *access.Service
	banks    *connector.Registry
	hub      *eventlog.Hub
	eventLog *eventlog.Log
	signals  *store.Signals
	engines  map[bankfeed.WorkKind]*lease.Engine
	parts

	workers    []worker
	supervisor *supervisor
	opened     stack // what New opened
	started    stack // what Run started

	ending     context.Context // ends when the stop begins
	beginStop  context.CancelFunc
	stopOnce   sync.Once
	stopResult error
}

// New opens everything that a node needs and listens, but answers nobody yet.
// When it fails, nothing stays open.
func New(ctx context.Context, c config.Config, log *slog.Logger) (_ *App, err error) {
	a := &App{cfg: c, log: log, now: time.Now, node: telemetry.NewNode(), build: telemetry.BuildID(), metrics: telemetry.NewMetrics()}
	a.log = log.With("node", a.node)
	a.ending, a.beginStop = context.WithCancel(context.WithoutCancel(ctx))
	a.supervisor = newSupervisor(a.log, a.metrics, a.now)
	defer func() {
		if err != nil {
			a.beginStop()
			err = errors.Join(err, a.opened.close(context.WithoutCancel(ctx), a.log))
		}
	}()
	if err := errors.Join(CheckBanks(c), CheckStreams(c), CheckRules(c)); err != nil {
		return nil, err
	}
	for _, open := range []func(context.Context) error{a.openData, a.openListener, a.openSandbox, a.openBanks, a.openLog, a.openParts, a.openServer} {
		if err := open(ctx); err != nil {
			return nil, err
		}
	}
	return a, nil
}

func (a *App) openData(ctx context.Context) error {
	if a.cfg.SQLite() {
		if err := makeDataDir(a.cfg.DataDir); err != nil {
			return err
		}
		// One process on one SQLite: what wakes readers and workers does not
		// reach beyond it.
		unlock, err := lockDataDir(a.cfg.DataDir)
		if err != nil {
			return err
		}
		a.opened.push("lock of the data directory", func(context.Context) error { return unlock() })
	}
	d, err := openForServing(ctx, a.cfg, a.log)
	if err != nil {
		return err
	}
	a.opened.push("database", func(context.Context) error { return d.Close() })
	if a.cfg.SQLite() { // nobody else is there: work that a killed process held goes on at once
		if err := d.Store.EndClaims(ctx); err != nil {
			return err
		}
	}
	a.data, a.access = d, d.accessWith(access.Options{ProcessLife: a.cfg.FinAPI.ProcessLife})
	a.workers = append(a.workers, sweep{name: "keyring", every: 5 * time.Minute, now: a.now, log: a.log,
		do: func(ctx context.Context, _ time.Time) (int, error) { return 0, d.Keyring.Reload(ctx) }})
	return nil
}

// openListener comes early: the default public URL depends on it.
func (a *App) openListener(ctx context.Context) error {
	a.publicURL = a.cfg.PublicURL
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", a.cfg.Listen)
	if err != nil {
		return fmt.Errorf("listening on %s: %w (another address: --listen)", a.cfg.Listen, withoutOp(err))
	}
	a.listener = l
	a.opened.push("listener", func(context.Context) error {
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil // the server has closed it
	})
	if a.publicURL == "" {
		a.publicURL = "http://" + reachable(l.Addr())
	}
	return nil
}

// withoutOp drops what net repeats of the address.
func withoutOp(err error) error {
	var oe *net.OpError
	if errors.As(err, &oe) {
		return oe.Err
	}
	return err
}

// reachable is an address of this machine for one that means all of them.
func reachable(addr net.Addr) string {
	host, port, err := net.SplitHostPort(addr.String())
	if ip := net.ParseIP(host); err == nil && ip != nil && ip.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return addr.String()
}

func (a *App) openSandbox(ctx context.Context) error {
	if !a.cfg.Sandbox {
		return nil
	}
	s, err := StartSandbox(ctx, a.cfg.Path(sandboxDir), "", a.log.With("part", "sandbox"))
	if err != nil {
		return fmt.Errorf("starting the simulated bank: %w", err)
	}
	a.sandbox = s
	a.opened.push("simulated bank", s.Stop)
	return nil
}

func (a *App) openBanks(context.Context) error {
	list := profiles(a.cfg.Banks, a.SandboxURL())
	transport := newBankTransport(list, a.cfg.BankAllow, a.metrics)
	a.opened.push("connections to banks", func(context.Context) error {
		transport.CloseIdleConnections()
		return nil
	})
	var err error
	a.banks, err = connector.NewRegistry(connectors(&http.Client{Transport: transport}, a.log), list...)
	return err
}

// openLog wires the way of a commit to those who wait for it: on this node and,
// with PostgreSQL, on the others.
func (a *App) openLog(context.Context) error {
	s := a.data.Store
	a.hub = eventlog.NewHub(s, 0, a.log)
	a.eventLog = eventlog.New(s, a.hub, s.Installation().Epoch)
	a.engines = map[bankfeed.WorkKind]*lease.Engine{}
	a.signals = s.NewSignals(store.Receiver{Committed: a.hub.Committed, Ready: a.kickHere, Lost: func() {
		a.hub.WakeAll()
		for kind := range a.engines {
			a.kickHere(kind)
		}
	}}, a.log)
	s.OnCommit(func(c bankfeed.Committed) {
		a.metrics.Committed(c)
		a.hub.Committed(c)
		a.signals.Committed(c)
	})
	s.OnReady(a.kick)
	a.workers = append(a.workers, a.hub)
	if !a.cfg.SQLite() {
		a.workers = append(a.workers, a.signals)
	}
	return nil
}

// kick tells that work of a kind was put up.
func (a *App) kick(kind bankfeed.WorkKind) {
	a.kickHere(kind)
	a.signals.Ready(kind)
}

func (a *App) kickHere(kind bankfeed.WorkKind) {
	if kind == bankfeed.WorkTarget && a.calledBack != nil {
		a.calledBack() // a target that is led already is not claimed anew
	}
	if e := a.engines[kind]; e != nil {
		e.Kick()
	}
}

// claims adds an engine for a kind of work.
func (a *App) claims(kind bankfeed.WorkKind, slots int, limit func(string) int, run func(context.Context, bankfeed.Fence) error) {
	e := lease.New(lease.Config{Store: a.data.Store, Kind: kind, Node: a.node, Slots: slots, Cap: limit, Now: a.now, Log: a.log,
		StopAfter: max(time.Second, a.cfg.StopTimeout/2),
		Run: func(ctx context.Context, c lease.Claim) error {
			ended := a.metrics.Claimed(kind)
			err := run(ctx, c.Fence)
			switch {
			case errors.Is(err, bankfeed.ErrFenced) || errors.Is(context.Cause(ctx), lease.ErrLost):
				ended("lost")
			case ctx.Err() != nil:
				ended("stopped")
			case err != nil:
				ended("failed")
			default:
				ended("done")
			}
			return err
		}})
	a.engines[kind] = e
	a.workers = append(a.workers, e)
}

// Run serves until ctx ends or the server fails, then stops.
func (a *App) Run(ctx context.Context) error {
	if a.ending.Err() != nil {
		return a.Stop(ctx)
	}
	running, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end() // a stop that came too early for what follows
	started := a.supervisor.starting()
	a.started.push("workers", func(ctx context.Context) error {
		end()
		return a.supervisor.wait(ctx)
	})
	for _, w := range a.workers {
		a.supervisor.start(running, w)
	}
	started()
	failed := make(chan error, 1)
	a.started.push("HTTP server", a.stopServer)
	go func() {
		if err := a.server.Serve(a.listener); !errors.Is(err, http.ErrServerClosed) {
			failed <- fmt.Errorf("serving HTTP: %w", err)
		}
	}()
	a.log.InfoContext(ctx, "serving", "url", a.URL(), "build", a.build, "engine", a.data.Store.Engine(), "roles", a.cfg.Roles, "sandbox", a.SandboxURL())
	var err error
	select {
	case <-ctx.Done():
	case <-a.ending.Done(): // Stop was called
	case err = <-failed:
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.cfg.StopTimeout)
	defer cancel()
	return errors.Join(err, a.Stop(stopping))
}

// stopServer lets requests end; those that wait for something end at once.
func (a *App) stopServer(ctx context.Context) error {
	// Workers end after the server, and need some of the time too.
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-time.Until(deadline)/2))
		defer cancel()
	}
	if err := a.server.Shutdown(ctx); err != nil {
		return errors.Join(fmt.Errorf("requests were cut off: %w", err), a.server.Close())
	}
	return nil
}

// Stop ends the node in the reverse order of its start: first it answers that
// it stops, then requests end, then workers give back what they hold, then the
// database is closed. It may be called again, also while it runs.
func (a *App) Stop(ctx context.Context) error {
	a.beginStop()
	a.stopOnce.Do(func() {
		a.log.InfoContext(ctx, "stopping")
		a.stopResult = errors.Join(a.started.close(ctx, a.log), a.opened.close(ctx, a.log))
		a.log.InfoContext(ctx, "stopped", "error", a.stopResult)
	})
	return a.stopResult
}

// URL is where the outside reaches this hub.
func (a *App) URL() string { return a.publicURL }

// Addr is the address that the HTTP server listens on.
func (a *App) Addr() string { return reachable(a.listener.Addr()) }

// SandboxURL is where the simulated bank is; empty if there is none.
func (a *App) SandboxURL() string {
	if a.sandbox != nil {
		return a.sandbox.URL
	}
	return a.cfg.SandboxURL
}

// Access is the management of tenants, clients and users.
func (a *App) Access() *access.Service { return a.access }

// openServer mounts what the node's roles ask for. Health and metrics are of
// every node.
func (a *App) openServer(context.Context) (err error) {
	mux := http.NewServeMux()
	a.mountHealth(mux)
	missing := "this node does not have the role api"
	var specs [][]byte
	if a.cfg.Does(config.RoleAPI) {
		if specs, err = a.mount(mux); err != nil {
			return err
		}
		mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/docs", http.StatusFound) })
		missing = "no such path; /docs shows what there is"
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { problem(w, http.StatusNotFound, "not_found", missing) })
	known, err := newRoutes(mux, specs...)
	if err != nil {
		return err
	}
	a.server = &http.Server{
		Handler: &front{next: mux, routes: known, log: a.log, metrics: a.metrics, ending: a.ending,
			https: strings.HasPrefix(a.publicURL, "https://"), maxDocument: a.cfg.Imports.MaxBytes},
		ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(a.log.Handler(), slog.LevelDebug), // what strangers do wrong
	}
	a.observe()
	return nil
}

// observe shows what is asked for when somebody looks.
func (a *App) observe() {
	a.metrics.Gauge("bankfeed_sessions_open", "Sessions that have not ended, over all nodes.", nil, func() (float64, bool) {
		ctx, cancel := context.WithTimeout(a.ending, pingTimeout)
		defer cancel()
		n, err := a.data.Store.OpenSessions(ctx)
		return float64(n), err == nil
	})
	for i, p := range a.data.Store.Pools() {
		for name, g := range map[string]struct {
			help  string
			value func(store.PoolStats) int64
		}{
			"max":    {"Connections to the database at most.", func(p store.PoolStats) int64 { return int64(p.Max) }},
			"open":   {"Open connections to the database.", func(p store.PoolStats) int64 { return int64(p.Open) }},
			"in_use": {"Connections to the database in use.", func(p store.PoolStats) int64 { return int64(p.InUse) }},
			"waits":  {"How often somebody waited for a connection, since the start.", func(p store.PoolStats) int64 { return p.Waited }},
		} {
			a.metrics.Gauge("bankfeed_database_connections_"+name, g.help, map[string]string{"pool": p.Name}, func() (float64, bool) {
				return float64(g.value(a.data.Store.Pools()[i])), true
			})
		}
	}
}
