// Package backing finds the real servers that tests, `bankfeed bench` and `bankfeed doctor` run against, or starts private ones.
//
// A server is looked for in this order: the environment, what listens on this machine, installed binaries (started
// with their own data directory, port and password), Docker. A server that somebody else runs is only ever used inside a database or
// virtual host made for the purpose. The package does not link testing; backingtest wraps it for tests.
package backing

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// ErrNotFound says that no server was found and none could be started. Its text names what was tried. A server that is named by
// the environment but does not answer is another error: whoever names one means it.
var ErrNotFound = errors.New("not found")

// startPatience bounds how long a server that was just started may take until it answers.
const startPatience = 90 * time.Second

// startAttempts is how often a private server is started, each time on new ports, before its failure is believed.
const startAttempts = 3

// pollPause is the time between two looks at a server that is starting or stopping.
const pollPause = 50 * time.Millisecond

// freePort asks the kernel for a TCP port of the loopback interface that nobody uses. Another process can take it before the
// server does, so starters try again with a new one.
func freePort(ctx context.Context) (int, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	return port, l.Close()
}

// loopback is the address of a port on this machine.
func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// randomHex returns n random bytes as hexadecimal text.
func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: crypto/rand crashes the program instead
	return hex.EncodeToString(b)
}

// pause waits for pollPause or until the context ends.
func pause(ctx context.Context) error {
	timer := time.NewTimer(pollPause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// findBinary returns the first executable file among the glob patterns, trying the last match of each pattern first, which is
// the newest version in a directory of versions.
func findBinary(patterns ...string) (string, bool) {
	for _, pattern := range patterns {
		matches, _ := filepath.Glob(pattern) // only a malformed pattern fails, and they are all constants
		for i := len(matches) - 1; i >= 0; i-- {
			if info, err := os.Stat(matches[i]); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
				return matches[i], true
			}
		}
	}
	return "", false
}
