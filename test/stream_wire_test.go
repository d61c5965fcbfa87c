//go:build unix

package test

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// wire is what lies between nodes and their broker: a TCP proxy that lets so much
// through and little more, so that a test meets the middle of a backlog however
// busy the machine is; and that can be mute the other way, but for heartbeats: no
// connection is to end because of how long a test takes.
type wire struct {
	broker string // host:port

	mu      sync.Mutex
	passed  int64 // bytes to the broker
	budget  int64 // of them, at the brisk pace; then they trickle, as heartbeats must; unlimited: as they come
	mute    bool  // nothing comes back
	changed chan struct{}
	dials   int
}

const (
	unlimited = -1
	// brisk is about 500 messages a second, of each connection, trickle 4.
	brisk, trickle = 1 << 20, 8 << 10
	// messageSize is about that of a message with its frames.
	messageSize = 2 << 10
	// toConnect is enough for the first few connections.
	toConnect = 64 << 10
)

// newWire starts one until the test ends and returns the URL of the broker behind
// it.
func newWire(t *testing.T, address string) (*wire, string) {
	t.Helper()
	u, err := url.Parse(address)
	require.NoError(t, err)
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	w := &wire{broker: u.Host, budget: toConnect, changed: make(chan struct{})}
	var running sync.WaitGroup
	ended := make(chan struct{})
	running.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { w.serve(client, ended) })
		}
	})
	t.Cleanup(func() {
		close(ended)
		_ = l.Close()
		running.Wait()
	})
	u.Host = l.Addr().String()
	return w, u.String()
}

// change changes how it behaves from now on.
func (w *wire) change(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
	close(w.changed)
	w.changed = make(chan struct{})
}

// open lets everything through.
func (w *wire) open() { w.change(func() { w.budget, w.mute = unlimited, false }) }

// allow lets about so many messages more through; it returns how many bytes will
// have passed when half of them have.
func (w *wire) allow(messages int) (half int64) {
	w.change(func() {
		half = w.passed + int64(messages)*messageSize/2
		w.budget = w.passed + int64(messages)*messageSize
	})
	return half
}

// silence keeps back what comes from the broker.
func (w *wire) silence() { w.change(func() { w.mute = true }) }

// through is how many bytes have passed.
func (w *wire) through() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.passed
}

// dialled counts connections that nodes have made.
func (w *wire) dialled() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dials
}

// serve lasts as long as both ends.
func (w *wire) serve(client net.Conn, ended <-chan struct{}) {
	defer client.Close()
	w.mu.Lock()
	w.dials++
	w.mu.Unlock()
	broker, err := net.DialTimeout("tcp", w.broker, 5*time.Second)
	if err != nil {
		return
	}
	defer broker.Close()
	gone := make(chan struct{})
	var both sync.WaitGroup
	var once sync.Once
	end := func() {
		once.Do(func() {
			close(gone)
			_ = client.Close()
			_ = broker.Close()
		})
	}
	both.Go(func() { defer end(); _ = w.requests(broker, client, gone) })
	both.Go(func() { defer end(); _ = w.answers(client, broker, gone) })
	select {
	case <-gone:
	case <-ended:
		end()
	}
	both.Wait()
}

var errGone = errors.New("the other end is gone")

// requests copies what goes to the broker, at the pace that is set, until one end
// is gone.
func (w *wire) requests(broker io.Writer, client io.Reader, gone <-chan struct{}) error {
	b := make([]byte, 8<<10)
	for {
		n, err := client.Read(b)
		if n > 0 {
			if err := w.pace(n, gone); err != nil {
				return err
			}
			if _, err := broker.Write(b[:n]); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
	}
}

// pace waits until so many bytes may go.
func (w *wire) pace(n int, gone <-chan struct{}) error {
	for {
		w.mu.Lock()
		rate, changed := brisk, w.changed
		switch {
		case w.budget == unlimited:
			rate = 0
		case w.passed >= w.budget:
			rate = trickle
		}
		if rate == 0 {
			w.passed += int64(n)
		}
		w.mu.Unlock()
		if rate == 0 {
			return nil
		}
		timer := time.NewTimer(time.Duration(n) * time.Second / time.Duration(rate))
		select {
		case <-timer.C:
			w.mu.Lock()
			w.passed += int64(n)
			w.mu.Unlock()
			return nil
		case <-changed:
			timer.Stop()
		case <-gone:
			timer.Stop()
			return errGone
		}
	}
}

// frameHeader is type, channel and size of an AMQP 0-9-1 frame; one octet ends it
// (specification, 2.3.5).
const frameHeader = 7

var heartbeat = []byte{8, 0, 0, 0, 0, 0, 0, 0xCE}

// answers copies what comes from the broker, frame by frame, until one end is gone.
func (w *wire) answers(client io.Writer, broker io.Reader, gone <-chan struct{}) error {
	from := bufio.NewReader(broker)
	for {
		header, err := from.Peek(frameHeader)
		if err != nil {
			return err
		}
		frame := make([]byte, frameHeader+int(binary.BigEndian.Uint32(header[3:]))+1)
		if _, err := io.ReadFull(from, frame); err != nil {
			return err
		}
		if err := w.unlessMute(client, gone); err != nil {
			return err
		}
		if _, err := client.Write(frame); err != nil {
			return err
		}
	}
}

// unlessMute waits; the client has a heartbeat meanwhile.
func (w *wire) unlessMute(client io.Writer, gone <-chan struct{}) error {
	beat := time.NewTicker(time.Second)
	defer beat.Stop()
	for {
		w.mu.Lock()
		mute, changed := w.mute, w.changed
		w.mu.Unlock()
		if !mute {
			return nil
		}
		select {
		case <-changed:
		case <-beat.C:
			if _, err := client.Write(heartbeat); err != nil {
				return err
			}
		case <-gone:
			return errGone
		}
	}
}
