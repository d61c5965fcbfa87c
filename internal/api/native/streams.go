package native

import (
	"context"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/delivery/stream"
	"github.com/bankfeed/bankfeed/wire/banqup"
	wire "github.com/bankfeed/bankfeed/wire/native"
)

// Streams tells what is known of a tenant's streams, and of each event on its
// way; bankfeed.ErrNotFound for what is unknown or another's.
type Streams interface {
	Streams(ctx context.Context, tenant bankfeed.TenantID) ([]stream.Status, error)
	Status(ctx context.Context, key stream.Key) (stream.Status, error)
	Search(ctx context.Context, key stream.Key, q stream.Search) (stream.Found, error)
	Story(ctx context.Context, key stream.Key, world stream.World, message bankfeed.UUID) (stream.Story, error)
	Gaps(ctx context.Context, key stream.Key, open bool, before bankfeed.Position, limit int) ([]stream.Gap, bankfeed.Position, error)
	Faults(ctx context.Context, key stream.Key, world stream.World, before bankfeed.Position, limit int) ([]stream.FaultOf, bankfeed.Position, error)
	Acknowledge(ctx context.Context, key stream.Key, world stream.World, messages []bankfeed.UUID, consumer string) (stream.Acknowledged, error)
	Redrive(ctx context.Context, key stream.Key, kinds []banqup.Kind) error
}

// noStreams is what a hub without streams knows.
type noStreams struct{}

func (noStreams) Streams(context.Context, bankfeed.TenantID) ([]stream.Status, error) {
	return nil, nil
}
func (noStreams) Status(context.Context, stream.Key) (stream.Status, error) {
	return stream.Status{}, bankfeed.ErrNotFound
}
func (noStreams) Search(context.Context, stream.Key, stream.Search) (stream.Found, error) {
	return stream.Found{}, bankfeed.ErrNotFound
}
func (noStreams) Story(context.Context, stream.Key, stream.World, bankfeed.UUID) (stream.Story, error) {
	return stream.Story{}, bankfeed.ErrNotFound
}
func (noStreams) Gaps(context.Context, stream.Key, bool, bankfeed.Position, int) ([]stream.Gap, bankfeed.Position, error) {
	return nil, 0, bankfeed.ErrNotFound
}
func (noStreams) Faults(context.Context, stream.Key, stream.World, bankfeed.Position, int) ([]stream.FaultOf, bankfeed.Position, error) {
	return nil, 0, bankfeed.ErrNotFound
}
func (noStreams) Acknowledge(context.Context, stream.Key, stream.World, []bankfeed.UUID, string) (stream.Acknowledged, error) {
	return stream.Acknowledged{}, bankfeed.ErrNotFound
}
func (noStreams) Redrive(context.Context, stream.Key, []banqup.Kind) error {
	return bankfeed.ErrNotFound
}

// streams is never nil.
func (a *API) streams() Streams {
	if a.Streams == nil {
		return noStreams{}
	}
	return a.Streams
}

// ofClient refuses a user's token: streams carry all users of a tenant.
func ofClient(c *call) error {
	if c.User != 0 {
		return bankfeed.Errorf(bankfeed.Forbidden, "this needs a client's token")
	}
	return nil
}

// StreamPath names a stream.
type StreamPath struct {
	ID string `path:"id" maxLength:"100" pattern:"^[^\\x00-\\x1f\\x7f]*$" doc:"Name of the stream." example:"banqup"`
}

func (p StreamPath) key(c *call) stream.Key {
	return stream.Key{Tenant: c.Client.Tenant, Name: p.ID}
}

// StreamEventFilter selects events of a stream.
type StreamEventFilter struct {
	User        string   `query:"user" doc:"Number or UUID; likewise account, consent and connection. They need not exist any more."`
	Account     string   `query:"account"`
	Consent     string   `query:"consent" doc:"Events about this consent, and erased ones about a consent of its connection."`
	Session     string   `query:"session" maxLength:"512" pattern:"^[^\\x00-\\x1f\\x7f]*$" doc:"Number, UUID or your own external id."`
	Connection  string   `query:"connection"`
	ExecutionID string   `query:"execution_id" maxLength:"36" doc:"The executionId of an AspspCall. Erased calls are not found by it."`
	MessageID   string   `query:"message_id" maxLength:"36" doc:"The messageId of a message: the id of its event, or what a replay gave it."`
	Messages    []string `query:"messages" nullable:"false" maxItems:"5" enum:"account,transaction,session,consent,call" doc:"Only events that become these messages, separated by commas."`
	After       string   `query:"after" maxLength:"64" doc:"next of the page before."`
	Limit       int      `query:"limit" minimum:"1" maximum:"200" default:"50"`
}

// AcknowledgementRequest is a consumer's word.
type AcknowledgementRequest struct {
	MessageIDs []string `json:"message_ids" minItems:"1" maxItems:"1000" nullable:"false" doc:"messageId of each message, of replays too."`
	Consumer   string   `json:"consumer" minLength:"1" maxLength:"200" pattern:"^[^\\x00-\\x1f\\x7f]*$" doc:"Who has processed them; each consumer has a word of its own." example:"ledger"`
}

// RedriveRequest asks to send unrouted messages again.
type RedriveRequest struct {
	Messages []string `json:"messages,omitempty" maxItems:"5" nullable:"false" enum:"account,transaction,session,consent,call" doc:"Which; without it all that the stream carries."`
}

func (a *API) routeStreams() {
	register(a, huma.Operation{
		OperationID: "listStreams", Method: http.MethodGet, Path: "/v1/streams", Tags: []string{tagStreams},
		Summary: "List streams", Description: "How each stream of the tenant is doing. Needs a client's token, as everything here: a stream carries all users.",
	}, func(ctx context.Context, c *call, _ *struct{}) (*struct{ Body StreamList }, error) {
		if err := ofClient(c); err != nil {
			return nil, err
		}
		list, err := a.streams().Streams(ctx, c.Client.Tenant)
		if err != nil {
			return nil, err
		}
		return &struct{ Body StreamList }{StreamList{wire.Each(list, streamStatus)}}, nil
	})

	register(a, huma.Operation{
		OperationID: "getStream", Method: http.MethodGet, Path: "/v1/streams/{id}", Tags: []string{tagStreams}, Summary: "Get a stream",
	}, func(ctx context.Context, c *call, in *StreamPath) (*struct{ Body Stream }, error) {
		if err := ofClient(c); err != nil {
			return nil, err
		}
		s, err := a.streams().Status(ctx, in.key(c))
		if err != nil {
			return nil, err
		}
		return &struct{ Body Stream }{streamStatus(s)}, nil
	})
	a.routeStreamEvents()
	a.routeStreamTrouble()

	register(a, huma.Operation{
		OperationID: "acknowledgeMessages", Method: http.MethodPost, Path: "/v1/streams/{id}/acknowledgements", Tags: []string{tagStreams},
		Summary:     "Acknowledge messages",
		Description: "For consumers that want to prove what they have processed. Repeating it changes nothing. What names no message of the stream is listed as unknown and keeps the others from nothing.",
	}, func(ctx context.Context, c *call, in *struct {
		StreamPath
		Body AcknowledgementRequest
	}) (*struct{ Body AcknowledgementResult }, error) {
		if err := ofClient(c); err != nil {
			return nil, err
		}
		ids := make([]bankfeed.UUID, len(in.Body.MessageIDs))
		for i, s := range in.Body.MessageIDs {
			var err error
			if ids[i], err = bankfeed.ParseUUID(s); err != nil {
				return nil, bankfeed.InvalidField(fmt.Sprintf("body.message_ids[%d]", i), "expected a UUID")
			}
		}
		done, err := a.streams().Acknowledge(ctx, in.key(c), world(c), ids, in.Body.Consumer)
		if err != nil {
			return nil, err
		}
		return &struct{ Body AcknowledgementResult }{AcknowledgementResult{
			Accepted: done.Accepted, New: done.New, Unknown: wire.Each(done.Unknown, bankfeed.UUID.String),
		}}, nil
	})

	register(a, huma.Operation{
		OperationID: "redriveStream", Method: http.MethodPost, Path: "/v1/streams/{id}/redrive", Tags: []string{tagStreams},
		Summary:       "Send unrouted messages again",
		Description:   "In the background, in order and under their own ids, from the first message on that reached no queue. Messages of the same kind that did reach one since then are sent again too. 409 when there is nothing to send again.",
		DefaultStatus: http.StatusAccepted,
	}, func(ctx context.Context, c *call, in *struct {
		StreamPath
		Body *RedriveRequest
	}) (*struct{}, error) {
		if err := ofClient(c); err != nil {
			return nil, err
		}
		var kinds []banqup.Kind
		if in.Body != nil {
			kinds = kindsOf(in.Body.Messages)
		}
		return nil, a.streams().Redrive(ctx, in.key(c), kinds)
	})
}

func kindsOf(names []string) (kinds []banqup.Kind) {
	for _, n := range names {
		kinds = append(kinds, banqup.Kind(n))
	}
	return kinds
}

func (a *API) routeStreamEvents() {
	register(a, huma.Operation{
		OperationID: "searchStreamEvents", Method: http.MethodGet, Path: "/v1/streams/{id}/events", Tags: []string{tagStreams},
		Summary:     "Search events of a stream",
		Description: "In the order of the log, each with its story. A page is the result of looking at a part of the log: it may be empty although next is there.",
	}, func(ctx context.Context, c *call, in *struct {
		StreamPath
		StreamEventFilter
	}) (*struct{ Body StoryList }, error) {
		if err := ofClient(c); err != nil {
			return nil, err
		}
		q, some, err := a.streamSearch(c, in.StreamEventFilter)
		if err != nil {
			return nil, err
		}
		if !some { // but an unknown stream is still unknown
			_, err := a.streams().Status(ctx, in.key(c))
			return &struct{ Body StoryList }{StoryList{Items: []Story{}}}, err
		}
		found, err := a.streams().Search(ctx, in.key(c), q)
		if err != nil {
			return nil, err
		}
		out := StoryList{Items: wire.Each(found.Stories, story)}
		if found.Next != 0 {
			out.Next = numberCursor(found.Next)
		}
		return &struct{ Body StoryList }{out}, nil
	})

	register(a, huma.Operation{
		OperationID: "getStreamEvent", Method: http.MethodGet, Path: "/v1/streams/{id}/events/{event}", Tags: []string{tagStreams},
		Summary: "Get the story of an event", Description: "Everything that is known of one event on its way through the stream, and nothing beyond.",
	}, func(ctx context.Context, c *call, in *struct {
		StreamPath
		Event string `path:"event" maxLength:"100" doc:"Id of the event, or the messageId of one of its messages."`
	}) (*struct{ Body Story }, error) {
		if err := ofClient(c); err != nil {
			return nil, err
		}
		id, err := bankfeed.ParseUUID(in.Event)
		if err != nil {
			return nil, bankfeed.ErrNotFound
		}
		s, err := a.streams().Story(ctx, in.key(c), world(c), id)
		if err != nil {
			return nil, err
		}
		return &struct{ Body Story }{story(s)}, nil
	})
}

func (a *API) routeStreamTrouble() {
	register(a, huma.Operation{
		OperationID: "listStreamGaps", Method: http.MethodGet, Path: "/v1/streams/{id}/gaps", Tags: []string{tagStreams},
		Summary: "List what reached nobody", Description: "Ranges of events whose messages reached no queue, newest first.",
	}, func(ctx context.Context, c *call, in *struct {
		StreamPath
		Open  bool   `query:"open" doc:"Only those that were not sent again."`
		After string `query:"after" maxLength:"64" doc:"next of the page before."`
		Limit int    `query:"limit" minimum:"1" maximum:"500" default:"100"`
	}) (*struct{ Body GapList }, error) {
		if err := ofClient(c); err != nil {
			return nil, err
		}
		before, err := readNumberCursor[bankfeed.Position](in.After)
		if err != nil {
			return nil, err
		}
		list, next, err := a.streams().Gaps(ctx, in.key(c), in.Open, before, in.Limit)
		if err != nil {
			return nil, err
		}
		out := GapList{Items: wire.Each(list, streamGap)}
		if next != 0 {
			out.Next = numberCursor(next)
		}
		return &struct{ Body GapList }{out}, nil
	})

	register(a, huma.Operation{
		OperationID: "listStreamFaults", Method: http.MethodGet, Path: "/v1/streams/{id}/faults", Tags: []string{tagStreams},
		Summary: "List what consumers could not process", Description: "As MassTransit reports it on its fault exchanges, newest event first. A page may be empty although next is there.",
	}, func(ctx context.Context, c *call, in *struct {
		StreamPath
		After string `query:"after" maxLength:"64" doc:"next of the page before."`
		Limit int    `query:"limit" minimum:"1" maximum:"500" default:"100"`
	}) (*struct{ Body StreamFaultList }, error) {
		if err := ofClient(c); err != nil {
			return nil, err
		}
		before, err := readNumberCursor[bankfeed.Position](in.After)
		if err != nil {
			return nil, err
		}
		list, next, err := a.streams().Faults(ctx, in.key(c), world(c), before, in.Limit)
		if err != nil {
			return nil, err
		}
		out := StreamFaultList{Items: wire.Each(list, streamFault)}
		if next != 0 {
			out.Next = numberCursor(next)
		}
		return &struct{ Body StreamFaultList }{out}, nil
	})
}

// streamSearch reads a filter. some is false if it names something of somebody
// else: then nothing is found.
func (a *API) streamSearch(c *call, f StreamEventFilter) (q stream.Search, some bool, err error) {
	q = stream.Search{World: world(c), Session: f.Session, Messages: kindsOf(f.Messages), Limit: f.Limit}
	if q.After, err = readNumberCursor[bankfeed.Position](f.After); err != nil {
		return q, false, err
	}
	some = true
	number := func(kind bankfeed.Kind, name, s string) int64 {
		n, e := a.eventID(c, kind, "query."+name, s)
		if e != nil && err == nil {
			err = e
		}
		some = some && n >= 0
		return n
	}
	q.User = bankfeed.UserID(number(bankfeed.KindUser, "user", f.User))
	q.Account = bankfeed.AccountID(number(bankfeed.KindAccount, "account", f.Account))
	q.Consent = bankfeed.ConsentID(number(bankfeed.KindConsent, "consent", f.Consent))
	q.Connection = bankfeed.ConnectionID(number(bankfeed.KindConnection, "connection", f.Connection))
	for _, u := range []struct {
		name, text string
		into       *bankfeed.UUID
	}{{"execution_id", f.ExecutionID, &q.Execution}, {"message_id", f.MessageID, &q.Message}} {
		if u.text == "" {
			continue
		}
		id, e := bankfeed.ParseUUID(u.text)
		if e != nil && err == nil {
			err = bankfeed.InvalidField("query."+u.name, "expected a UUID")
		}
		some = some && id != bankfeed.UUID{}
		*u.into = id
	}
	return q, some, err
}
