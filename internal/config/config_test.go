package config

import (
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
)

// parse reads a command line as the binary does.
func parse(t *testing.T, args ...string) (Settings, *File) {
	t.Helper()
	var s Settings
	var r Resolver
	k, err := kong.New(&s, kong.Resolvers(&r), kong.Name("bankfeed"))
	require.NoError(t, err)
	_, err = k.Parse(args)
	require.NoError(t, err)
	return s, r.File
}

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bankfeed.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func TestDefaults(t *testing.T) {
	s, f := parse(t)
	c, err := s.Check(f)
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1:8440", c.Listen)
	require.Equal(t, "./bankfeed-data", c.DataDir)
	require.True(t, c.SQLite())
	require.Equal(t, []Role{RoleAPI, RoleSync, RoleDeliver}, c.Roles)
	require.Equal(t, 90*24*time.Hour, c.Retention)
	require.Equal(t, slog.LevelInfo, c.LogLevel)
	require.False(t, c.Sandbox)
}

func TestPrecedence(t *testing.T) {
	path := file(t, "listen: 127.0.0.1:3\nlog_level: warn\nroles: [api, sync]\nsandbox: true\nretention_days: 7\n")
	for _, c := range []struct {
		name string
		env  string
		args []string
		want string
	}{
		{"default", "", nil, "127.0.0.1:8440"},
		{"file", "", []string{"--config", path}, "127.0.0.1:3"},
		{"environment before file", "127.0.0.1:2", []string{"--config", path}, "127.0.0.1:2"},
		{"flag before environment", "127.0.0.1:2", []string{"--config", path, "--listen=127.0.0.1:1"}, "127.0.0.1:1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			// An empty variable counts as not set: compose files pass them so.
			t.Setenv("BANKFEED_LISTEN", c.env)
			s, f := parse(t, c.args...)
			got, err := s.Check(f)
			require.NoError(t, err)
			require.Equal(t, c.want, got.Listen)
		})
	}
	t.Run("the file by the environment, and its types", func(t *testing.T) {
		t.Setenv("BANKFEED_CONFIG", path)
		s, f := parse(t)
		c, err := s.Check(f)
		require.NoError(t, err)
		require.Equal(t, slog.LevelWarn, c.LogLevel)
		require.Equal(t, []Role{RoleAPI, RoleSync}, c.Roles)
		require.True(t, c.Sandbox)
		require.Equal(t, 7*24*time.Hour, c.Retention)
	})
	t.Run("a switch off by the command line", func(t *testing.T) {
		t.Setenv("BANKFEED_SANDBOX", "yes")
		s, f := parse(t, "--sandbox=false")
		c, err := s.Check(f)
		require.NoError(t, err)
		require.False(t, c.Sandbox)
	})
}

func TestAllFaultsAtOnceAndNoValues(t *testing.T) {
	path := file(t, `
listen: hunter2
retention-days: 3
surprise: hunter2
banks:
  - {id: "1", name: A, chanels: []}
  - id: "2"
    name: B
    timeout: hunter2
    masked_iban: hunter2
    business_products: [a, ""]
    channels: [{mode: fax}]
    errors: [{reason: hunter2}]
`)
	t.Setenv("BANKFEED_DATABASE_URL", "mysql://hunter2")
	t.Setenv("BANKFEED_SANDBOX", "hunter2")
	s, f := parse(t, "--config", path, "--log-level=hunter2", "--log-format=hunter2", "--roles=api,hunter2", "--trusted-proxies=hunter2",
		"--rate-limit=-1", "--public-url=hunter2", "--stop-timeout=hunter2", "--sessions-at-once=0",
		"--master-key-previous=hunter2", "--master-key-previous-file=hunter2")
	_, err := s.Check(f)
	require.Error(t, err)
	lines := strings.Split(err.Error(), "\n")
	for _, want := range []string{
		"--listen (BANKFEED_LISTEN): must be an address and a port",
		"--database-url (BANKFEED_DATABASE_URL): is not a postgres:// URL",
		"--master-key-file (BANKFEED_MASTER_KEY_FILE): with PostgreSQL",
		"--master-key-previous-file (BANKFEED_MASTER_KEY_PREVIOUS_FILE): set it or",
		"--log-level", "--log-format", "--roles", "--trusted-proxies", "--rate-limit", "--public-url", "--stop-timeout", "--sessions-at-once",
		"--sandbox (BANKFEED_SANDBOX): must be true or false",
		"configuration file, retention-days: line 3: there is no such setting",
		"configuration file, surprise: line 4: there is no such setting",
		`banks[0]: [6:24] unknown field "chanels"`,
		"configuration file, banks[1]: timeout",
		"configuration file, banks[1]: masked_iban: must be unmask or keep",
		"configuration file, banks[1]: business_products[1]",
		"configuration file, banks[1]: channels[0].mode",
		"configuration file, banks[1]: errors[0].reason",
		"configuration file, banks[1]: errors[0]: names neither",
	} {
		require.Truef(t, hasPart(lines, want), "%q is not among\n%s", want, err)
	}
	require.Len(t, lines, 22)
	require.NotContains(t, err.Error(), "hunter2", "a fault repeats a value")
}

func hasPart(lines []string, part string) bool {
	for _, l := range lines {
		if strings.Contains(l, part) {
			return true
		}
	}
	return false
}

func TestBrokenFile(t *testing.T) {
	for name, text := range map[string]string{
		"not YAML":      "listen: [hunter2\n",
		"a list":        "- hunter2\n",
		"two documents": "listen: a\n---\nlisten: hunter2\n",
		"a map":         "listen: {host: hunter2}\n",
		"banks":         "banks: hunter2\n",
		"twice":         "listen: :1\nlisten: :2\n",
	} {
		t.Run(name, func(t *testing.T) {
			s, f := parse(t, "--config", file(t, text))
			_, err := s.Check(f)
			require.ErrorContains(t, err, "configuration file")
			require.NotContains(t, err.Error(), "hunter2")
		})
	}
	t.Run("missing", func(t *testing.T) {
		s, f := parse(t, "--config", filepath.Join(t.TempDir(), "none.yaml"))
		_, err := s.Check(f)
		require.ErrorContains(t, err, "cannot read the file: no such file or directory")
	})
	for name, text := range map[string]string{"empty": "", "a comment": "# nothing\n", "no banks": "banks:\n"} {
		t.Run(name, func(t *testing.T) {
			s, f := parse(t, "--config", file(t, text))
			_, err := s.Check(f)
			require.NoError(t, err)
		})
	}
}

func TestBanks(t *testing.T) {
	s, f := parse(t, "--config", file(t, `
banks:
  - id: "300"
    name: Beispielbank
    bic: BEISDEFFXXX
    country: DE
    history_days: 400
    timeout: 45s
    masked_iban: unmask
    business_products: [Firma]
    channels:
      - mode: redirect
        account_types: [current, card]
        endpoints:
          - {url: "https://xs2a.example/private", context: individual}
          - {url: "https://xs2a.example/business", context: business}
    errors:
      - {status: 403, contains: "change your PIN", reason: password_change_required}
`))
	c, err := s.Check(f)
	require.NoError(t, err)
	require.Len(t, c.Banks, 1)
	b := c.Banks[0]
	require.Equal(t, "berlin-group", b.Standard)
	require.Equal(t, 45*time.Second, b.ExchangeTimeout())
	require.Equal(t, "unmask", b.MaskedIBAN)
	require.Equal(t, []string{"Firma"}, b.BusinessProducts)
	require.Equal(t, bankfeed.Redirect, b.Channels[0].ModeOf())
	require.Equal(t, "https://xs2a.example/business", b.Channels[0].Endpoints[1].URL)
	require.Equal(t, []ErrorRule{{Status: 403, Contains: "change your PIN", Reason: "password_change_required"}}, b.Errors)
}

func TestNetworks(t *testing.T) {
	s, f := parse(t, "--trusted-proxies=10.1.2.3, 192.168.0.0/16,::1")
	c, err := s.Check(f)
	require.NoError(t, err)
	require.Equal(t, []netip.Prefix{netip.MustParsePrefix("10.1.2.3/32"), netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("::1/128")},
		c.TrustedProxies)
}
