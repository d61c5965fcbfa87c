package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/bankfeed/bankfeed/internal/sandbox"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/wire/oxlin"
)

// bigTotal is how many transactions the account of the sandbox's user big has.
const bigTotal = 100_000

// ingestMemory measures the memory that `serve` takes while it reads one large
// account from a bank in another process.
func (r *run) ingestMemory(ctx context.Context) error {
	if runtime.GOOS != "linux" {
		r.Notice("ingest memory: not measured on " + runtime.GOOS)
		return nil
	}
	return r.each(ctx, func(p place) error {
		r.Progress(fmt.Sprintf("ingest memory, %s: %d transactions by serve", p.engine, bigTotal))
		peak, err := r.serveBig(ctx, p, "big", bigTotal)
		if err != nil {
			return err
		}
		return r.emit(Row{Bench: "ingest", Case: "memory", Engine: string(p.engine), N: bigTotal, PeakRSS: rounded(float64(peak) / (1 << 20))})
	})
}

// serveBig has `serve` read the account of a user of the sandbox, and returns
// the most memory that it had.
func (r *run) serveBig(ctx context.Context, p place, login string, total int) (peak int64, err error) {
	dir, err := os.MkdirTemp("", "bankfeed_bench_")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	bank, bankURL, err := r.start(ctx, nil, bankAddress, "sandbox", "--listen=127.0.0.1:0", "--dir="+filepath.Join(dir, "sandbox"), "--log-level=error")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, bank.stop()) }()
	settings := []string{"BANKFEED_DATA_DIR=" + filepath.Join(dir, "data")}
	if p.engine == store.Postgres {
		settings = append(settings, "BANKFEED_DATABASE_URL="+p.config.URL, "BANKFEED_MASTER_KEY="+benchKey)
	}
	serve, hubURL, err := r.start(ctx, settings, hubAddress, "serve", "--listen=127.0.0.1:0", "--sandbox-url="+bankURL, "--migrate", "--log-format=json")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, serve.stop()) }()
	c := &client{base: hubURL}
	if err := r.login(ctx, settings, c); err != nil {
		return 0, err
	}
	if err := c.readBig(ctx, login); err != nil {
		return 0, err
	}
	if peak, err = peakRSS(serve.cmd.Process.Pid); err != nil {
		return 0, err
	}
	return peak, c.checkBig(ctx, total)
}

// login makes a client of the hub, as an operator does, and gets its token.
func (r *run) login(ctx context.Context, settings []string, c *client) error {
	cmd := r.command(ctx, settings, "client", "create", "--sandbox", "--json")
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("client create: %w: %s", err, bytes.TrimSpace(said.Bytes()))
	}
	grant := map[string]string{"grant_type": "client_credentials"}
	if err := json.Unmarshal(out, &grant); err != nil {
		return fmt.Errorf("client create: %w", err)
	}
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	_, err = c.do(ctx, http.MethodPost, "/token", grant, &answer)
	c.token = answer.AccessToken
	return err
}

// client calls the hub for one user.
type client struct{ base, token, user string }

func (c *client) do(ctx context.Context, method, path string, in, out any) (http.Header, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+c.token)
	r.Header.Set("PSU-IP-Address", "203.0.113.7")
	if c.user != "" {
		q := r.URL.Query()
		q.Set("user_id", c.user)
		r.URL.RawQuery = q.Encode()
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= 300 {
		err = errors.New(resp.Status + " " + string(bytes.TrimSpace(answer)))
	}
	if err == nil && out != nil && resp.StatusCode != http.StatusNoContent {
		err = json.Unmarshal(answer, out)
	}
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, r.URL.Path, err)
	}
	return resp.Header, nil
}

// readBig links the user's bank by password and one-time code, and returns at
// the end of the synchronization.
func (c *client) readBig(ctx context.Context, login string) error {
	h, err := c.do(ctx, http.MethodPost, "/v2.1/users", map[string]string{"email": login + "@example.org", "password": "a-long-password"}, nil)
	if err != nil {
		return err
	}
	c.user = strings.TrimPrefix(h.Get("Location"), "/users/")
	if h, err = c.do(ctx, http.MethodPost, "/v2.1/queues/subscribe", map[string][]string{"topics": {"connections"}}, nil); err != nil {
		return err
	}
	queue := h.Get("Location")
	var conn oxlin.ConnectionDetail
	if _, err := c.do(ctx, http.MethodPost, "/v2.1/connections", map[string]any{"provider_id": sandbox.ProviderID, "channels": []map[string]any{
		{"channel_definition_id": sandbox.ChannelEmbedded, "credentials": map[string]string{"login": login, "password": sandbox.Password}},
	}}, &conn); err != nil {
		return err
	}
	code := map[string]string{"channel_definition_id": sandbox.ChannelEmbedded, "code": sandbox.Code}
	if _, err := c.do(ctx, http.MethodPost, "/v2.1/connections/"+conn.ID+"/user_inputs", code, nil); err != nil {
		return err
	}
	for {
		var events []oxlin.Event
		if _, err := c.do(ctx, http.MethodGet, "/v2.1"+queue+"?wait=30", nil, &events); err != nil {
			return err
		}
		for _, e := range events {
			switch e.EventType {
			case oxlin.SyncAllSuccess:
				return nil
			case oxlin.SyncAllFailed:
				return fmt.Errorf("the synchronization failed: %+v", e.Resource.Channels)
			}
		}
	}
}

// checkBig finds the last page of transactions full, and nothing after it.
func (c *client) checkBig(ctx context.Context, total int) error {
	const limit = 500
	for page, want := range map[int]int{total / limit: limit, total/limit + 1: 0} {
		var list []oxlin.Transaction
		if _, err := c.do(ctx, http.MethodGet, fmt.Sprintf("/v2.1/transactions?limit=%d&page=%d", limit, page), nil, &list); err != nil {
			return err
		}
		if len(list) != want {
			return fmt.Errorf("page %d has %d transactions, not %d", page, len(list), want)
		}
	}
	return nil
}

// process is this binary, running another command.
type process struct {
	name string
	cmd  *exec.Cmd
	said bytes.Buffer // its last words
	done chan struct{}
}

// command is a command of this binary without any setting of this one's
// environment.
func (r *run) command(ctx context.Context, settings []string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, r.Self, args...) //nolint:gosec // this binary
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "BANKFEED_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, settings...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 30 * time.Second
	return cmd
}

// start runs a server and returns when it has said where it listens.
func (r *run) start(ctx context.Context, settings []string, address func(line []byte) string, args ...string) (*process, string, error) {
	p := &process{name: args[0], cmd: r.command(ctx, settings, args...), done: make(chan struct{})}
	out, in, err := os.Pipe()
	if err != nil {
		return nil, "", err
	}
	p.cmd.Stdout, p.cmd.Stderr = in, in
	err = errors.Join(p.cmd.Start(), in.Close())
	if err != nil {
		return nil, "", errors.Join(err, out.Close())
	}
	found := make(chan string, 1)
	go func() {
		defer close(p.done)
		defer out.Close()
		lines := bufio.NewReader(out)
		for known := false; ; {
			line, err := lines.ReadBytes('\n')
			if url := address(line); url != "" && !known {
				known = true
				found <- url
			} else if !known {
				p.said.Write(line)
			}
			if err != nil {
				return
			}
		}
	}()
	select {
	case url := <-found:
		return p, url, nil
	case <-p.done:
		return nil, "", fmt.Errorf("%s ended: %w: %s", p.name, p.cmd.Wait(), bytes.TrimSpace(p.said.Bytes()))
	case <-time.After(time.Minute):
		return nil, "", errors.Join(fmt.Errorf("%s does not say where it listens", p.name), p.stop())
	}
}

// stop asks the process to end; one that does not is killed.
func (p *process) stop() error {
	if err := p.cmd.Cancel(); err != nil {
		return fmt.Errorf("stopping %s: %w", p.name, err)
	}
	patience := time.AfterFunc(p.cmd.WaitDelay, func() { _ = p.cmd.Process.Kill() })
	defer patience.Stop()
	err := p.cmd.Wait()
	<-p.done
	if err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	return nil
}

// bankAddress reads what `sandbox` prints.
func bankAddress(line []byte) string {
	_, url, _ := bytes.Cut(line, []byte("The simulated bank is at "))
	return string(bytes.TrimSpace(url))
}

// hubAddress reads the log of `serve`.
func hubAddress(line []byte) string {
	var entry struct {
		Msg string `json:"msg"`
		URL string `json:"url"`
	}
	if json.Unmarshal(line, &entry) != nil || entry.Msg != "serving" {
		return ""
	}
	return entry.URL
}

// peakRSS is the most resident memory that a process had, in bytes (VmHWM,
// proc_pid_status(5)).
func peakRSS(pid int) (int64, error) {
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
			return kb << 10, err
		}
	}
	return 0, errors.New("the system does not tell the peak of a process's memory")
}
