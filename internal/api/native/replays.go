package native

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/delivery/stream"
	"github.com/bankfeed/bankfeed/wire/banqup"
	wire "github.com/bankfeed/bankfeed/wire/native"
)

// Replays sends events to a stream again.
type Replays interface {
	// Count says what a replay would send.
	Count(ctx context.Context, o stream.ReplayOrder) (stream.ReplayCount, error)
	Start(ctx context.Context, o stream.ReplayOrder) (stream.Replay, stream.ReplayCount, error)
	// Replay returns bankfeed.ErrNotFound if the tenant has none with the id.
	Replay(ctx context.Context, tenant bankfeed.TenantID, id int64) (stream.Replay, error)
	// List returns replays with ids below before (0: all), newest first.
	List(ctx context.Context, tenant bankfeed.TenantID, before int64, limit int) ([]stream.Replay, error)
	// Cancel leaves a replay that has ended as it is.
	Cancel(ctx context.Context, tenant bankfeed.TenantID, id int64) (stream.Replay, error)
}

// ReplayRequest asks for a replay.
type ReplayRequest struct {
	Stream string `json:"stream,omitempty" maxLength:"255" doc:"The stream, by name. Not needed if there is only one."`
	Queue  string `json:"queue,omitempty" maxLength:"255" doc:"Send to this queue of the broker alone, instead of the exchanges. At most 255 bytes."`
	DryRun bool   `json:"dry_run,omitempty" doc:"Only count what would be sent."`
	Event  string `json:"event,omitempty" format:"uuid" doc:"This event alone: its id, or the messageId under which it was sent."`
	ReplaySelection
}

// ReplaySelection says which events; all that is set must fit.
type ReplaySelection struct {
	User       string     `json:"user,omitempty" maxLength:"64" doc:"Only events of this user, by number or UUID."`
	Connection string     `json:"connection,omitempty" maxLength:"64" doc:"Only events of this connection, by number or UUID; it need not exist any more. Likewise account and session."`
	Account    string     `json:"account,omitempty" maxLength:"64"`
	Session    string     `json:"session,omitempty" maxLength:"64"`
	Consent    string     `json:"consent,omitempty" maxLength:"64" doc:"Only the consent messages of this consent."`
	Messages   []string   `json:"messages,omitempty" enum:"account,transaction,session,consent,call" maxItems:"5" nullable:"false" doc:"Only these kinds of message."`
	First      int64      `json:"first,omitempty" minimum:"1" doc:"Only from this position on. A replay shows the range that it looks at, also if none was asked for."`
	Last       int64      `json:"last,omitempty" minimum:"1" doc:"Only up to this position, inclusive."`
	From       *time.Time `json:"from,omitempty" doc:"Only events from this time on."`
	To         *time.Time `json:"to,omitempty" doc:"Only events before this time."`
}

// ReplayAnswer is what became of a request.
type ReplayAnswer struct {
	Replay *Replay     `json:"replay,omitempty" doc:"Absent after a dry run."`
	Count  ReplayCount `json:"count"`
}

// ReplayCount is what a replay would send at this moment.
type ReplayCount struct {
	Total    int64            `json:"total" doc:"Messages."`
	Messages map[string]int64 `json:"messages" doc:"By kind; kinds without any are missing."`
	Erased   int64            `json:"erased" doc:"Events that cannot be sent, because their user was erased; not part of the total."`
	Complete bool             `json:"complete" doc:"false: counting took too long and got as far as position. To go on, count from the position after it (first)."`
	Position int64            `json:"position" doc:"Counted up to here."`
	First    int64            `json:"first" doc:"The range that is looked at."`
	Last     int64            `json:"last" doc:"Inclusive; before first if there is nothing to look at."`
}

// Replay is one replay and how far it has come.
type Replay struct {
	ID        string          `json:"id" doc:"A number. Message ids of the replay hold it, so they differ from those of the first delivery and of other replays, and are the same however often one is sent." example:"1772442000000"`
	Stream    string          `json:"stream"`
	Queue     string          `json:"queue,omitempty"`
	Filter    ReplaySelection `json:"filter" doc:"What was asked for, with the range of positions that came of it."`
	Status    string          `json:"status" enum:"pending,running,done,failed,cancelled"`
	Text      string          `json:"text,omitempty" doc:"Why it waits or failed, or what could not be sent."`
	Position  int64           `json:"position" doc:"Looked at up to here."`
	Until     int64           `json:"until" doc:"Head of the log when it was asked for; what came later is not part of it."`
	Total     *int64          `json:"total,omitempty" doc:"Messages that it sends; absent until they are counted."`
	Published int64           `json:"published" doc:"Messages that a queue has taken."`
	Unrouted  int64           `json:"unrouted" doc:"Messages that no queue was bound for."`
	Erased    int64           `json:"erased" doc:"Events that were not sent, because their user was erased."`
	CreatedAt time.Time       `json:"created_at"`
	StartedAt *time.Time      `json:"started_at,omitempty"`
	EndedAt   *time.Time      `json:"ended_at,omitempty"`
}

// ReplayList is a page of replays.
type ReplayList struct {
	Items []Replay `json:"items" nullable:"false"`
	Next  string   `json:"next,omitempty" doc:"Send it as after for the next page; absent on the last one."`
}

// countFor is how long a request counts.
const countFor = 5 * time.Second

type replayAnswer struct {
	Status   int
	Location string `header:"Location"`
	Body     ReplayAnswer
}

type replayBody struct{ Body Replay }

type pathReplay struct {
	ID string `path:"id" maxLength:"64" doc:"Number of the replay."`
}

func (a *API) routeReplays() {
	register(a, huma.Operation{
		OperationID: "createReplay", Method: http.MethodPost, Path: "/v1/replays", Tags: []string{tagReplays},
		Summary: "Replay events to a stream",
		Description: "Sends events again, in log order, each under a new messageId and with the header MT-OriginalMessageId; `message` is equal byte for byte. " +
			"Without a selection that is everything the log still has. Needs a client's token; events of the other world (sandbox or live) are left out.",
		DefaultStatus: http.StatusAccepted,
		Responses: map[string]*huma.Response{
			"200": {Description: "OK: the answer to a dry run", Content: map[string]*huma.MediaType{"application/json": {Schema: &huma.Schema{Ref: "#/components/schemas/ReplayAnswer"}}}},
			"409": a.problemResponse("Conflict: the stream is not enabled"),
			"410": a.problemResponse("Gone: the position or event was removed by retention"),
		},
	}, a.createReplay)

	register(a, huma.Operation{
		OperationID: "listReplays", Method: http.MethodGet, Path: "/v1/replays", Tags: []string{tagReplays},
		Summary: "List replays", Description: "Newest first. Needs a client's token. A page may be empty although next is there.",
	}, a.listReplays)

	register(a, huma.Operation{
		OperationID: "getReplay", Method: http.MethodGet, Path: "/v1/replays/{id}", Tags: []string{tagReplays},
		Summary: "Get a replay", Description: "Needs a client's token.",
	}, func(ctx context.Context, c *call, in *pathReplay) (*replayBody, error) {
		r, err := a.replay(ctx, c, in.ID)
		if err != nil {
			return nil, err
		}
		return &replayBody{replay(r)}, nil
	})

	register(a, huma.Operation{
		OperationID: "cancelReplay", Method: http.MethodPost, Path: "/v1/replays/{id}/cancel", Tags: []string{tagReplays},
		Summary:     "Cancel a replay",
		Description: "What is on its way to the broker still goes out. A replay that has ended stays as it is. Needs a client's token.",
	}, func(ctx context.Context, c *call, in *pathReplay) (*replayBody, error) {
		r, err := a.replay(ctx, c, in.ID)
		if err != nil {
			return nil, err
		}
		if r, err = a.Replays.Cancel(ctx, c.Client.Tenant, r.ID); err != nil {
			return nil, err
		}
		return &replayBody{replay(r)}, nil
	})
}

func (a *API) createReplay(ctx context.Context, c *call, in *struct{ Body ReplayRequest }) (*replayAnswer, error) {
	replays, err := a.replaysOf(c)
	if err != nil {
		return nil, err
	}
	o, err := a.replayOrder(ctx, c, &in.Body)
	if err != nil {
		return nil, err
	}
	if in.Body.DryRun {
		n, err := replays.Count(ctx, o)
		if err != nil {
			return nil, err
		}
		return &replayAnswer{Status: http.StatusOK, Body: ReplayAnswer{Count: replayCount(n)}}, nil
	}
	r, n, err := replays.Start(ctx, o)
	if err != nil {
		return nil, err
	}
	v := replay(r)
	return &replayAnswer{Status: http.StatusAccepted, Location: "/v1/replays/" + v.ID, Body: ReplayAnswer{Replay: &v, Count: replayCount(n)}}, nil
}

func (a *API) listReplays(ctx context.Context, c *call, in *struct {
	After string `query:"after" maxLength:"64" doc:"next of the page before."`
	Limit int    `query:"limit" minimum:"1" maximum:"500" default:"100"`
}) (*struct{ Body ReplayList }, error) {
	replays, err := a.replaysOf(c)
	if err != nil {
		return nil, err
	}
	before, err := readNumberCursor[number64](in.After)
	if err != nil {
		return nil, err
	}
	list := ReplayList{Items: []Replay{}}
	id, looked := int64(before), max(in.Limit, replaysLooked)
	for range replayLooks {
		page, err := replays.List(ctx, c.Client.Tenant, id, looked)
		if err != nil {
			return nil, err
		}
		for _, r := range page {
			if id = r.ID; !visibleReplay(c, &r) {
				continue
			}
			if list.Items = append(list.Items, replay(r)); len(list.Items) == in.Limit {
				list.Next = numberCursor(number64(id))
				return &struct{ Body ReplayList }{list}, nil
			}
		}
		if len(page) < looked {
			return &struct{ Body ReplayList }{list}, nil
		}
	}
	list.Next = numberCursor(number64(id))
	return &struct{ Body ReplayList }{list}, nil
}

// How many replays of the other world, at least, one request for a page of
// replays passes over, and in how many steps.
const replaysLooked, replayLooks = 100, 10

// number64 is a number without a type of its own.
type number64 int64

// noReplays are those of a hub without streams.
type noReplays struct{}

func (noReplays) Count(context.Context, stream.ReplayOrder) (stream.ReplayCount, error) {
	return stream.ReplayCount{}, bankfeed.ErrNotFound
}

func (noReplays) Start(context.Context, stream.ReplayOrder) (stream.Replay, stream.ReplayCount, error) {
	return stream.Replay{}, stream.ReplayCount{}, bankfeed.ErrNotFound
}

func (noReplays) Replay(context.Context, bankfeed.TenantID, int64) (stream.Replay, error) {
	return stream.Replay{}, bankfeed.ErrNotFound
}

func (noReplays) List(context.Context, bankfeed.TenantID, int64, int) ([]stream.Replay, error) {
	return nil, nil
}

func (noReplays) Cancel(context.Context, bankfeed.TenantID, int64) (stream.Replay, error) {
	return stream.Replay{}, bankfeed.ErrNotFound
}

// replaysOf is what a caller may reach. A user's token is refused: it reaches that
// user's data only, and a replay goes to the client's consumers.
func (a *API) replaysOf(c *call) (Replays, error) {
	switch {
	case c.User != 0:
		return nil, bankfeed.Errorf(bankfeed.Forbidden, "this needs a client's token")
	case a.Replays == nil:
		return noReplays{}, nil
	}
	return a.Replays, nil
}

// replay finds a replay that the caller may see.
func (a *API) replay(ctx context.Context, c *call, text string) (stream.Replay, error) {
	replays, err := a.replaysOf(c)
	if err != nil {
		return stream.Replay{}, err
	}
	id, ok := bankfeed.ParseNumber(text)
	if !ok {
		return stream.Replay{}, bankfeed.ErrNotFound
	}
	r, err := replays.Replay(ctx, c.Client.Tenant, id)
	if err == nil && !visibleReplay(c, &r) {
		err = bankfeed.ErrNotFound
	}
	return r, err
}

// visibleReplay: a client sees the replays of its own world. Those of an
// operator, who acts for both, are shown to live clients.
func visibleReplay(c *call, r *stream.Replay) bool {
	return r.Filter.World == world(c) || r.Filter.World == "" && !c.Client.Sandbox
}

// world is the half of the tenant's users that a client may see.
func world(c *call) stream.World {
	if c.Client.Sandbox {
		return stream.Sandbox
	}
	return stream.Live
}

// replayOrder reads a request. A client reaches users of its own world only.
func (a *API) replayOrder(ctx context.Context, c *call, in *ReplayRequest) (o stream.ReplayOrder, err error) {
	o = stream.ReplayOrder{Tenant: c.Client.Tenant, Stream: in.Stream, Queue: in.Queue, CountFor: countFor}
	f := &o.Filter
	f.World = world(c)
	if in.Event != "" {
		if o.Event, err = bankfeed.ParseUUID(in.Event); err != nil || o.Event == (bankfeed.UUID{}) {
			return o, bankfeed.ErrNotFound
		}
	}
	if in.User != "" {
		if f.User, err = a.user(ctx, c, in.User); err != nil {
			return o, err
		}
	}
	for _, named := range []struct {
		kind  bankfeed.Kind
		field string
		text  string
		set   func(int64)
	}{
		{bankfeed.KindConnection, "body.connection", in.Connection, func(n int64) { f.Connection = bankfeed.ConnectionID(n) }},
		{bankfeed.KindAccount, "body.account", in.Account, func(n int64) { f.Account = bankfeed.AccountID(n) }},
		{bankfeed.KindSession, "body.session", in.Session, func(n int64) { f.Session = bankfeed.SessionID(n) }},
		{bankfeed.KindConsent, "body.consent", in.Consent, func(n int64) { f.Consent = bankfeed.ConsentID(n) }},
	} {
		n, err := a.eventID(c, named.kind, named.field, named.text)
		if err != nil {
			return o, err
		}
		if n < 0 { // of another installation or tenant
			return o, bankfeed.ErrNotFound
		}
		named.set(n)
	}
	for _, k := range in.Messages {
		f.Messages = append(f.Messages, banqup.Kind(k))
	}
	f.First, f.Last = bankfeed.Position(in.First), bankfeed.Position(in.Last)
	if in.From != nil {
		f.From = in.From.UTC()
	}
	if in.To != nil {
		f.To = in.To.UTC()
	}
	return o, nil
}

func replayCount(n stream.ReplayCount) ReplayCount {
	v := ReplayCount{
		Total: n.Total, Messages: map[string]int64{}, Erased: n.Erased, Complete: n.Complete, Position: int64(n.Position),
		First: int64(n.First), Last: int64(n.Last),
	}
	for k, count := range n.Kinds {
		v.Messages[string(k)] = count
	}
	return v
}

func replay(r stream.Replay) Replay {
	f := &r.Filter
	v := Replay{
		ID: wire.Decimal(number64(r.ID)), Stream: r.Stream.Name, Queue: r.Queue, Status: string(r.Status), Text: r.Text,
		Filter: ReplaySelection{
			User: wire.Decimal(f.User), Connection: wire.Decimal(f.Connection), Account: wire.Decimal(f.Account), Session: wire.Decimal(f.Session),
			Consent: wire.Decimal(f.Consent), Messages: wire.Words(f.Messages), First: int64(f.First), Last: int64(f.Last), From: wire.UTC(&f.From), To: wire.UTC(&f.To),
		},
		Position: int64(r.Position), Until: int64(r.Until), Published: r.Published, Unrouted: r.Unrouted, Erased: r.Erased,
		CreatedAt: r.CreatedAt(), StartedAt: wire.UTC(&r.StartedAt), EndedAt: wire.UTC(&r.EndedAt),
	}
	if r.Total >= 0 {
		v.Total = &r.Total
	}
	return v
}
