package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bankfeed/bankfeed"
)

// Config is what a node works with, checked.
type Config struct {
	Storage
	LogLevel  slog.Level
	LogFormat string // text, json or auto

	Listen         string
	PublicURL      string // without a trailing slash; empty: from the address listened on
	Roles          []Role
	Migrate        bool
	Sandbox        bool
	SandboxURL     string // of another process
	TrustedProxies []netip.Prefix
	BankAllow      []netip.Prefix
	SessionsAtOnce int
	RateLimit      int // requests a second per tenant; 0: no limit
	Retention      time.Duration
	DeletionsKept  time.Duration
	StopTimeout    time.Duration
	RulesFile      string // checked by app.CheckRules
	Callbacks      Callbacks
	FinAPI         FinAPI
	Imports        Imports
	Banks          []Bank
	Streams        []Stream
}

// Storage is where the data lies and what opens it.
type Storage struct {
	DataDir         string
	DatabaseURL     bankfeed.Secret // postgres://…; empty: SQLite
	DatabaseConns   int
	MasterKey       bankfeed.Secret
	MasterKeyFile   string
	PreviousKey     bankfeed.Secret
	PreviousKeyFile string
}

// SQLite reports whether the data lies in the data directory.
func (s Storage) SQLite() bool { return s.DatabaseURL == "" }

// Role is a part of the work that a node can take.
type Role string

// Roles.
const (
	RoleAPI     Role = "api"
	RoleSync    Role = "sync"
	RoleDeliver Role = "deliver"
)

// Does reports whether the node has a role.
func (c Config) Does(r Role) bool { return slices.Contains(c.Roles, r) }

// faults collects what is wrong.
type faults []error

func (f *faults) add(setting, format string, args ...any) {
	*f = append(*f, fmt.Errorf("%s: %s", setting, fmt.Sprintf(format, args...)))
}

func (f faults) join() error { return errors.Join(f...) }

// named is how faults name a setting.
func named(flag string) string {
	return "--" + flag + " (BANKFEED_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_")) + ")"
}

// Check reads all settings, and the banks of the file (nil: none).
func (s Settings) Check(file *File) (Config, error) {
	var f faults
	c := s.Common.check(&f, file)
	s.Server.check(&f, &c)
	c.Streams = f.streams(s.AMQPURL, file)
	if c.Sandbox && c.SandboxURL != "" {
		f.add(named("sandbox-url"), "the bank runs in this process already (--sandbox): set one of the two")
	}
	return c, f.join()
}

// Check reads the settings of a command that only works on the data.
func (s Common) Check(file *File) (Config, error) {
	var f faults
	c := s.check(&f, file)
	return c, f.join()
}

func (s Common) check(f *faults, file *File) Config {
	c := Config{Storage: s.Data.check(f)}
	s.Log.check(f, &c)
	if file != nil {
		c.Banks = file.Banks
		*f = append(*f, file.faults...)
	}
	return c
}

func (d Data) check(f *faults) Storage {
	s := Storage{DataDir: d.DataDir, DatabaseURL: d.DatabaseURL, MasterKey: d.MasterKey, MasterKeyFile: d.MasterKeyFile,
		PreviousKey: d.MasterKeyPrevious, PreviousKeyFile: d.MasterKeyPreviousFile}
	if d.DataDir == "" {
		f.add(named("data-dir"), "is empty")
	}
	if s.DatabaseURL != "" {
		u, err := url.Parse(string(s.DatabaseURL))
		if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" || u.Host == "" && u.Query().Get("host") == "" {
			f.add(named("database-url"), "is not a postgres:// URL; leave it empty for SQLite")
		}
		if d.MasterKey == "" && d.MasterKeyFile == "" {
			f.add(named("master-key-file"), "with PostgreSQL it or BANKFEED_MASTER_KEY is required, the same on every node: base64 of 32 random bytes (openssl rand -base64 32)")
		}
	}
	s.DatabaseConns = f.number("database-conns", d.DatabaseConns, 0, 1000)
	both := func(a, b string, set bool) {
		if set {
			f.add(named(b), "set it or BANKFEED_%s, not both", a)
		}
	}
	both("MASTER_KEY", "master-key-file", d.MasterKey != "" && d.MasterKeyFile != "")
	both("MASTER_KEY_PREVIOUS", "master-key-previous-file", d.MasterKeyPrevious != "" && d.MasterKeyPreviousFile != "")
	return s
}

func (l Log) check(f *faults, c *Config) {
	if err := c.LogLevel.UnmarshalText([]byte(l.LogLevel)); err != nil {
		f.add(named("log-level"), "must be debug, info, warn or error")
	}
	c.LogFormat = l.LogFormat
	if !slices.Contains([]string{"auto", "text", "json"}, l.LogFormat) {
		f.add(named("log-format"), "must be auto, text or json")
	}
}

func (s Server) check(f *faults, c *Config) {
	c.Listen = s.Listen
	if _, port, err := net.SplitHostPort(s.Listen); err != nil || !isPort(port) {
		f.add(named("listen"), "must be an address and a port, as in 127.0.0.1:8440 or :8440")
	}
	c.PublicURL = f.baseURL("public-url", s.PublicURL)
	c.SandboxURL = f.baseURL("sandbox-url", s.SandboxURL)
	c.Roles = f.roles(s.Roles)
	c.Migrate = f.yes("migrate", s.Migrate)
	c.Sandbox = f.yes("sandbox", s.Sandbox)
	c.TrustedProxies = f.networks("trusted-proxies", s.TrustedProxies)
	c.BankAllow = f.networks("bank-allow", s.BankAllow)
	c.SessionsAtOnce = f.number("sessions-at-once", s.SessionsAtOnce, 1, 10_000)
	c.RateLimit = f.number("rate-limit", s.RateLimit, 0, 1_000_000)
	c.Retention = time.Duration(f.number("retention-days", s.RetentionDays, 1, 36500)) * 24 * time.Hour
	c.DeletionsKept = max(1, f.duration("deletions-kept", s.DeletionsKept, 30*24*time.Hour)) // 0 would be the default
	c.RulesFile = s.RulesFile
	c.StopTimeout = f.duration("stop-timeout", s.StopTimeout, time.Hour)
	c.Callbacks = s.CallbackSettings.check(f)
	c.FinAPI = s.FinAPISettings.check(f)
	c.Imports = s.ImportSettings.check(f)
}

func isPort(s string) bool {
	_, err := strconv.ParseUint(s, 10, 16)
	return err == nil
}

func (f *faults) number(flag, text string, least, most int) int {
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		f.add(named(flag), "must be a number from %d to %d", least, most)
		return least
	}
	return n
}

func (f *faults) duration(flag, text string, most time.Duration) time.Duration {
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || d > most {
		f.add(named(flag), "must be a duration such as 20s, %s at most", most)
	}
	return d
}

func (f *faults) yes(flag string, s Switch) bool {
	on, ok := s.parse()
	if !ok {
		f.add(named(flag), "must be true or false")
	}
	return on
}

func (f *faults) baseURL(flag, text string) string {
	if text == "" {
		return ""
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		f.add(named(flag), "must be an absolute http(s) URL without query")
		return ""
	}
	return strings.TrimRight(u.String(), "/")
}

func (f *faults) roles(text string) []Role {
	var roles []Role
	for _, word := range words(text) {
		switch r := Role(word); r {
		case RoleAPI, RoleSync, RoleDeliver:
			if !slices.Contains(roles, r) {
				roles = append(roles, r)
			}
		default:
			f.add(named("roles"), "must be a list of api, sync and deliver")
			return nil
		}
	}
	if len(roles) == 0 {
		f.add(named("roles"), "names no role: api, sync, deliver")
	}
	return roles
}

// networks reads CIDRs; a bare address is a network of one.
func (f *faults) networks(flag, text string) []netip.Prefix {
	var list []netip.Prefix
	for _, word := range words(text) {
		p, err := netip.ParsePrefix(word)
		if a, errAddr := netip.ParseAddr(word); err != nil && errAddr == nil {
			p, err = a.Prefix(a.BitLen())
		}
		if err != nil {
			f.add(named(flag), "must be a list of networks such as 10.0.0.0/8")
			return nil
		}
		list = append(list, p.Masked())
	}
	return list
}

func words(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
}

// Path names a file in the data directory.
func (s Storage) Path(name string) string { return filepath.Join(s.DataDir, name) }
