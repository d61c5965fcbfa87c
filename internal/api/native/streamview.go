package native

import (
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/delivery/stream"
	"github.com/bankfeed/bankfeed/wire/banqup"
	wire "github.com/bankfeed/bankfeed/wire/native"
)

// Stream is how a stream is doing.
type Stream struct {
	ID        string           `json:"id" doc:"Its name."`
	Target    string           `json:"target" doc:"Broker and virtual host: host:port/vhost." example:"broker.example:5672/bankfeed"`
	Enabled   bool             `json:"enabled"`
	Reason    string           `json:"reason,omitempty" doc:"Why it is not enabled."`
	Trouble   []string         `json:"trouble" nullable:"false" doc:"What is wrong, for people; empty when all is well."`
	CreatedAt time.Time        `json:"created_at"`
	Settings  StreamSettings   `json:"settings"`
	Leader    *StreamLeader    `json:"leader,omitempty" doc:"The node that publishes; absent if none ever has."`
	Start     int64            `json:"start" doc:"The stream began after this position of the log."`
	Head      int64            `json:"head" doc:"Position of the newest event in the log."`
	Confirmed int64            `json:"confirmed" doc:"The broker has confirmed everything up to this position, but for what exchanges hold back."`
	Settled   int64            `json:"settled" doc:"The same, less what exchanges hold back or send again."`
	SavedAt   *time.Time       `json:"saved_at,omitempty" doc:"When the leader last said so."`
	Lag       StreamLag        `json:"lag"`
	Rate      float64          `json:"rate" doc:"Events a second, over the last minute."`
	Exchanges []StreamExchange `json:"exchanges" nullable:"false"`
	Queues    []StreamQueue    `json:"queues" nullable:"false" doc:"The queues that the settings name."`
}

// StreamSettings are what the operator said about a stream, in the words of the
// configuration.
type StreamSettings struct {
	Messages   []string `json:"messages" nullable:"false" doc:"The kinds that it carries."`
	Decimals   string   `json:"decimals" enum:"number,string"`
	Nulls      string   `json:"nulls" enum:"explicit,omitted"`
	AmountSign string   `json:"amount_sign" enum:"signed,absolute"`
	Unchanged  string   `json:"unchanged" enum:"suppress,publish" doc:"What a bank lists again without a change."`
	Start      string   `json:"start" enum:"log,now"`
	Queues     []string `json:"queues" nullable:"false" doc:"Those that are watched for being empty."`
}

// StreamLeader is the node that publishes.
type StreamLeader struct {
	Node  string    `json:"node"`
	Term  int64     `json:"term" doc:"Rises with each change of the leader, and with each new connection of it."`
	Since time.Time `json:"since"`
}

// StreamLag is how far a stream is behind.
type StreamLag struct {
	Events  int64   `json:"events" doc:"Events in the log behind confirmed. What exchanges hold back is not counted."`
	Seconds float64 `json:"seconds" doc:"Age of the oldest event that is not confirmed, held ones included."`
}

// StreamExchange is how one exchange is doing.
type StreamExchange struct {
	Message   string         `json:"message" enum:"account,transaction,session,consent,call"`
	Exchange  string         `json:"exchange"`
	State     string         `json:"state" enum:"not_carried,unused,untold,routed,unrouted,holding,catching_up,redriving" doc:"unused: nothing was published yet; untold: the settings ask for no routing; routed, unrouted: the last message; holding: waits for its binding; catching_up: it is back; redriving: somebody asked for it."`
	Unrouted  string         `json:"when_unrouted" enum:"hold,record,off"`
	Routed    bool           `json:"ever_routed" doc:"A message reached a queue at least once."`
	Last      *StreamMessage `json:"last,omitempty" doc:"The last confirmed message."`
	Published int64          `json:"published" doc:"Confirmed messages, repeats included."`
	Returned  int64          `json:"unrouted" doc:"Those that reached no queue."`
	Faults    int64          `json:"faults" doc:"Messages that a consumer could not process."`
	Hold      *StreamHold    `json:"hold,omitempty"`
}

// StreamMessage is the last message of an exchange.
type StreamMessage struct {
	Position int64     `json:"position"`
	At       time.Time `json:"at"`
	Routed   *bool     `json:"routed,omitempty" doc:"Absent if the settings ask for no routing."`
}

// StreamHold is an exchange that waits or catches up.
type StreamHold struct {
	After    int64      `json:"after" doc:"What comes after this position waits."`
	Since    time.Time  `json:"since"`
	Redrive  bool       `json:"redrive" doc:"Asked for; not because a binding was lost."`
	OldestAt *time.Time `json:"oldest_at,omitempty" doc:"Time of the oldest event that waits to be sent for the first time."`
}

// StreamQueue is a queue of the client as the broker showed it.
type StreamQueue struct {
	Name      string     `json:"name"`
	SeenAt    *time.Time `json:"seen_at,omitempty" doc:"Absent if nobody has looked yet."`
	Missing   bool       `json:"missing" doc:"There is no such queue."`
	Depth     int        `json:"depth" doc:"Ready messages; what a consumer holds unacknowledged does not count."`
	Consumers int        `json:"consumers"`
	Drained   int64      `json:"drained" doc:"Everything up to this position was confirmed before the queue was seen empty."`
	DrainedAt *time.Time `json:"drained_at,omitempty"`
}

// StreamList is all streams of a tenant.
type StreamList struct {
	Items []Stream `json:"items" nullable:"false"`
}

func streamStatus(s stream.Status) Stream {
	messages := s.Settings.Messages
	if len(messages) == 0 {
		messages = banqup.Kinds
	}
	word := func(is bool, yes, no string) string {
		if is {
			return yes
		}
		return no
	}
	face := s.Settings.Face
	v := Stream{
		ID: s.Name, Target: s.Target, Enabled: s.Enabled, Trouble: append([]string{}, s.Trouble...), CreatedAt: s.CreatedAt.UTC(),
		Settings: StreamSettings{
			Messages: wire.Words(messages), Decimals: word(face.DecimalsAsText, "string", "number"), Nulls: word(face.OmitNulls, "omitted", "explicit"),
			AmountSign: word(face.AbsoluteAmounts, "absolute", "signed"), Unchanged: word(s.Settings.Unchanged, "publish", "suppress"),
			Start: word(s.Settings.FromNow, "now", "log"), Queues: append([]string{}, s.Settings.Queues...),
		},
		Start: int64(s.Start), Head: int64(s.Head), Confirmed: int64(s.Progress.Position), Settled: int64(s.Settled), SavedAt: wire.UTC(&s.SavedAt),
		Lag: StreamLag{Events: s.Lag.Events, Seconds: s.Lag.Age.Round(time.Millisecond).Seconds()}, Rate: s.Rate,
		Exchanges: wire.Each(s.Exchanges, streamExchange), Queues: wire.Each(s.Queues, streamQueue),
	}
	if !s.Enabled {
		v.Reason = s.Reason
	}
	if s.Term > 0 {
		v.Leader = &StreamLeader{Node: s.Leader, Term: s.Term, Since: s.LedAt.UTC()}
	}
	return v
}

func streamExchange(x stream.ExchangeStatus) StreamExchange {
	v := StreamExchange{
		Message: string(x.Kind), Exchange: x.Kind.Exchange(), State: string(x.State), Unrouted: string(x.Unrouted), Routed: x.Routed,
		Published: x.Published, Returned: x.Exchange.Unrouted, Faults: x.Faults,
	}
	if x.Last > 0 {
		v.Last = &StreamMessage{Position: int64(x.Last), At: x.LastAt.UTC()}
		if x.Unrouted != stream.UnroutedOff && x.Last > x.Untold {
			v.Last.Routed = new(x.LastRouted)
		}
	}
	if x.Hold != nil {
		v.Hold = &StreamHold{After: int64(x.Hold.After), Since: x.Hold.Since.UTC(), Redrive: x.Hold.Redrive, OldestAt: wire.UTC(&x.Waiting)}
	}
	return v
}

func streamQueue(q stream.QueueStatus) StreamQueue {
	return StreamQueue{
		Name: q.Name, SeenAt: wire.UTC(&q.SeenAt), Missing: q.Missing, Depth: q.Depth, Consumers: q.Consumers, Drained: int64(q.Drained),
		DrainedAt: wire.UTC(&q.DrainedAt),
	}
}

// Story is what is known of one event on its way through a stream.
type Story struct {
	Event     StoryEvent    `json:"event"`
	MessageID string        `json:"message_id" format:"uuid" doc:"Of its first delivery: the id of the event."`
	Message   string        `json:"message,omitempty" enum:"account,transaction,session,consent,call" doc:"Absent if no message is made of such events."`
	Exchange  string        `json:"exchange,omitempty"`
	Carried   bool          `json:"carried" doc:"Whether the stream sends it."`
	State     string        `json:"state" enum:"not_carried,logged,held,confirmed,routed,unrouted,erased,unreadable,drained,faulted,acknowledged" doc:"The furthest that is known; docs/streams.md says what each proves."`
	Steps     []StoryStep   `json:"steps" nullable:"false" doc:"Everything that is known of the first delivery."`
	Replays   []StoryReplay `json:"replays" nullable:"false" doc:"Newest first."`
}

// StoryEvent is the event of a story, without what it says.
type StoryEvent struct {
	ID         string    `json:"id" format:"uuid"`
	Position   int64     `json:"position"`
	Type       string    `json:"type" example:"transaction.created"`
	At         time.Time `json:"at"`
	User       string    `json:"user" doc:"Number of the user."`
	Connection string    `json:"connection,omitempty"`
	Account    string    `json:"account,omitempty"`
	Session    string    `json:"session,omitempty"`
	Erased     bool      `json:"erased" doc:"The event says nothing any more."`
}

// StoryStep is one thing that is known.
type StoryStep struct {
	State    string      `json:"state" enum:"not_carried,logged,held,confirmed,routed,unrouted,erased,unreadable,drained,faulted,acknowledged"`
	At       *time.Time  `json:"at,omitempty" doc:"When, or the latest time by which; absent if that was not recorded."`
	Text     string      `json:"text" doc:"What it proves, and what not."`
	Fault    *StoryFault `json:"fault,omitempty" doc:"With faulted."`
	Consumer string      `json:"consumer,omitempty" doc:"With acknowledged."`
}

// StoryFault is a consumer's exception.
type StoryFault struct {
	Type string `json:"type,omitempty" doc:"Class of the exception." example:"System.InvalidOperationException"`
	Text string `json:"text,omitempty" doc:"Gone once the user was erased."`
	Host string `json:"host,omitempty" doc:"Machine of the consumer."`
}

// StoryReplay is what is known of the event in one replay.
type StoryReplay struct {
	ID        string      `json:"id"`
	MessageID string      `json:"message_id" format:"uuid"`
	Queue     string      `json:"queue,omitempty" doc:"Where it went instead of the exchange."`
	Status    string      `json:"status" enum:"pending,running,done,failed,cancelled"`
	State     string      `json:"state" enum:"logged,confirmed,routed,erased,faulted,acknowledged"`
	Steps     []StoryStep `json:"steps" nullable:"false"`
}

// StoryList is a page of a search.
type StoryList struct {
	Items []Story `json:"items" nullable:"false"`
	Next  string  `json:"next,omitempty" doc:"Send it as after to go on; absent at the end of the log."`
}

func storyEvent(e bankfeed.Event, erased bool) StoryEvent {
	return StoryEvent{
		ID: e.ID().String(), Position: int64(e.Position), Type: string(e.Type), At: e.At.UTC(), User: wire.Decimal(e.User),
		Connection: wire.Decimal(e.Connection), Account: wire.Decimal(e.Account), Session: wire.Decimal(e.Session), Erased: erased,
	}
}

func story(s stream.Story) Story {
	return Story{
		Event: storyEvent(s.Event, s.Erased), MessageID: s.Message.String(), Message: string(s.Kind), Exchange: s.Kind.Exchange(),
		Carried: s.Carried, State: string(s.State), Steps: wire.Each(s.Steps, storyStep),
		Replays: wire.Each(s.Replays, func(r stream.ReplayStory) StoryReplay {
			return StoryReplay{
				ID: wire.Decimal(r.ID), MessageID: r.Message.String(), Queue: r.Queue, Status: string(r.Status), State: string(r.State),
				Steps: wire.Each(r.Steps, storyStep),
			}
		}),
	}
}

func storyStep(s stream.StoryStep) StoryStep {
	v := StoryStep{State: string(s.State), At: wire.UTC(&s.At), Text: s.Text, Consumer: s.Consumer}
	if s.Fault != nil {
		v.Fault = &StoryFault{Type: s.Fault.Type, Text: s.Fault.Text, Host: s.Fault.Host}
	}
	return v
}

// Gap is a range of events of one kind that reached nobody.
type Gap struct {
	Message    string     `json:"message" enum:"account,transaction,session,consent,call"`
	Reason     string     `json:"reason" enum:"unrouted,erased,unreadable" doc:"unrouted: no queue was bound; erased: the user, consent or account was removed before; unreadable: a fault of the hub."`
	First      int64      `json:"first" doc:"Position of the first event; every event of the kind up to last belongs to it."`
	Last       int64      `json:"last"`
	Events     int64      `json:"events"`
	Since      time.Time  `json:"since" doc:"When the first one was passed."`
	Until      time.Time  `json:"until"`
	ResolvedAt *time.Time `json:"resolved_at,omitempty" doc:"When all of it had been sent again and routed."`
}

// GapList is a page of gaps.
type GapList struct {
	Items []Gap  `json:"items" nullable:"false"`
	Next  string `json:"next,omitempty" doc:"Send it as after for the next page; absent on the last one."`
}

func streamGap(g stream.Gap) Gap {
	return Gap{
		Message: string(g.Kind), Reason: string(g.Reason), First: int64(g.First), Last: int64(g.Last), Events: g.Count,
		Since: g.Since.UTC(), Until: g.Until.UTC(), ResolvedAt: wire.UTC(&g.ResolvedAt),
	}
}

// StreamFault is a message that a consumer could not process.
type StreamFault struct {
	MessageID string     `json:"message_id" format:"uuid" doc:"As delivered: the event's id, or a replay's."`
	Replay    string     `json:"replay,omitempty" doc:"Id of the replay."`
	Message   string     `json:"message,omitempty" enum:"account,transaction,session,consent,call" doc:"Absent if the consumer could not read the message."`
	At        time.Time  `json:"at"`
	Fault     StoryFault `json:"fault"`
	Event     StoryEvent `json:"event"`
}

// StreamFaultList is a page of faults.
type StreamFaultList struct {
	Items []StreamFault `json:"items" nullable:"false"`
	Next  string        `json:"next,omitempty" doc:"Send it as after to go on; absent at the end."`
}

func streamFault(f stream.FaultOf) StreamFault {
	return StreamFault{
		MessageID: f.Message.String(), Replay: wire.Decimal(f.Replay), Message: string(f.Kind), At: f.At.UTC(),
		Fault: StoryFault{Type: f.Type, Text: f.Text, Host: f.Host}, Event: storyEvent(f.Event, f.Erased),
	}
}

// AcknowledgementResult is what came of acknowledgements.
type AcknowledgementResult struct {
	Accepted int      `json:"accepted" doc:"Messages that were found."`
	New      int      `json:"new" doc:"Those of them that this consumer had not acknowledged before."`
	Unknown  []string `json:"unknown" nullable:"false" doc:"What names no message of the stream."`
}
