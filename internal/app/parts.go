package app

import (
	"context"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/access"
	"github.com/bankfeed/bankfeed/internal/analysis"
	"github.com/bankfeed/bankfeed/internal/api/asyncapi"
	"github.com/bankfeed/bankfeed/internal/api/banqup"
	"github.com/bankfeed/bankfeed/internal/api/docs"
	"github.com/bankfeed/bankfeed/internal/api/native"
	"github.com/bankfeed/bankfeed/internal/api/oauth"
	"github.com/bankfeed/bankfeed/internal/api/oxlin"
	"github.com/bankfeed/bankfeed/internal/config"
	"github.com/bankfeed/bankfeed/internal/consent"
	"github.com/bankfeed/bankfeed/internal/delivery/callback"
	"github.com/bankfeed/bankfeed/internal/delivery/pollqueue"
	"github.com/bankfeed/bankfeed/internal/delivery/stream"
	"github.com/bankfeed/bankfeed/internal/eventlog"
	"github.com/bankfeed/bankfeed/internal/ingest"
	"github.com/bankfeed/bankfeed/internal/webform"
)

// parts are the capabilities that the dialects call and that work in the
// background.
type parts struct {
	ingest  *ingest.Engine
	consent *consent.Service
	queues  *pollqueue.Queues
	cleaner *eventlog.Cleaner
	relays  []*stream.Relay
	reports *analysis.Service
	enders  enders

	webforms   *webform.Service
	sender     *callback.Sender
	callbacks  *callback.Service
	secrets    *callback.Secrets
	calledBack func() // wakes those who send requests' callbacks; nil if nobody does here
}

// What one node does at the same time beside sessions, and how often it looks
// for what is due.
const (
	removalsAtOnce  = 4
	erasuresAtOnce  = 2
	blankingsAtOnce = 2
	scheduleEvery   = 15 * time.Second
)

func (a *App) openParts(ctx context.Context) error {
	s, in := a.data.Store, a.data.Store.Installation()
	kick := func() {
		for _, kind := range []bankfeed.WorkKind{bankfeed.WorkSession, bankfeed.WorkRemoval, bankfeed.WorkErasure} {
			a.kick(kind)
		}
	}
	a.cleaner = &eventlog.Cleaner{Store: s, Keep: a.cfg.Retention, Needed: s.SinksDone}
	a.queues = pollqueue.New(s, a.hub, in.Epoch, a.now)
	a.ingest = ingest.New(ingest.Config{Store: s, Banks: a.banks, Installation: in, Build: a.build, Node: a.node, Now: a.now, Logger: a.log,
		Unchanged: (&asked{store: s, now: a.now}).Unchanged, Kick: func() { a.kick(bankfeed.WorkSession) },
		Statements: a.statements(), ImportsAtOnce: a.cfg.Imports.AtOnce, Fresh: a.cfg.FinAPI.Fresh, CallbackDelay: max(1, a.cfg.Callbacks.Delay)}) // 0 would be the default
	a.consent = consent.New(consent.Config{
		Store: s, Banks: a.banks, Installation: in, Build: a.build, Node: a.node, Now: a.now, Logger: a.log, Kick: kick,
		PublicURL: a.publicURL, Address: a.clientIP(),
		Users: a.access, Keys: a.data.UserKeys, Log: a.cleaner,
		// Readers of the log do not say how far they have got: what a sink keeps
		// readable, they can read.
		Told: s.Told, DeletionsKept: a.cfg.DeletionsKept,
	})
	if err := a.openAnalysis(); err != nil {
		return err
	}
	a.enders = enders{bankfeed.RequestSync: a.ingest.RunRequest, bankfeed.RequestImport: a.ingest.RunRequest}
	a.openWebForms()
	if a.cfg.Does(config.RoleSync) {
		a.claims(bankfeed.WorkSession, a.cfg.SessionsAtOnce, a.banks.MaxConcurrent, a.ingest.Run)
		a.claims(bankfeed.WorkRequest, requestsAtOnce, nil, a.runRequest)
		a.claims(bankfeed.WorkImport, importsEnded, nil, a.abandonImport)
		a.claims(bankfeed.WorkRemoval, removalsAtOnce, nil, a.consent.RunRemoval)
		a.claims(bankfeed.WorkErasure, erasuresAtOnce, nil, a.consent.RunErasure)
		a.claims(bankfeed.WorkBlanking, blankingsAtOnce, nil, a.consent.RunBlanking)
		a.workers = append(a.workers,
			named{"schedule", func(ctx context.Context) error { return a.ingest.RunSchedule(ctx, scheduleEvery) }},
			a.sweep("consents", 2*time.Minute, a.consent.Sweep),
			a.sweep("accesses", time.Hour, a.sweepAccesses),
			a.sweep("requests", time.Hour, a.sweepRequests),
			a.sweep("imports", time.Hour, a.sweepImports),
			a.sweep("processes", 10*time.Minute, a.sweepProcesses),
			a.sweep("deletions", time.Hour, a.sweepDeletions))
	}
	a.openCallbacks()
	if a.cfg.Does(config.RoleDeliver) {
		if err := a.openStreams(ctx); err != nil {
			return err
		}
		a.openReplays()
		a.workers = append(a.workers,
			pollqueue.Sweeper{Queues: a.queues, Log: a.log},
			a.sweep("tokens", 10*time.Minute, a.access.Sweep),
			a.sweep("retention", time.Hour, a.cleaner.Trim))
	}
	return nil
}

// clientIP returns the address of the browser behind a request of a start page.
// It warns, once, of what looks like a proxy that nobody told us of: banks are
// told its address as the user's then.
func (a *App) clientIP() func(*http.Request) string {
	proxies := access.Proxies(a.cfg.TrustedProxies)
	var once sync.Once
	return func(r *http.Request) string {
		if peer, stranger := proxies.Untrusted(r); stranger {
			once.Do(func() {
				a.log.WarnContext(r.Context(), "a proxy that is not in BANKFEED_TRUSTED_PROXIES forwards users' requests: its address is taken for theirs", "peer", peer)
			})
		}
		return proxies.ClientIP(r)
	}
}

// accessesKept is far more than the rolling day within which banks count.
const accessesKept = 72 * time.Hour

func (a *App) sweepAccesses(ctx context.Context, now time.Time) (int, error) {
	return inChunks(func(limit int) (int, error) { return a.data.Store.SweepAccesses(ctx, now.Add(-accessesKept), limit) })
}

// inChunks repeats what removes some rows at a time until there are no more.
func inChunks(remove func(limit int) (int, error)) (total int, err error) {
	const chunk = 1000
	for {
		n, err := remove(chunk)
		total += n
		if err != nil || n < chunk {
			return total, err
		}
	}
}

func (a *App) sweep(name string, every time.Duration, do func(context.Context, time.Time) (int, error)) worker {
	return sweep{name: name, every: every, do: do, now: a.now, log: a.log}
}

// tenantsLimited bounds the memory of the limiters.
const tenantsLimited = 10_000

// mount puts all dialects on one mux, and returns their OpenAPI documents.
func (a *App) mount(mux *http.ServeMux) (specs [][]byte, err error) {
	limit := access.NewLimiter[bankfeed.TenantID](a.cfg.RateLimit, 2*a.cfg.RateLimit, tenantsLimited, a.now)
	s := a.data.Store
	own, err := native.New(native.Config{
		Version: a.build, Installation: s.Installation(), Log: a.log, Access: a.access, Limiter: limit, Users: a.access, Eraser: a.consent,
		Linker: a.consent, Remover: a.consent, Catalogue: a.consent, Syncer: a.ingest, Reader: s, Events: a.eventLog,
		Worlds: s, Replays: a.data.Replays(a.now), Callbacks: a.callbacks, CallbackSecrets: a.secrets,
		Streams: stream.NewInspector(stream.InspectorConfig{Store: s, Log: s, Index: s, Worlds: s, Installation: s.Installation(), Now: a.now, Here: a.streamTrouble}),
	})
	if err != nil {
		return nil, err
	}
	ox, err := oxlin.New(oxlin.Config{
		Version: a.build, Log: a.log, Access: a.access, Eraser: a.consent, Linker: a.consent, Syncer: a.ingest, Reader: s,
		Queues: queues{a.queues, a.log}, Limit: limit,
	})
	if err != nil {
		return nil, err
	}
	bq, err := banqup.New(banqup.Config{Version: a.build, Installation: s.Installation(), Log: a.log, Access: a.access, Reader: s, Remover: a.consent, Limit: limit})
	if err != nil {
		return nil, err
	}
	fin, err := a.finAPI(limit)
	if err != nil {
		return nil, err
	}
	reference, err := docs.New(docs.Spec{Name: "Native API", Path: "/openapi/native.json", JSON: own.Spec()},
		docs.Spec{Name: "finAPI dialect", Path: "/openapi/finapi.json", JSON: fin.Spec()},
		docs.Spec{Name: "Oxlin dialect", Path: "/openapi/oxlin.json", JSON: ox.Spec()},
		docs.Spec{Name: "banqUP dialect", Path: "/openapi/banqup.json", JSON: bq.Spec()})
	if err != nil {
		return nil, err
	}
	messages, err := asyncapi.New(a.build, a.published()...)
	if err != nil {
		return nil, err
	}
	tokens := oauth.New(a.access, oauth.Options{Proxies: a.cfg.TrustedProxies, Log: a.log, Now: a.now, Zone: a.cfg.FinAPI.Zone,
		Limit: access.NewLimiter[netip.Prefix](oauth.DefaultRate, oauth.DefaultBurst, tenantsLimited, a.now)})
	for _, part := range []interface{ Mount(*http.ServeMux) }{own, messages, fin, ox, bq, reference, tokens, a.consent, a.webforms} {
		part.Mount(mux)
	}
	return [][]byte{own.Spec(), fin.Spec(), ox.Spec(), bq.Spec()}, nil
}
