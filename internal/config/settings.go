// Package config reads the settings of the hub: flags before environment
// before the YAML file of --config before the defaults. Settings holds them as
// they were given; Check turns them into a Config and reports every fault at
// once. No fault repeats a value: someone may have put a key where a path
// belongs.
package config

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/bankfeed/bankfeed"
)

// Settings are the settings of `serve`, as text. The tags are kong's; a key of
// the YAML file is the flag's name with _ for -.
type Settings struct {
	Common
	Server
}

// Common are the settings of every command that works on the data.
type Common struct {
	File string `name:"config" env:"BANKFEED_CONFIG" placeholder:"FILE" help:"YAML file with settings, banks and streams."`
	Data
	Log
}

// Data says where the data lies and what opens it.
type Data struct {
	DataDir               string          `env:"BANKFEED_DATA_DIR" default:"./bankfeed-data" placeholder:"DIR" help:"Directory of the SQLite database, generated keys and the sandbox's state."`
	DatabaseURL           bankfeed.Secret `env:"BANKFEED_DATABASE_URL" placeholder:"URL" help:"postgres://… for PostgreSQL; empty for SQLite in the data directory."`
	DatabaseConns         string          `env:"BANKFEED_DATABASE_CONNS" default:"0" placeholder:"N" help:"Connections to PostgreSQL at most; 0 for 4 per CPU, at least 16."`
	MasterKey             bankfeed.Secret `env:"BANKFEED_MASTER_KEY" hidden:"" help:"Base64 of 32 random bytes; opens everything sealed. Better kept out of the command line."`
	MasterKeyFile         string          `env:"BANKFEED_MASTER_KEY_FILE" placeholder:"FILE" help:"File with the master key. With SQLite it is made in the data directory when neither is set; with PostgreSQL one of the two is required."`
	MasterKeyPrevious     bankfeed.Secret `env:"BANKFEED_MASTER_KEY_PREVIOUS" hidden:"" help:"The master key before, until keys rewrap has run."`
	MasterKeyPreviousFile string          `env:"BANKFEED_MASTER_KEY_PREVIOUS_FILE" placeholder:"FILE" help:"File with the master key before."`
}

// Log says how the process reports.
type Log struct {
	LogLevel  string `env:"BANKFEED_LOG_LEVEL" default:"info" placeholder:"LEVEL" help:"debug, info, warn or error."`
	LogFormat string `env:"BANKFEED_LOG_FORMAT" default:"auto" placeholder:"FORMAT" help:"text, json, or auto: text on a terminal, JSON otherwise."`
}

// Server says what a node does and with whom it speaks.
type Server struct {
	Listen         string          `env:"BANKFEED_LISTEN" default:"127.0.0.1:8440" placeholder:"ADDR" help:"Address of the HTTP server."`
	PublicURL      string          `name:"public-url" env:"BANKFEED_PUBLIC_URL" placeholder:"URL" help:"How the outside reaches this hub: the base of links for users' browsers. Default: http:// and the listen address."`
	Roles          string          `env:"BANKFEED_ROLES" default:"api,sync,deliver" placeholder:"LIST" help:"What this node does: api (the APIs and the pages for users), sync (sessions with banks, imports, removal and erasure, reports), deliver (streams, callbacks, replays, housekeeping of queues, tokens and the log). Every node serves /healthz, /readyz and /metrics."`
	Migrate        Switch          `env:"BANKFEED_MIGRATE" help:"Migrate PostgreSQL at the start. SQLite is always migrated."`
	Sandbox        Switch          `env:"BANKFEED_SANDBOX" help:"Run the simulated bank in this process, on a free port of the loopback interface, and list it as provider 200, and as 201 and 202, which mask IBANs."`
	SandboxURL     string          `name:"sandbox-url" env:"BANKFEED_SANDBOX_URL" placeholder:"URL" help:"List the simulated bank of another process (bankfeed sandbox) as providers 200, 201 and 202."`
	TrustedProxies string          `env:"BANKFEED_TRUSTED_PROXIES" placeholder:"CIDRS" help:"Proxies whose X-Forwarded-For is believed."`
	AMQPURL        bankfeed.Secret `name:"amqp-url" env:"BANKFEED_AMQP_URL" placeholder:"URL" help:"amqp:// or amqps:// URL of a RabbitMQ virtual host: switches the stream on. Better kept out of the command line."`
	BankAllow      string          `env:"BANKFEED_BANK_ALLOW" placeholder:"CIDRS" help:"Private networks in which banks may be called. Without it only public addresses are, and loopback for sandbox banks."`
	SessionsAtOnce string          `env:"BANKFEED_SESSIONS_AT_ONCE" default:"64" placeholder:"N" help:"Sessions that this node runs at the same time."`
	RateLimit      string          `env:"BANKFEED_RATE_LIMIT" default:"200" placeholder:"N" help:"API requests a second for each tenant on each node, with bursts of twice as many; 0 for no limit."`
	RetentionDays  string          `env:"BANKFEED_RETENTION_DAYS" default:"90" placeholder:"DAYS" help:"How long events are kept."`
	DeletionsKept  string          `env:"BANKFEED_DELETIONS_KEPT" default:"24h" placeholder:"DURATION" help:"How long the log says what was removed, for streams and queues that have not been told yet; blanked sooner when they have."`
	RulesFile      string          `env:"BANKFEED_RULES_FILE" placeholder:"FILE" help:"YAML file with rules for labels of transactions, which extends or replaces the built-in ones: docs/analysis.md."`
	StopTimeout    string          `env:"BANKFEED_STOP_TIMEOUT" default:"20s" placeholder:"DURATION" help:"How long a stop waits for requests and sessions that are under way."`

	CallbackSettings
	FinAPISettings
	ImportSettings
}

// Switch is a yes or no that is checked together with everything else.
type Switch string

// Decode implements kong.MapperValue: a flag without a value is yes.
func (s *Switch) Decode(ctx *kong.DecodeContext) error {
	if ctx.Scan.Peek().Type != kong.FlagValueToken {
		*s = "true"
		return nil
	}
	*s = Switch(fmt.Sprint(ctx.Scan.Pop().Value))
	return nil
}

// IsBool implements kong.BoolMapperValue.
func (*Switch) IsBool() bool { return true }

// parse reads the words that kong reads for its own booleans.
func (s Switch) parse() (on, ok bool) {
	switch strings.ToLower(string(s)) {
	case "", "false", "0", "no":
		return false, true
	case "true", "1", "yes":
		return true, true
	}
	return false, false
}

// Defaults are the settings when nobody sets anything, whatever the
// environment says.
func Defaults() Settings {
	var s Settings
	set(reflect.ValueOf(&s).Elem())
	return s
}

func set(v reflect.Value) {
	for f, value := range v.Fields() {
		if f.Anonymous {
			set(value)
		} else if def := f.Tag.Get("default"); def != "" {
			value.SetString(def)
		}
	}
}
