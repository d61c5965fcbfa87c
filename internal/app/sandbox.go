package app

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/bankfeed/bankfeed/internal/sandbox"
)

// SandboxServer is the simulated bank on an address of its own.
type SandboxServer struct {
	URL    string
	bank   *sandbox.Bank
	server *http.Server
	done   chan error
}

// addressFile keeps the port over restarts: consents and cursors that the hub
// stored hold links of the bank.
const addressFile = "address"

// StartSandbox starts the bank. Without an address it takes the port that it
// had before, else a free one, on the loopback interface. dir may be empty: the
// bank then forgets everything at its end.
func StartSandbox(ctx context.Context, dir, address string, log *slog.Logger) (*SandboxServer, error) {
	bank, err := sandbox.New(sandbox.Config{Dir: dir, Logger: log})
	if err != nil {
		return nil, err
	}
	l, err := listenSandbox(ctx, dir, address)
	if err != nil {
		return nil, errors.Join(err, bank.Close())
	}
	s := &SandboxServer{URL: "http://" + l.Addr().String(), bank: bank, done: make(chan error, 1), server: &http.Server{
		Handler: bank, ReadHeaderTimeout: headerTimeout, ReadTimeout: bodyTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}}
	go func() { s.done <- s.server.Serve(l) }()
	return s, nil
}

func listenSandbox(ctx context.Context, dir, address string) (net.Listener, error) {
	var lc net.ListenConfig
	if address != "" {
		return lc.Listen(ctx, "tcp", address)
	}
	if dir == "" {
		return lc.Listen(ctx, "tcp", "127.0.0.1:0")
	}
	path := filepath.Join(dir, addressFile)
	before, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if a := strings.TrimSpace(string(before)); a != "" {
		if l, err := lc.Listen(ctx, "tcp", a); err == nil {
			return l, nil
		}
	}
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(path, []byte(l.Addr().String()+"\n"), 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// Wait returns when the bank ends without having been stopped.
func (s *SandboxServer) Wait(ctx context.Context) error {
	select {
	case err := <-s.done:
		s.done <- err
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return err
	case <-ctx.Done():
		return nil
	}
}

// Stop lets calls end, as long as ctx lasts, and writes the bank's state.
func (s *SandboxServer) Stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	err := s.server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.server.Close())
	}
	return errors.Join(err, s.bank.Close())
}
