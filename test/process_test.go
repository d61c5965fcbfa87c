//go:build unix

package test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed/internal/backing/backingtest"
)

// program is the binary as users run it, built once, and a guard that ends what
// it runs when this test binary dies before it could.
type program struct {
	path string

	mu    sync.Mutex
	guard io.Writer
}

// guardScript reads "+ pid" and "- pid" until its input ends.
const guardScript = `pids=
while read -r op pid; do
	case $op in
	+) pids="$pids $pid" ;;
	-) rest=; for p in $pids; do [ "$p" = "$pid" ] || rest="$rest $p"; done; pids=$rest ;;
	esac
done
[ -z "$pids" ] || kill -9 $pids
rm -rf "$1"`

var built = sync.OnceValues(func() (*program, error) {
	dir, err := os.MkdirTemp("", "bankfeed-process-")
	if err != nil {
		return nil, err
	}
	ctx := context.Background() // longer than any test
	guard := exec.CommandContext(ctx, "/bin/sh", "-c", guardScript, "guard", dir)
	guard.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := guard.StdinPipe()
	if err == nil {
		err = guard.Start()
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	p := &program{path: filepath.Join(dir, "bankfeed"), guard: in}
	if out, err := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", p.path, "../cmd/bankfeed").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build: %w\n%s", err, out)
	}
	return p, nil
})

// executable is the program for a test.
func executable(t *testing.T) *program {
	t.Helper()
	p, err := built()
	require.NoError(t, err)
	return p
}

func (p *program) tell(op string, pid int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, _ = fmt.Fprintln(p.guard, op, pid) // without a guard only its service is missing
}

// command is a run of the program that sees nothing of this machine's settings.
func (p *program) command(env []string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(context.Background(), p.path, args...)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "BANKFEED_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C reaches us only
	return cmd
}

// process is one life of the program.
type process struct {
	name string
	cmd  *exec.Cmd
	log  string        // file with all that it writes
	done chan struct{} // closed when it has ended
}

// spawn starts the program until the test ends; then its last words are shown
// if the test has failed.
func (p *program) spawn(t *testing.T, name string, env []string, args ...string) *process {
	t.Helper()
	q := &process{name: name, cmd: p.command(env, args...), log: filepath.Join(t.TempDir(), "log"), done: make(chan struct{})}
	out, err := os.Create(q.log)
	require.NoError(t, err)
	defer out.Close()
	q.cmd.Stdout, q.cmd.Stderr = out, out
	require.NoError(t, q.cmd.Start())
	p.tell("+", q.cmd.Process.Pid)
	go func() {
		_ = q.cmd.Wait() // its state tells
		p.tell("-", q.cmd.Process.Pid)
		close(q.done)
	}()
	t.Cleanup(func() {
		q.kill(t)
		if t.Failed() {
			t.Logf("%s (process %d, %s):\n%s", q.name, q.cmd.Process.Pid, q.cmd.ProcessState, q.lastWords())
		}
	})
	return q
}

func (q *process) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := q.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatalf("%s to %s: %v", s, q.name, err)
	}
}

// kill is kill -9; it returns when the process is gone.
func (q *process) kill(t *testing.T) {
	t.Helper()
	q.signal(t, syscall.SIGKILL)
	<-q.done
}

// exit waits for the end of the process and returns its code.
func (q *process) exit(t *testing.T, within time.Duration) int {
	t.Helper()
	select {
	case <-q.done:
		return q.cmd.ProcessState.ExitCode()
	case <-time.After(within):
		t.Fatalf("%s did not end within %s", q.name, within)
		return -1
	}
}

func (q *process) ended() bool {
	select {
	case <-q.done:
		return true
	default:
		return false
	}
}

// output is what it has written so far.
func (q *process) output(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(q.log)
	require.NoError(t, err)
	return string(b)
}

// lastWords are its complaints and its last lines.
func (q *process) lastWords() string {
	b, err := os.ReadFile(q.log)
	if err != nil {
		return err.Error()
	}
	const complaints, last, width = 15, 5, 600
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	for i, l := range lines {
		lines[i] = l[:min(width, len(l))]
	}
	var shown []string
	for _, l := range lines[:max(0, len(lines)-last)] {
		if strings.Contains(l, `"level":"WARN"`) || strings.Contains(l, `"level":"ERROR"`) || !strings.HasPrefix(l, "{") {
			shown = append(shown, l)
		}
	}
	if n := len(shown) - complaints; n > 0 {
		shown = append([]string{fmt.Sprintf("… %d more", n)}, shown[n:]...)
	}
	return strings.Join(append(shown, lines[max(0, len(lines)-last):]...), "\n")
}

// eventually waits until f holds.
func eventually(t *testing.T, within time.Duration, what string, f func() bool) {
	t.Helper()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("not within %s: %s", within, what)
		}
	}
}

// oneOff keeps no connections: their other ends die in these tests.
var oneOff = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}

// simulatedBank is `bankfeed sandbox`, a process of its own.
type simulatedBank struct {
	*process
	t   *testing.T
	dir string
	url string
}

// startBank starts one whose day does not end during the test: at midnight its
// lists would change.
func startBank(t *testing.T) *simulatedBank {
	t.Helper()
	b := &simulatedBank{t: t, dir: t.TempDir()}
	b.start()
	b.do("clock", `{"set":"`+time.Now().UTC().Truncate(24*time.Hour).Add(9*time.Hour).Format(time.RFC3339)+`"}`)
	return b
}

// start starts it, also again: on the address that it had before.
func (b *simulatedBank) start() {
	b.t.Helper()
	b.process = executable(b.t).spawn(b.t, "sandbox", nil, "sandbox", "--listen=", "--dir="+b.dir)
	url := ""
	eventually(b.t, time.Minute, "the bank says where it is", func() bool {
		require.False(b.t, b.ended(), "the bank ended: %s", b.lastWords())
		_, after, ok := strings.Cut(b.output(b.t), "The simulated bank is at ")
		if ok {
			url, _, ok = strings.Cut(after, "\n")
		}
		return ok
	})
	if b.url != "" {
		require.Equal(b.t, b.url, url, "a bank that is started again has moved: somebody took its port")
	}
	b.url = url
}

// do uses the bank's administration.
func (b *simulatedBank) do(path, body string) {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, b.url+"/sandbox/"+path, strings.NewReader(body))
	require.NoError(b.t, err)
	resp, err := oneOff.Do(r)
	require.NoError(b.t, err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	require.NoError(b.t, err)
	require.Less(b.t, resp.StatusCode, 300, "%s %s: %s", path, body, answer)
}

// slow makes each call of a login take that long.
func (b *simulatedBank) slow(login string, delay time.Duration) {
	b.t.Helper()
	b.do("events", fmt.Sprintf(`{"user":%q,"event":"slow","delay":%q}`, login, delay))
}

// quick ends what slow began.
func (b *simulatedBank) quick(links []link) {
	b.t.Helper()
	for _, l := range links {
		b.slow(l.login, 0)
	}
}

// database says where nodes keep their data.
type database struct {
	name string
	url  string // empty: SQLite
	dir  string // of SQLite
}

// onEngines runs a test on both databases at the same time.
func onEngines(t *testing.T, f func(t *testing.T, db database)) {
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		f(t, database{name: "SQLite", dir: t.TempDir()})
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		f(t, database{name: "PostgreSQL", url: backingtest.PostgresURL(t)})
	})
}

// node is `bankfeed serve`, which can die and live again.
type node struct {
	*process
	t    *testing.T
	name string
	dir  string
	env  []string
	args []string

	mu  sync.Mutex // readers ask for the address from goroutines of their own
	url string
	id  string // of this life, as events name it
}

// smallPages lists the simulated bank a second time, read in pages of 50: the
// tests under the race detector, which is slow with JSON, want many commits and
// few events.
const (
	smallPagesID = "300"
	smallPages   = `banks:
  - id: "300"
    name: WBX Test Bank in small pages
    country: DE
    bic: WBXTDEFFXXX
    sandbox: true
    page_size: 50
    channels:
      - mode: embedded
        credentials:
          - {key: login, label: Login}
          - {key: password, label: Password, secret: true}
        endpoints:
          - {url: "%s/embedded", context: individual}
`
)

// newNode prepares a node; start starts it.
func newNode(t *testing.T, name string, db database, bank *simulatedBank, args ...string) *node {
	t.Helper()
	n := &node{t: t, name: name, dir: db.dir, args: args}
	if db.url != "" {
		n.dir = t.TempDir()
		n.env = []string{"BANKFEED_DATABASE_URL=" + db.url, "BANKFEED_MASTER_KEY=" + masterKey}
		n.args = append(n.args, "--migrate")
	}
	settings := filepath.Join(t.TempDir(), "settings.yaml")
	require.NoError(t, os.WriteFile(settings, fmt.Appendf(nil, smallPages, bank.url), 0o600))
	n.args = append([]string{"serve", "--config=" + settings, "--listen=127.0.0.1:0", "--data-dir=" + n.dir, "--sandbox-url=" + bank.url, "--rate-limit=0"}, n.args...)
	return n
}

// start starts it and waits until it is ready.
func (n *node) start() {
	n.t.Helper()
	n.process = executable(n.t).spawn(n.t, n.name, n.env, n.args...)
	eventually(n.t, time.Minute, n.name+" says where it is", func() bool {
		require.False(n.t, n.ended(), "%s ended: %s", n.name, n.lastWords())
		for line := range strings.Lines(n.output(n.t)) {
			var l struct {
				Msg  string `json:"msg"`
				Node string `json:"node"`
				URL  string `json:"url"`
			}
			if json.Unmarshal([]byte(line), &l) == nil && l.Msg == "serving" {
				n.mu.Lock()
				n.url, n.id = l.URL, l.Node
				n.mu.Unlock()
				return true
			}
		}
		return false
	})
	eventually(n.t, time.Minute, n.name+" is ready", func() bool { return n.status("/readyz") == http.StatusOK })
}

// address is where this life of the node listens.
func (n *node) address() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.url
}

// status is what the node answers; 0 for nothing.
func (n *node) status(path string) int {
	status, _ := n.page(path)
	return status
}

// metric is a number of this life of the node; 0 if it does not answer.
func (n *node) metric(name string) int {
	_, page := n.page("/metrics")
	for line := range strings.Lines(page) {
		if text, ok := strings.CutPrefix(line, name+" "); ok {
			value, err := decimal.NewFromString(strings.TrimSpace(text))
			require.NoError(n.t, err, line)
			return int(value.IntPart())
		}
	}
	return 0
}

// wrote is how many events this life of the node has committed.
func (n *node) wrote() int { return n.metric("bankfeed_events_appended_total") }

func (n *node) page(path string) (status int, body string) {
	r, err := http.NewRequestWithContext(n.t.Context(), http.MethodGet, n.address()+path, http.NoBody)
	if err != nil {
		return 0, ""
	}
	resp, err := oneOff.Do(r)
	if err != nil {
		return 0, ""
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, ""
	}
	return resp.StatusCode, string(b)
}

// client makes a sandbox client, as an operator does beside the running hub.
func (n *node) client() (id, secret string) {
	n.t.Helper()
	cmd := executable(n.t).command(n.env, "client", "create", "--sandbox", "--json", "--data-dir="+n.dir)
	var complaints strings.Builder
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	require.NoError(n.t, err, complaints.String())
	var made struct {
		ID     string `json:"client_id"`
		Secret string `json:"client_secret"`
	}
	require.NoError(n.t, json.Unmarshal(out, &made))
	return made.ID, made.Secret
}
