package docs

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/banqup"
	"github.com/bankfeed/bankfeed/wire/oxlin"
)

// event is a row of the event table with its faces in the other dialects.
type event struct {
	Type, Topic, Category, Meaning, Carries string
	Oxlin                                   []string
	Banqup                                  string
}

var topics = map[bankfeed.Topic]string{bankfeed.TopicData: "data", bankfeed.TopicConnections: "connections", bankfeed.TopicSeen: "seen"}

// events is the table, in the order of a connection's life.
func events() []event {
	var list []event
	for _, i := range bankfeed.EventTypes {
		list = append(list, event{
			Type: string(i.Type), Topic: topics[i.Topic], Category: i.Category, Meaning: i.Meaning, Carries: i.Carries,
			Oxlin: onQueue(i.Type), Banqup: onStream(i.Type),
		})
	}
	return list
}

// onQueue asks the Oxlin dialect itself, with every reason that it may name.
func onQueue(t bankfeed.EventType) (names []string) {
	reasons := []bankfeed.ChannelStatus{""}
	if t == bankfeed.EventActionRequired {
		reasons = []bankfeed.ChannelStatus{
			bankfeed.ChannelAuthFailed, bankfeed.ChannelTokenExpired, bankfeed.ChannelPasswordChangeRequired,
			bankfeed.ChannelUserActionRequired, bankfeed.ChannelChallengeRequired,
		}
	}
	for _, reason := range reasons {
		e := bankfeed.Event{Type: t, Position: 1, Snapshot: &bankfeed.Snapshot{Reason: reason, Connection: &bankfeed.Connection{}}}
		if w, ok := oxlin.RenderEvent(e); ok {
			names = append(names, string(w.EventType))
		}
	}
	return names
}

// onStream is the message that the stream carries for an event.
func onStream(t bankfeed.EventType) string {
	k, ok := banqup.KindOf(t)
	if !ok {
		return ""
	}
	name := k.Exchange()[strings.LastIndexByte(k.Exchange(), ':')+1:]
	if t == bankfeed.EventTransactionRemoved {
		name += " (updated, cancelled)"
	}
	return name
}

const eventsHead = `# Events

<!-- Made by make generate from the event table in event.go. -->

Whatever happens in the hub is an event in its log, and every way out of the hub reads that log. ` + "`GET /v1/events`" + ` and
` + "`GET /v1/events/stream`" + ` show all of them but those of the topic seen, and so do subscriptions of [callbacks](callbacks.md); what a queue of the Oxlin dialect and a banqUP stream
call them stands in the last two columns. ` + "`request.finished` and `request.user_needed`" + ` are what the callbacks of finAPI requests tell.

An event carries everything as it was when it happened: ` + "`data.user`" + ` and, if it has one, ` + "`data.connection`" + ` with its channels, always; the other parts of
` + "`data`" + ` as the table says. Events of one user come in the order in which they were committed. The last event of a session is ` + "`sync.succeeded`" + ` or
` + "`sync.failed`" + `. How to read the log: [api.md](api.md).

| type | topic | category | meaning | carries | Oxlin queue | banqUP stream |
|---|---|---|---|---|---|---|
`

// WriteEvents writes docs/events.md.
func WriteEvents(w io.Writer) error {
	b := bufio.NewWriter(w)
	if _, err := b.WriteString(eventsHead); err != nil {
		return err
	}
	for _, e := range events() {
		_, err := fmt.Fprintf(b, "| `%s` | %s | %s | %s | %s | %s | %s |\n",
			e.Type, e.Topic, e.Category, e.Meaning, orDash(e.Carries), orDash(strings.Join(e.Oxlin, ", ")), orDash(e.Banqup))
		if err != nil {
			return err
		}
	}
	return b.Flush()
}

func orDash(s string) string {
	if s == "" {
		return "–"
	}
	return s
}
