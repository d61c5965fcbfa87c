package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"time"

	"code.dny.dev/ssrf"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/config"
	"github.com/bankfeed/bankfeed/internal/delivery/stream"
	"github.com/bankfeed/bankfeed/internal/secret"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/telemetry"
)

// Level is how bad a finding is.
type Level string

// Levels.
const (
	OK   Level = "ok"
	Warn Level = "warn"
	Fail Level = "fail"
)

// Finding is a line of the doctor.
type Finding struct {
	Level   Level  `json:"level"`
	Subject string `json:"subject"`
	Text    string `json:"text"` // what is, and what to do about it
}

// Space on disk: below the one serve stops working soon, below the other at
// once.
const (
	scarceSpace = 2 << 30
	noSpace     = 100 << 20
)

// Claims of a dead node are taken over after lease.TTL; nodes whose clocks
// differ by more than this would take over living ones.
const maxSkew = 5 * time.Second

// Examine looks at everything that the settings name, without changing
// anything.
func Examine(ctx context.Context, c config.Config) []Finding {
	e := &examination{Config: c}
	fresh := e.dataDir()
	e.database(ctx, fresh)
	e.address(ctx)
	e.publicURL()
	e.bankEndpoints(ctx)
	e.streams(ctx)
	return e.findings
}

type examination struct {
	config.Config
	findings []Finding
	// records are what is stored of streams, by their place in the settings, if
	// the database could be read.
	records map[int]*stream.Record
}

func (e *examination) add(l Level, subject, format string, args ...any) {
	e.findings = append(e.findings, Finding{l, subject, fmt.Sprintf(format, args...)})
}

// dataDir reports whether there is no SQLite database yet.
func (e *examination) dataDir() (fresh bool) {
	const subject = "data directory"
	info, err := os.Stat(e.DataDir)
	if errors.Is(err, os.ErrNotExist) {
		e.add(OK, subject, "%s does not exist yet; the first start makes it", e.DataDir)
		return true
	}
	if err == nil && !info.IsDir() {
		err = errors.New("is not a directory")
	}
	if err != nil {
		e.add(Fail, subject, "%s: %v", e.DataDir, err)
		return true
	}
	switch mode := info.Mode().Perm(); {
	case mode&0o077 != 0 && runtime.GOOS != "windows":
		e.add(Warn, subject, "%s has mode %04o: others can look into it (chmod 700)", e.DataDir, mode)
	default:
		e.add(OK, subject, "%s", e.DataDir)
	}
	if free, err := freeBytes(e.DataDir); err == nil {
		level, advice := OK, ""
		switch {
		case free < noSpace:
			level, advice = Fail, ": make room before anything is written"
		case free < scarceSpace:
			level, advice = Warn, ": make room soon"
		}
		e.add(level, "disk space", "%.1f GB free%s", float64(free)/1e9, advice)
	}
	_, err = os.Stat(e.Path(dataFile))
	return errors.Is(err, os.ErrNotExist)
}

func (e *examination) database(ctx context.Context, fresh bool) {
	const subject = "database"
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	if e.SQLite() && fresh {
		e.add(OK, subject, "SQLite; the first start makes it")
		if e.MasterKey == "" && e.MasterKeyFile == "" {
			e.add(OK, "master key", "the first start makes it; keep a copy elsewhere")
			return
		}
		if _, err := loadMaster(e.Storage); err != nil {
			e.add(Fail, "master key", "%v", err)
		}
		return
	}
	s, err := openStore(ctx, e.Storage)
	if err != nil {
		e.add(Fail, subject, "%v", err)
		return
	}
	defer func() { _ = s.Close() }() // nothing was written
	version, err := s.ServerVersion(ctx)
	if err != nil {
		e.add(Fail, subject, "%v", err)
		return
	}
	e.add(OK, subject, "%s %s answers", s.Engine(), version)
	if settings, ok, err := s.Durability(ctx); err != nil {
		e.add(Fail, "durability", "%v", err)
	} else if ok {
		e.add(OK, "durability", "%s", settings)
	} else {
		e.add(Fail, "durability", "%s: a power cut loses what was answered for; switch it on", settings)
	}
	e.clock(ctx, s)
	switch err := s.CheckMigrated(ctx); {
	case errors.Is(err, store.ErrPending) && e.SQLite():
		e.add(Warn, "migrations", "pending; the next start applies them")
		return
	case err != nil:
		e.add(Fail, "migrations", "%v", err)
		return
	}
	e.add(OK, "migrations", "up to date")
	e.streamRecords(ctx, &Data{Store: s})
	e.keys(ctx, s)
}

// streamRecords finds what is stored of the streams in the settings, and says
// where serve would find no tenant, or several.
func (e *examination) streamRecords(ctx context.Context, d *Data) {
	e.records = map[int]*stream.Record{}
	_, all, err := d.tenant(ctx, "")
	if err != nil {
		e.add(Fail, "streams", "%v", err)
		return
	}
	for i, s := range e.Streams {
		subject := e.streamSubject(i)
		id, count, err := d.tenant(ctx, s.Tenant)
		switch {
		case err == nil && count > 1:
			e.add(Fail, subject, "tenant: there are %d: describe a stream for each, with its tenant and a virtual host of its own", count)
		case err == nil && count == 0 && all > 0:
			e.add(Warn, subject, "tenant: there is no %s; the stream begins with its first client (bankfeed client list)", s.Tenant)
		case err == nil && count == 1:
			var r stream.Record
			if r, err = d.Store.Stream(ctx, stream.Key{Tenant: id, Name: s.Name}); err == nil {
				e.records[i] = &r
			}
		}
		if err != nil && bankfeed.ErrorKindOf(err) != bankfeed.NotFound {
			e.add(Fail, subject, "%v", err)
		}
	}
}

func (e *examination) clock(ctx context.Context, s *store.Store) {
	there, err := s.ServerTime(ctx)
	if err != nil {
		e.add(Fail, "clock", "%v", err)
		return
	}
	skew := time.Since(there).Abs()
	if skew > maxSkew {
		e.add(Fail, "clock", "differs from the database's by %s: run an NTP service on every machine", skew.Round(time.Millisecond))
		return
	}
	e.add(OK, "clock", "agrees with the database's")
}

func (e *examination) keys(ctx context.Context, s *store.Store) {
	const subject = "master key"
	if stored, err := s.Keys().LoadKeyset(ctx); err != nil {
		e.add(Fail, subject, "reading the keyset: %v", err)
		return
	} else if stored == nil {
		e.add(OK, subject, "nothing is sealed yet")
		return
	}
	master, err := loadExisting(e.Storage)
	if err != nil {
		e.add(Fail, subject, "%v", err)
		return
	}
	ring, err := secret.OpenKeyring(ctx, master, s.Keys())
	if err != nil {
		e.add(Fail, subject, "does not open the keyset: %v", err)
		return
	}
	if ring.NeedsRewrap() {
		e.add(Warn, subject, "the keyset is under the previous one: run bankfeed keys rewrap")
		return
	}
	e.add(OK, subject, "%s opens the keyset, %d keys", master.ID(), len(ring.IDs()))
}

// loadExisting never makes a key: beside sealed data a fresh one opens nothing.
func loadExisting(c config.Storage) (*secret.Master, error) {
	if c.SQLite() && c.MasterKey == "" && c.MasterKeyFile == "" {
		if _, err := os.Stat(c.Path("master.key")); err != nil {
			return nil, errors.New("master.key is missing in the data directory, and the data is sealed: put it back from your copy")
		}
	}
	return loadMaster(c)
}

func (e *examination) address(ctx context.Context) {
	const subject = "listen address"
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", e.Listen)
	if err == nil {
		e.add(OK, subject, "%s is free", e.Listen)
		_ = l.Close()
		return
	}
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	host, port, _ := net.SplitHostPort(e.Listen)
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	r, reqErr := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/readyz", nil)
	if reqErr == nil {
		if resp, getErr := http.DefaultClient.Do(r); getErr == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				e.add(OK, subject, "%s: a bankfeed answers there and is ready", e.Listen)
				return
			}
		}
	}
	e.add(Fail, subject, "%s: %v (another address: --listen)", e.Listen, withoutOp(err))
}

func (e *examination) publicURL() {
	const subject = "public URL"
	if e.PublicURL == "" {
		e.add(OK, subject, "http:// and the listen address: links for users work on this machine only (--public-url)")
		return
	}
	u, err := url.Parse(e.PublicURL)
	if err == nil && u.Scheme == "http" && u.Hostname() != "localhost" && u.Hostname() != "127.0.0.1" && u.Hostname() != "::1" {
		e.add(Warn, subject, "%s is not https: users' logins travel in clear", e.PublicURL)
		return
	}
	e.add(OK, subject, "%s", e.PublicURL)
	if err == nil && u.Scheme == "https" && len(e.TrustedProxies) == 0 {
		// The hub itself speaks http only.
		e.add(Warn, "trusted proxies", "none, but somebody ends https for %s: banks are told the proxy's address as the user's (--trusted-proxies)", e.PublicURL)
	}
}

// bankEndpoints tries whether each bank answers at all; what, does not matter.
func (e *examination) bankEndpoints(ctx context.Context) {
	list := profiles(e.Banks, e.SandboxURL)
	if len(list) == 0 {
		if e.Sandbox {
			e.add(OK, "banks", "the simulated one, in this process")
		} else {
			e.add(Warn, "banks", "none: describe some in the file of --config, or try --sandbox")
		}
		return
	}
	client := &http.Client{Transport: newBankTransport(list, e.BankAllow, telemetry.NewMetrics()), Timeout: 10 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	for _, p := range list {
		for _, end := range p.Endpoints {
			subject := "bank " + p.Provider.ID
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, end.BaseURL, nil)
			var resp *http.Response
			if err == nil {
				resp, err = client.Do(r)
			}
			switch {
			case err == nil:
				_ = resp.Body.Close()
				e.add(OK, subject, "%s %s answers", end.Mode, end.BaseURL)
			case errors.Is(err, ssrf.ErrProhibitedIP):
				e.add(Fail, subject, "%s %s is a private address: name its network in --bank-allow, or mark the bank as sandbox", end.Mode, end.BaseURL)
			default:
				e.add(Warn, subject, "%s %v", end.Mode, err)
			}
		}
	}
}

// streamSubject names a stream; several are told apart by their tenants.
func (e *examination) streamSubject(i int) string {
	s := e.Streams[i]
	if s.Tenant != "" && len(e.Streams) > 1 {
		return "stream " + s.Name + " of " + s.Tenant
	}
	return "stream " + s.Name
}

// streams looks at the broker of each stream.
func (e *examination) streams(ctx context.Context) {
	for i, s := range e.Streams {
		settings := streamSettings(s)
		target, err := stream.Target(settings.URL)
		if err != nil {
			continue // CheckStreams has said so
		}
		subject := e.streamSubject(i)
		for _, f := range stream.Examine(ctx, settings, e.records[i]) {
			e.add(Level(f.Level), subject, "%s: %s", f.Subject, f.Text)
		}
		if r := e.records[i]; r != nil && r.Target != target {
			e.add(Warn, subject, "broker: until now the stream went to %s; what its exchanges routed is about that one, and queues must be bound anew", r.Target)
		}
	}
}
