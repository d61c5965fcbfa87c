package native

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/delivery/stream"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

// fakeStreams knows the stream main of tenant 1, and notes what it was asked.
type fakeStreams struct {
	asked    []string
	search   stream.Search
	fail     error
	consumer string
	messages []bankfeed.UUID
	story    stream.Story
}

func (f *fakeStreams) find(key stream.Key, asked string, args ...any) error {
	f.asked = append(f.asked, fmt.Sprintf(asked, args...))
	if key != (stream.Key{Tenant: 1, Name: "main"}) {
		return bankfeed.ErrNotFound
	}
	return f.fail
}

var running = func() stream.Status {
	later := t0.Add(time.Minute)
	s := stream.Status{
		Record: stream.Record{
			Key: stream.Key{Tenant: 1, Name: "main"}, Target: "broker.example:5672/bankfeed", Enabled: true, CreatedAt: t0, Start: 3,
			Term: 2, Leader: "0123456789ab", LedAt: t0, Epoch: installation.Epoch, SavedAt: later,
			Settings: stream.Settings{Name: "main", URL: "amqp://me:" + secretText + "@broker.example/bankfeed", Queues: []string{"ledger"}, Face: banqup.Settings{OmitNulls: true}},
			Progress: stream.Progress{Position: 40},
		},
		Head: 42, Settled: 20, Lag: stream.Lag{Events: 2, Age: 90*time.Second + 1}, Rate: 12.5,
		Queues: []stream.QueueStatus{
			{Name: "ledger", Queue: stream.Queue{SeenAt: later, Depth: 3, Consumers: 1, Drained: 18, DrainedAt: t0}}, {Name: "new"},
		},
		Trouble: []string{"no queue is bound any more"},
	}
	for _, k := range banqup.Kinds {
		s.Exchanges = append(s.Exchanges, stream.ExchangeStatus{Kind: k, Carried: true, Unrouted: stream.UnroutedHold, State: stream.ExchangeUnused})
	}
	s.Exchanges[1].Exchange = stream.Exchange{Routed: true, Published: 12, Unrouted: 1, Faults: 2, Last: 21, LastAt: later}
	s.Exchanges[1].State, s.Exchanges[1].Hold, s.Exchanges[1].Waiting = stream.ExchangeHolding, &stream.Hold{After: 20, Since: later}, t0
	s.Exchanges[4].Exchange = stream.Exchange{Published: 1, Last: 40, LastAt: later, LastRouted: true}
	s.Exchanges[4].State, s.Exchanges[4].Unrouted = stream.ExchangeUntold, stream.UnroutedOff
	return s
}()

func (f *fakeStreams) Streams(_ context.Context, tenant bankfeed.TenantID) ([]stream.Status, error) {
	if tenant != 1 {
		return nil, nil
	}
	off := stream.Status{Record: stream.Record{Key: stream.Key{Tenant: 1, Name: "old"}, Reason: "no longer configured", CreatedAt: t0, Target: "old:5672/x"}}
	off.Settings.Unchanged, off.Settings.Messages = true, []banqup.Kind{banqup.Account}
	return []stream.Status{running, off}, nil
}

func (f *fakeStreams) Status(_ context.Context, key stream.Key) (stream.Status, error) {
	return running, f.find(key, "status")
}

func (f *fakeStreams) Search(_ context.Context, key stream.Key, q stream.Search) (stream.Found, error) {
	f.search = q
	found := stream.Found{Next: 7}
	if q.World == stream.Live {
		found.Stories = []stream.Story{f.story}
	}
	return found, f.find(key, "search")
}

func (f *fakeStreams) Story(_ context.Context, key stream.Key, world stream.World, message bankfeed.UUID) (stream.Story, error) {
	if world != stream.Live || message != f.story.Message {
		return stream.Story{}, bankfeed.ErrNotFound
	}
	return f.story, f.find(key, "story")
}

func (f *fakeStreams) Gaps(_ context.Context, key stream.Key, open bool, before bankfeed.Position, limit int) ([]stream.Gap, bankfeed.Position, error) {
	return []stream.Gap{
		{Kind: banqup.Call, Reason: stream.GapUnrouted, First: 30, Last: 33, Count: 2, Since: t0, Until: t0},
		{Kind: banqup.Account, Reason: stream.GapErased, First: 10, Last: 10, Count: 1, Since: t0, Until: t0, ResolvedAt: t0},
	}, 10, f.find(key, "gaps open=%t before=%d limit=%d", open, before, limit)
}

func (f *fakeStreams) Faults(_ context.Context, key stream.Key, world stream.World, before bankfeed.Position, limit int) ([]stream.FaultOf, bankfeed.Position, error) {
	x := stream.Fault{Message: f.story.Message, Position: 5, Kind: banqup.Transaction, At: t0, Type: "System.Exception", Text: "no such account", Host: "win-7"}
	return []stream.FaultOf{{Fault: x, Event: f.story.Event}, {Fault: stream.Fault{Message: f.story.Replays[0].Message, Replay: 1001, At: t0}, Event: f.story.Event, Erased: true}},
		0, f.find(key, "faults world=%s before=%d limit=%d", world, before, limit)
}

func (f *fakeStreams) Acknowledge(_ context.Context, key stream.Key, world stream.World, messages []bankfeed.UUID, consumer string) (stream.Acknowledged, error) {
	f.messages, f.consumer = messages, consumer
	return stream.Acknowledged{Accepted: 1, New: 1, Unknown: messages[1:]}, f.find(key, "acknowledge world=%s", world)
}

func (f *fakeStreams) Redrive(_ context.Context, key stream.Key, kinds []banqup.Kind) error {
	return f.find(key, "redrive %v", kinds)
}

func withStreams(t *testing.T) (*harness, *fakeStreams) {
	h := newHarness(t)
	e := bankfeed.Event{Epoch: installation.Epoch, Tenant: 1, Position: 5, Type: bankfeed.EventTransactionCreated, At: t0, User: 11, Connection: 101, Account: 101, Session: 101}
	later := t0.Add(time.Minute)
	f := &fakeStreams{story: stream.Story{
		Event: e, Message: e.ID(), Kind: banqup.Transaction, Carried: true, State: stream.StoryAcknowledged,
		Steps: []stream.StoryStep{
			{State: stream.StoryLogged, At: t0, Text: "It is in the log."}, {State: stream.StoryConfirmed, Text: "The broker took it."},
			{State: stream.StoryFaulted, At: later, Text: "A consumer threw.", Fault: &stream.Fault{Type: "System.Exception", Text: "no", Host: "win-7"}},
			{State: stream.StoryAcknowledged, At: later, Text: "The consumer says so.", Consumer: "ledger"},
		},
		Replays: []stream.ReplayStory{{
			ID: 1001, Message: bankfeed.EventID(1001, 1, 0, 5), Queue: "ledger", Status: stream.ReplayRunning, State: stream.StoryLogged,
			Steps: []stream.StoryStep{{State: stream.StoryLogged, At: later, Text: "Asked for."}},
		}},
	}}
	h.api.Streams = f
	return h, f
}

func TestStreamEndpoints(t *testing.T) {
	h, f := withStreams(t)
	c := newContract(t, h)
	id := f.story.Message.String()
	for _, x := range []struct {
		name, method, target, body string
		status                     int
		asked                      string
	}{
		{"streams", "GET", "/v1/streams", "", 200, ""},
		{"stream", "GET", "/v1/streams/main", "", 200, "status"},
		{"stream_events", "GET", "/v1/streams/main/events?user=11", "", 200, "search"},
		{"stream_event", "GET", "/v1/streams/main/events/" + strings.ToUpper(id), "", 200, "story"},
		{"stream_gaps", "GET", "/v1/streams/main/gaps?open=true&after=" + numberCursor(bankfeed.Position(40)) + "&limit=2", "", 200, "gaps open=true before=40 limit=2"},
		{"stream_faults", "GET", "/v1/streams/main/faults", "", 200, "faults world=live before=0 limit=100"},
		{"stream_acknowledged", "POST", "/v1/streams/main/acknowledgements", `{"message_ids":["` + id + `","` + bankfeed.UUID{}.String() + `"],"consumer":"ledger"}`, 200, "acknowledge world=live"},
		{"", "POST", "/v1/streams/main/redrive", `{"messages":["transaction","call"]}`, 202, "redrive [transaction call]"},
		{"", "POST", "/v1/streams/main/redrive", "", 202, "redrive []"},
	} {
		t.Run(x.method+x.target, func(t *testing.T) {
			f.asked = nil
			r := request(x.method, x.target, "live", x.body)
			w := h.do(r)
			require.Equal(t, x.status, w.Code, w.Body.String())
			c.check(t, r, x.body, w)
			if x.name != "" {
				golden(t, x.name, w.Body.Bytes())
			}
			require.NotContains(t, w.Body.String(), "hunter2")
			require.Equal(t, x.asked, strings.Join(f.asked, " "))

			w = h.do(request(x.method, x.target, "user11", x.body))
			require.Equal(t, http.StatusForbidden, w.Code, "a user's token")
			c.check(t, r, x.body, w)
			if x.target == "/v1/streams" {
				require.JSONEq(t, `{"items":[]}`, h.do(request(x.method, x.target, "foreign", x.body)).Body.String())
				return
			}
			unknown := h.do(request(x.method, strings.Replace(x.target, "/main", "/none", 1), "live", x.body))
			require.Equal(t, http.StatusNotFound, unknown.Code)
			foreign := h.do(request(x.method, x.target, "foreign", x.body))
			require.Equal(t, http.StatusNotFound, foreign.Code)
			require.Equal(t, unknown.Body.String(), foreign.Body.String())
		})
	}
	require.Equal(t, "ledger", f.consumer)
	require.Equal(t, []bankfeed.UUID{f.story.Message, {}}, f.messages)
	require.Empty(t, h.log.String())
}

func TestStreamSearchReadsItsFilter(t *testing.T) {
	h, f := withStreams(t)
	call := bankfeed.UUID{1, 2, 3, 4, 5, 6, 0x70, 7, 0x80, 9}
	target := "/v1/streams/main/events?user=" + h.uuid(bankfeed.KindUser, 1, 11) + "&account=101&consent=" + h.uuid(bankfeed.KindConsent, 1, 102) +
		"&session=nightly-7&connection=103&execution_id=" + call.String() + "&message_id=" + f.story.Message.String() +
		"&messages=transaction,session&limit=9&after="
	w := h.do(request("GET", target, "live", ""))
	require.Equal(t, 200, w.Code, w.Body.String())
	want := stream.Search{
		World: stream.Live, User: 11, Account: 101, Consent: 102, Session: "nightly-7", Connection: 103, Execution: call, Message: f.story.Message,
		Messages: []banqup.Kind{banqup.Transaction, banqup.Session}, Limit: 9,
	}
	require.Equal(t, want, f.search)
	w = h.do(request("GET", target+numberCursor(bankfeed.Position(7)), "live", ""))
	require.Equal(t, 200, w.Code)
	require.Equal(t, bankfeed.Position(7), f.search.After)
	require.Contains(t, w.Body.String(), `"next":"`+numberCursor(bankfeed.Position(7))+`"`)
	h.do(request("GET", "/v1/streams/main/events", "sandbox", ""))
	require.Equal(t, stream.Search{World: stream.Sandbox, Limit: 50}, f.search)

	// What was given out to somebody else names nothing: nobody is asked.
	for _, filter := range []string{
		"user=" + h.uuid(bankfeed.KindUser, 2, 11), "account=" + h.uuid(bankfeed.KindAccount, 2, 101), "consent=" + h.uuid(bankfeed.KindAccount, 1, 101),
		"message_id=" + bankfeed.UUID{}.String(),
	} {
		f.asked = nil
		w := h.do(request("GET", "/v1/streams/main/events?"+filter, "live", ""))
		require.Equal(t, 200, w.Code)
		require.JSONEq(t, `{"items":[]}`, w.Body.String())
		require.NotContains(t, f.asked, "search")
		require.Equal(t, 404, h.do(request("GET", "/v1/streams/none/events?"+filter, "live", "")).Code)
	}
}

// A sandbox client does not learn what live users have.
func TestStreamsKeepTheWorldsApart(t *testing.T) {
	h, f := withStreams(t)
	require.NotContains(t, h.do(request("GET", "/v1/streams/main/events", "sandbox", "")).Body.String(), f.story.Message.String())
	require.Equal(t, 404, h.do(request("GET", "/v1/streams/main/events/"+f.story.Message.String(), "sandbox", "")).Code)
	f.asked = nil
	h.do(request("GET", "/v1/streams/main/faults", "sandbox", ""))
	h.do(request("POST", "/v1/streams/main/acknowledgements", "sandbox", `{"message_ids":["`+f.story.Message.String()+`"],"consumer":"x"}`))
	require.Equal(t, []string{"faults world=sandbox before=0 limit=100", "acknowledge world=sandbox"}, f.asked)
}

func TestStreamProblems(t *testing.T) {
	h, f := withStreams(t)
	c := newContract(t, h)
	many := `{"consumer":"x","message_ids":["` + strings.Join(slices.Repeat([]string{f.story.Message.String()}, 1001), `","`) + `"]}`
	for _, x := range []struct {
		name, method, target, body string
		fail                       error
		status                     int
	}{
		{"stream_ids", "GET", "/v1/streams/main/events?user=" + secretText + "&execution_id=" + secretText[:20] + "&limit=201", "", nil, 422},
		{"stream_user", "GET", "/v1/streams/main/events?user=" + secretText, "", nil, 422},
		{"stream_execution", "GET", "/v1/streams/main/events?execution_id=" + secretText[:20], "", nil, 422},
		{"stream_kind", "GET", "/v1/streams/main/events?messages=" + secretText, "", nil, 422},
		{"stream_cursor", "GET", "/v1/streams/main/gaps?after=" + secretText, "", nil, 422},
		{"stream_message_id", "POST", "/v1/streams/main/acknowledgements", `{"message_ids":["` + f.story.Message.String() + `","` + secretText + `"],"consumer":"x"}`, nil, 422},
		{"stream_consumer", "POST", "/v1/streams/main/acknowledgements", `{"message_ids":["` + f.story.Message.String() + `"],"consumer":"a\u0000` + secretText + `"}`, nil, 422},
		{"stream_too_many", "POST", "/v1/streams/main/acknowledgements", many, nil, 422},
		{"stream_no_ids", "POST", "/v1/streams/main/acknowledgements", `{"message_ids":[],"consumer":""}`, nil, 422},
		{"stream_redrive_kind", "POST", "/v1/streams/main/redrive", `{"messages":["` + secretText + `"]}`, nil, 422},
		{"stream_redrive_nothing", "POST", "/v1/streams/main/redrive", "{}", bankfeed.Errorf(bankfeed.Conflict, "there are no unrouted messages to send again"), 409},
		{"stream_name", "GET", "/v1/streams/ma%00in", "", nil, 422},
		{"stream_not_found", "GET", "/v1/streams/main/events/" + secretText, "", nil, 404},
	} {
		t.Run(x.name, func(t *testing.T) {
			f.fail = x.fail
			r := request(x.method, x.target, "live", x.body)
			w := h.do(r)
			require.Equal(t, x.status, w.Code, w.Body.String())
			require.Equal(t, problemType, w.Header().Get("Content-Type"))
			golden(t, "problem_"+x.name, w.Body.Bytes())
			require.NotContains(t, w.Body.String()+h.log.String(), "hunter2")
			c.check(t, r, x.body, w)
		})
	}
}

// A hub without a stream has the routes, and nothing behind them.
func TestHubWithoutStreams(t *testing.T) {
	h := newHarness(t)
	require.JSONEq(t, `{"items":[]}`, h.do(request("GET", "/v1/streams", "live", "")).Body.String())
	id := bankfeed.EventID(installation.Epoch, 1, 0, 1).String()
	for _, x := range [][3]string{
		{"GET", "/v1/streams/main", ""}, {"GET", "/v1/streams/main/events", ""}, {"GET", "/v1/streams/main/events/" + id, ""},
		{"GET", "/v1/streams/main/gaps", ""}, {"GET", "/v1/streams/main/faults", ""},
		{"POST", "/v1/streams/main/acknowledgements", `{"message_ids":["` + id + `"],"consumer":"x"}`}, {"POST", "/v1/streams/main/redrive", "{}"},
	} {
		require.Equal(t, http.StatusNotFound, h.do(request(x[0], x[1], "live", x[2])).Code, x[1])
	}
}
