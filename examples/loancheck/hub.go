package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/client"
)

// hub is a hub with its test bank, as a program of its own.
type hub struct {
	URL            string
	Client         struct{ ID, Secret bankfeed.Secret }
	CallbackSecret bankfeed.Secret
	binary, data   string
	environment    []string
	command        *exec.Cmd
	ended          chan struct{}
	complaints     *bytes.Buffer
}

// buildHub compiles the hub from this checkout into a directory.
func buildHub(ctx context.Context, dir string) (binary string, err error) {
	binary = filepath.Join(dir, "bankfeed")
	if runtime.GOOS == "windows" {
		binary += ".exe"
	}
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, "github.com/bankfeed/bankfeed/cmd/bankfeed")
	if text, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the hub (run this inside of its checkout): %w\n%s", err, text)
	}
	return binary, nil
}

// startHub starts a hub on a free port, its data in a directory, and makes a
// client of it.
func startHub(ctx context.Context, binary, dir string, environment ...string) (*hub, error) {
	address, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	h := &hub{URL: "http://" + address, binary: binary, data: filepath.Join(dir, "hub"), ended: make(chan struct{}), complaints: &bytes.Buffer{}}
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "BANKFEED_") { // nothing of another hub's
			h.environment = append(h.environment, e)
		}
	}
	h.environment = append(h.environment, "BANKFEED_DATA_DIR="+h.data, "BANKFEED_LISTEN="+address, "BANKFEED_PUBLIC_URL="+h.URL,
		"BANKFEED_CALLBACK_ALLOW=127.0.0.0/8", "BANKFEED_SANDBOX=true")
	h.environment = append(h.environment, environment...)
	h.command = exec.Command(binary, "serve") //nolint:noctx // our own program; it is stopped by stop
	h.command.Env, h.command.Dir, h.command.Stderr = h.environment, dir, h.complaints
	if err := h.command.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = h.command.Wait() // what it had to say is in complaints
		close(h.ended)
	}()
	if err := h.ready(ctx); err != nil {
		h.stop()
		return nil, fmt.Errorf("the hub did not start: %w\n%s", err, h.complaints)
	}
	if err := h.prepare(ctx); err != nil {
		h.stop()
		return nil, err
	}
	return h, nil
}

func freePort(ctx context.Context) (string, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// ready waits until the hub serves.
func (h *hub) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, h.URL+"/readyz", nil)
		if err != nil {
			return err
		}
		if resp, err := http.DefaultClient.Do(r); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-h.ended:
			return errors.New("it ended")
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// prepare makes a client and the secret that its callbacks are signed with.
func (h *hub) prepare(ctx context.Context) error {
	create := exec.CommandContext(ctx, h.binary, "client", "create", "--sandbox", "--name", "loancheck", "--json") //nolint:gosec // our own program
	create.Env = h.environment
	text, err := create.Output()
	if err != nil {
		return fmt.Errorf("bankfeed client create: %w", err)
	}
	var made struct {
		ID     string `json:"client_id"`
		Secret string `json:"client_secret"`
	}
	if err := json.Unmarshal(text, &made); err != nil {
		return errors.New("bankfeed client create: its output is not JSON")
	}
	h.Client.ID, h.Client.Secret = bankfeed.Secret(made.ID), bankfeed.Secret(made.Secret)
	token, err := (&client.Access{BaseURL: h.URL, ClientID: h.Client.ID, ClientSecret: h.Client.Secret}).ClientToken(ctx)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, h.URL+"/v1/callbacks/secrets", strings.NewReader("{}"))
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+string(token.AccessToken))
	r.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var secret struct {
		Secret string `json:"secret"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<16)).Decode(&secret); err != nil || secret.Secret == "" {
		return fmt.Errorf("POST /v1/callbacks/secrets: %s", resp.Status)
	}
	h.CallbackSecret = bankfeed.Secret(secret.Secret)
	return nil
}

// stop ends the hub.
func (h *hub) stop() {
	if h.command.Process.Signal(os.Interrupt) != nil {
		_ = h.command.Process.Kill() // where there is no such signal
	}
	select {
	case <-h.ended:
	case <-time.After(20 * time.Second):
		_ = h.command.Process.Kill()
		<-h.ended
	}
}
