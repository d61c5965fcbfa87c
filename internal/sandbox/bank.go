// Package sandbox is a simulated bank: a stateful Berlin Group NextGenPSD2 XS2A
// 1.3.x server with HTML pages for strong customer authentication, test users
// that misbehave on purpose, and data that is a function of a seed, an account
// and a day.
//
// It is an outside bank to the rest of the project: it shares no types with
// the hub and is reached over HTTP only. It serves independent XS2A APIs,
// /redirect (SCA on the bank's own pages) and /embedded (SCA by API calls), and
// /redirect again for banks that mask IBANs, each for private and for business
// customers, so that a consent of one never touches a consent of the other. It
// moves no money and checks no certificates.
package sandbox

import (
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Names under which a hub lists this bank.
const (
	ProviderID       = "200"
	ProviderName     = "WBX Test Bank"
	BIC              = "WBXTDEFFXXX"
	ChannelRedirect  = "20001"
	ChannelEmbedded  = "20000"
	RedirectBase     = "/redirect"          // XS2A base path of channel 20001
	EmbeddedBase     = "/embedded"          // XS2A base path of channel 20000
	RedirectBusiness = "/redirect/business" // the same for business users
	EmbeddedBusiness = "/embedded/business"
)

// Two more banks, with the same users and accounts, by redirect only. Their
// account lists show IBANs masked (DExxxx1234); the first shows whole ones in
// the details of an account, the second nowhere.
const (
	UnmaskProviderID   = "201"
	UnmaskProviderName = "WBX Test Bank (IBANs masked in the list)"
	UnmaskBase         = "/unmask"
	UnmaskBusiness     = "/unmask/business"
	MaskedProviderID   = "202"
	MaskedProviderName = "WBX Test Bank (IBANs masked)"
	MaskedBase         = "/masked"
	MaskedBusiness     = "/masked/business"
)

// Config says how a Bank runs. The zero value is a bank in memory.
type Config struct {
	Dir       string           // where the state is kept; empty keeps it in memory only
	Seed      int64            // of all data; the same seed gives the same accounts and entries
	Now       func() time.Time // nil: time.Now. The bank's clock is this plus a movable offset
	PublicURL string           // base of every link sent out; empty: derived from the request's Host
	Logger    *slog.Logger     // nil: slog.Default
}

// Bank is the simulated bank, an http.Handler safe for concurrent use.
type Bank struct {
	cfg     Config
	log     *slog.Logger
	handler http.Handler

	mu      sync.Mutex // guards the fields up to closed
	state   *state
	version uint64 // counts changes of state
	urgent  uint64 // the last version that must be on disk before it is answered for
	timer   *time.Timer
	closed  bool

	writing sync.Mutex // held while the file is written; taken before mu
	written uint64     // the version on disk, guarded by writing
	path    string     // of the state file; empty in memory
}

// New opens the bank whose state lies in cfg.Dir, or a fresh one where there is
// none. It fails if the directory cannot be written or holds another bank's state.
func New(cfg Config) (*Bank, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	cfg.PublicURL = strings.TrimRight(cfg.PublicURL, "/")
	b := &Bank{cfg: cfg, log: cfg.Logger, state: newState(cfg.Seed)}
	if cfg.Dir != "" {
		if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
			return nil, err
		}
		b.path = filepath.Join(cfg.Dir, stateFile)
		st, err := loadState(b.path, cfg.Seed)
		if err != nil {
			return nil, err
		}
		b.state = st
		b.version = 1
		if err := b.flush(); err != nil {
			return nil, err
		}
	}
	b.handler = b.routes()
	return b, nil
}

// ServeHTTP answers XS2A calls, the SCA pages, the index page and the
// administration API under /sandbox/.
func (b *Bank) ServeHTTP(w http.ResponseWriter, r *http.Request) { b.handler.ServeHTTP(w, r) }

// Close writes what is not yet on disk. Calls that are still running may be
// answered with an error afterwards; a second Close does nothing.
func (b *Bank) Close() error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil
	}
	if b.timer != nil {
		b.timer.Stop()
		b.timer = nil
	}
	b.mu.Unlock()
	err := b.flush()
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	return err
}

var errClosed = errors.New("sandbox: the bank is closed")

// now is the bank's clock. The caller holds mu.
func (b *Bank) now() time.Time {
	return b.cfg.Now().Add(time.Duration(b.state.Offset)).UTC()
}

func (b *Bank) publicURL(r *http.Request) string {
	if b.cfg.PublicURL != "" {
		return b.cfg.PublicURL
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	return scheme + "://" + r.Host
}

func (b *Bank) routes() http.Handler {
	mux := http.NewServeMux()
	for _, base := range []api{
		{RedirectBase, redirect, personal, maskNone},
		{RedirectBusiness, redirect, business, maskNone},
		{EmbeddedBase, embedded, personal, maskNone},
		{EmbeddedBusiness, embedded, business, maskNone},
		{UnmaskBase, redirect, personal, maskList},
		{UnmaskBusiness, redirect, business, maskList},
		{MaskedBase, redirect, personal, maskAll},
		{MaskedBusiness, redirect, business, maskAll},
	} {
		mount := func(path string, methods map[string]operation) {
			mux.Handle(base.path+"/v1"+path, b.xs2a(base, methods))
		}
		mount("/consents", map[string]operation{"POST": b.createConsent})
		mount("/consents/{consent}", map[string]operation{"GET": b.getConsent, "DELETE": b.deleteConsent})
		mount("/consents/{consent}/status", map[string]operation{"GET": b.getConsentStatus})
		mount("/consents/{consent}/authorisations", map[string]operation{"POST": b.startAuthorisation, "GET": b.listAuthorisations})
		mount("/consents/{consent}/authorisations/{authorisation}", map[string]operation{"GET": b.getAuthorisation, "PUT": b.updateAuthorisation})
		mount("/accounts", map[string]operation{"GET": b.listAccounts})
		mount("/accounts/{account}", map[string]operation{"GET": b.getAccount})
		mount("/accounts/{account}/balances", map[string]operation{"GET": b.getBalances})
		mount("/accounts/{account}/transactions", map[string]operation{"GET": b.listTransactions})
		mount("/accounts/{account}/transactions/{transaction}", map[string]operation{"GET": b.getTransaction})
		mount("/", nil)
	}
	// Browsers must not be made to post here by other sites: the pages act for
	// a PSU and the administration API has no credentials.
	guard := http.NewCrossOriginProtection()
	pages := http.NewServeMux()
	pages.HandleFunc("GET /{$}", b.indexPage)
	pages.HandleFunc("GET /sca/{segment}/{authorisation}", b.scaPage)
	pages.HandleFunc("POST /sca/{segment}/{authorisation}", b.scaForm)
	b.adminRoutes(pages)
	mux.Handle("/", guard.Handler(pages))
	return mux
}
