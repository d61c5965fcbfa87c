//go:build unix

package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/backing/backingtest"
	"github.com/bankfeed/bankfeed/test/masstransit"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

// clientQueue is the name that the client chose.
const clientQueue = "finat"

// streaming is a stream with a company behind it that consumes by MassTransit and
// reads the log by HTTP.
type streaming struct {
	t       *testing.T
	address string // of the broker, for everybody but nodes
	behind  string // the same by way of the wire, for nodes
	*wire
	*masstransit.Endpoint
	c *company // once a node is there
}

// newStreaming prepares a virtual host with a consumer; a node is told to publish
// by streams.
func newStreaming(t *testing.T, address string, o masstransit.Options) *streaming {
	t.Helper()
	s := &streaming{t: t, address: address}
	s.wire, s.behind = newWire(t, address)
	o.URL, o.Queue = address, clientQueue
	if o.Judge.Version == 0 {
		o.Judge.Version = masstransit.V8
	}
	if o.Prefetch == 0 {
		o.Prefetch = 100
	}
	s.Endpoint = masstransit.Start(t, o)
	return s
}

// streams makes a node publish.
func (s *streaming) streams(n *node) *node {
	n.env = append(n.env, "BANKFEED_AMQP_URL="+s.behind)
	return n
}

// over makes a stream of a long log that was there before the stream: see keptLog.
func (s *streaming) over() *node {
	s.t.Helper()
	dir, from := s.t.TempDir(), keptLog(s.t)
	files, err := os.ReadDir(from)
	require.NoError(s.t, err)
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(from, f.Name()))
		require.NoError(s.t, err)
		require.NoError(s.t, os.WriteFile(filepath.Join(dir, f.Name()), b, 0o600)) // one holds the key
	}
	n := s.streams(newNode(s.t, "serve", database{dir: dir}, &simulatedBank{url: nobody}))
	n.start()
	s.c = newCompany(n)
	return n
}

// nobody is where no bank listens.
const nobody = "http://127.0.0.1:9"

// keptLogins are those whose sessions, at the same time, made the log of keptLog.
// The race detector makes the consumer, not the stream, many times slower.
func keptLogins() []string {
	if backingtest.RaceEnabled {
		return []string{"big-800", "big-850", "big-900", "big-750"}
	}
	return []string{"big-2000", "big-2050", "big-2100", "big-1950", "fine"}
}

var kept struct {
	sync.Mutex
	dir string
}

// keptLog is the data directory of a node that has synchronized some users and
// never had a stream. It is made once; tests work on copies.
func keptLog(t *testing.T) (dir string) {
	t.Helper()
	kept.Lock()
	defer kept.Unlock()
	if kept.dir != "" {
		return kept.dir
	}
	dir = filepath.Join(filepath.Dir(executable(t).path), "kept") // goes with it
	require.NoError(t, os.RemoveAll(dir))
	require.NoError(t, os.Mkdir(dir, 0o700))
	n := newNode(t, "serve", database{dir: dir}, startBank(t))
	n.start()
	syncAll(newCompany(n), keptLogins()...)
	n.signal(t, syscall.SIGTERM)
	require.Zero(t, n.exit(t, 30*time.Second), n.lastWords())
	kept.dir = dir
	return dir
}

// syncAll links users and waits for their sessions to end.
func syncAll(c *company, logins ...string) []link {
	c.t.Helper()
	r := c.follow("sync.*")
	var links []link
	for _, login := range logins {
		l := link{login: login, user: c.newUser()}
		l.connection, l.session = c.connect(l.user, login)
		links = append(links, l)
	}
	eventually(c.t, 2*time.Minute, "all sessions have ended", func() bool { return r.ended() == len(links) })
	return links
}

// streamState is what a node says of its stream.
type streamState struct {
	Trouble   []string `json:"trouble"`
	Confirmed int64    `json:"confirmed"`
	Settled   int64    `json:"settled"`
	Leader    struct {
		Node string `json:"node"`
		Term int64  `json:"term"`
	} `json:"leader"`
	Exchanges []struct {
		Message   string `json:"message"`
		State     string `json:"state"`
		Published int    `json:"published"`
		Unrouted  int    `json:"unrouted"`
		Faults    int    `json:"faults"`
	} `json:"exchanges"`
}

// state asks the node; zero if it does not answer.
func (s *streaming) state() (v streamState) {
	_, _ = s.c.do(s.t.Context(), http.MethodGet, "/v1/streams/main", nil, &v)
	return v
}

// of is how an exchange is doing.
func (v streamState) of(k banqup.Kind) string {
	for _, x := range v.Exchanges {
		if x.Message == string(k) {
			return x.State
		}
	}
	return ""
}

// troubled waits until the stream says that something is wrong.
func (s *streaming) troubled(words ...string) {
	s.t.Helper()
	var said string
	eventually(s.t, time.Minute, fmt.Sprintf("the stream says %q", words), func() bool {
		said = strings.Join(s.state().Trouble, "; ")
		return said != "" && !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(said, w) })
	})
	s.t.Logf("the stream says: %s", said)
}

// flowing lets about so many messages more through to the broker and returns in
// the middle of them.
func (s *streaming) flowing(messages int) {
	s.t.Helper()
	half := s.allow(messages)
	eventually(s.t, time.Minute, "messages flow", func() bool { return s.through() >= half })
}

// confirmed waits until the stream has come to a position.
func (s *streaming) confirmed(p int64) {
	s.t.Helper()
	eventually(s.t, 2*time.Minute, fmt.Sprintf("everything up to %d is confirmed", p), func() bool { return s.state().Confirmed >= p })
}

// unfinished requires that the backlog was not over yet.
func (s *streaming) unfinished() {
	s.t.Helper()
	state := s.state()
	require.NotZero(s.t, state.Leader.Term)
	require.Less(s.t, state.Confirmed, s.head(), "it was over too early")
}

// head is the last position of the log.
func (s *streaming) head() int64 { return int64(s.c.logged()) }

// expected are the messages of the log, which is the same whenever it is asked
// for once all sessions have ended.
func (s *streaming) expected() (list []bankfeed.UUID, last int64) {
	s.t.Helper()
	for _, f := range s.c.history() {
		if _, ok := banqup.KindOf(bankfeed.EventType(f.Type)); ok {
			id, err := bankfeed.ParseUUID(f.ID)
			require.NoError(s.t, err)
			list, last = append(list, id), f.Position
		}
	}
	return list, last
}

// confirmedBy is how many messages the broker has confirmed to this life of a
// node.
func confirmedBy(n *node) (count int) {
	_, page := n.page("/metrics")
	for line := range strings.Lines(page) {
		if text, ok := strings.CutPrefix(line, "bankfeed_stream_messages_total{"); ok {
			_, number, _ := strings.Cut(text, "} ")
			var c int
			_, err := fmt.Sscan(number, &c)
			require.NoError(n.t, err, line)
			count += c
		}
	}
	return count
}

// verdict is what a fault test counts.
type verdict struct {
	events, lost, repeated, disordered int
	redelivered                        int // of those repeated: given out again by the broker
}

// settle waits until everything is sent and consumed, compares it with the log,
// and prints it. check is for what is said of the order.
func (s *streaming) settle(name string, check func(*streaming) []masstransit.Disorder) verdict {
	s.t.Helper()
	s.open()
	expected, last := s.expected()
	eventually(s.t, 2*time.Minute, "everything is confirmed", func() bool { return s.state().Settled >= last })
	s.drained(func() bool { return len(s.Lost(expected)) == 0 })
	lost, unexpected := s.Lost(expected), s.Unexpected(expected)
	v := verdict{events: len(expected), lost: len(lost)}
	for _, n := range s.Repeated() {
		v.repeated += n
	}
	entries := s.Entries()
	bodies := map[bankfeed.UUID][]byte{}
	for _, e := range entries {
		if e.Redelivered {
			v.redelivered++
		}
		var m struct {
			Message json.RawMessage `json:"message"`
		}
		if e.Body != nil {
			require.NoError(s.t, json.Unmarshal(e.Body, &m))
			require.True(s.t, bodies[e.ID] == nil || bytes.Equal(bodies[e.ID], m.Message), "a copy of %s says something else", e.ID)
			bodies[e.ID] = m.Message
		}
	}
	disorder := append(check(s), s.Early()...)
	v.disordered = len(disorder)
	s.t.Logf("%s: %d events, lost %d, repeated %d, out of order %d (%d deliveries, %d of them given out again by the broker; %d connections)",
		name, v.events, v.lost, v.repeated, v.disordered, len(entries), v.redelivered, s.dialled())
	require.Zero(s.t, v.lost, "for instance %s", s.explain(lost))
	require.Empty(s.t, unexpected, "messages that are no events")
	require.Empty(s.t, disorder)
	return v
}

// explain says what the hub knows of lost events.
func (s *streaming) explain(lost []bankfeed.UUID) string {
	var all []string
	for _, id := range lost[:min(3, len(lost))] {
		var story json.RawMessage
		_, err := s.c.do(s.t.Context(), http.MethodGet, "/v1/streams/main/events/"+id.String(), nil, &story)
		all = append(all, fmt.Sprintf("%s %v", story, err))
	}
	return strings.Join(all, "\n")
}

// inOrder: the last copies are in the order of the log. It holds over any number
// of terms as long as each begins when the one before is over.
func inOrder(s *streaming) []masstransit.Disorder { return s.OutOfOrder() }

// accepted requires that the consumer had nothing to complain of.
func (s *streaming) accepted() {
	s.t.Helper()
	rejected := s.Rejected()
	for _, e := range rejected[:min(3, len(rejected))] {
		s.t.Errorf("%s %s: %s: %s\n%s", e.Verdict, e.ID, e.Type, e.Reason, e.Body)
	}
	require.Empty(s.t, rejected[min(3, len(rejected)):])
}

// drained waits until the client's queue is empty, its consumer through with what
// it had in its hands, and done holds; or until nothing has come for very long.
func (s *streaming) drained(done func() bool) {
	s.t.Helper()
	conn := dialBroker(s.t, s.address)
	defer conn.Close()
	ch, err := conn.Channel()
	require.NoError(s.t, err)
	const moment, forever = 500 * time.Millisecond, 20 * time.Second
	seen, since := -1, time.Now()
	eventually(s.t, 3*time.Minute, "the queue is empty", func() bool {
		q, err := ch.QueueDeclarePassive(clientQueue, true, false, false, false, nil)
		require.NoError(s.t, err)
		if got := s.Received(); got != seen {
			seen, since = got, time.Now()
		}
		quiet := time.Since(since)
		return quiet > forever || quiet > moment && q.Messages == 0 && done()
	})
}

// dialBroker connects as an operator does.
func dialBroker(t *testing.T, address string) *amqp.Connection {
	t.Helper()
	conn, err := amqp.Dial(address)
	require.NoError(t, err)
	return conn
}

// operate does something to the topology.
func (s *streaming) operate(f func(ch *amqp.Channel) error) {
	s.t.Helper()
	conn := dialBroker(s.t, s.address)
	defer conn.Close()
	ch, err := conn.Channel()
	require.NoError(s.t, err)
	require.NoError(s.t, f(ch))
}
