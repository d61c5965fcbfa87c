package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/app"
	"github.com/bankfeed/bankfeed/internal/config"
)

type replayCommand struct {
	Start  replayStart  `cmd:"" default:"withargs" help:"Send events to a stream again (the default). What runs as bankfeed serve does it."`
	List   replayList   `cmd:"" help:"List replays, newest first."`
	Cancel replayCancel `cmd:"" help:"Cancel a replay."`
}

type replayStart struct {
	config.Common
	Tenant     string   `placeholder:"NAME" help:"Whose events. Default: the only tenant's."`
	Stream     string   `placeholder:"NAME" help:"To which stream. Default: the only one."`
	Queue      string   `placeholder:"NAME" help:"To this queue of the broker alone, instead of the exchanges."`
	User       string   `placeholder:"ID" help:"Only events of this user, by number or UUID."`
	Connection string   `placeholder:"ID" help:"Only events of this connection."`
	Account    string   `placeholder:"ID" help:"Only events of this account."`
	Session    string   `placeholder:"ID" help:"Only events of this session."`
	Consent    string   `placeholder:"ID" help:"Only the consent messages of this consent."`
	Messages   []string `placeholder:"KIND,…" help:"Only these kinds of message: account, transaction, session, consent, call."`
	Event      string   `placeholder:"UUID" help:"Only this event: its id, or the messageId under which it was sent."`
	From       string   `placeholder:"TIME|POSITION" help:"Only events from this time or position on."`
	To         string   `placeholder:"TIME|POSITION" help:"Only events before this time, or up to this position."`
	World      string   `placeholder:"WORLD" help:"Only events of live users, or of sandbox users."`
	All        bool     `help:"Send everything that the log still has. Needed when nothing narrows it."`
	DryRun     bool     `help:"Only count what would be sent."`
	Wait       bool     `help:"Wait for the end and show the progress."`
	JSON       bool     `name:"json" help:"Print JSON."`
}

func (r *replayStart) Run(ctx context.Context, t *terminal) (err error) {
	narrowed := r.User + r.Connection + r.Account + r.Session + r.Consent + r.Event + r.From + r.To
	if narrowed == "" && len(r.Messages) == 0 && !r.All && !r.DryRun {
		return errors.New("say what to send (--user, --account, --from …), or --all; --dry-run only counts")
	}
	d, err := t.openData(ctx, r.Common)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	replays := d.Replays(time.Now)
	order, err := d.ReplayOrder(ctx, app.ReplayText{
		Tenant: r.Tenant, Stream: r.Stream, Queue: r.Queue, Event: r.Event, User: r.User, Connection: r.Connection, Account: r.Account,
		Session: r.Session, Consent: r.Consent, Messages: r.Messages, From: r.From, To: r.To, World: r.World,
	})
	if err != nil {
		return err
	}
	if r.DryRun {
		n, err := replays.Count(ctx, order)
		if err != nil {
			return noStream(err)
		}
		if r.JSON {
			return json.NewEncoder(t.out).Encode(map[string]any{"total": n.Total, "messages": n.Kinds, "erased": n.Erased, "first": n.First, "last": n.Last})
		}
		_, err = fmt.Fprintf(t.out, "%s would be sent%s\n", messages(n), erased(n.Erased))
		return err
	}
	order.CountFor = replayCounts
	started, n, err := replays.Start(ctx, order)
	if err != nil {
		return noStream(err)
	}
	line := replayLine(started)
	if !r.JSON {
		more := ""
		if !n.Complete {
			more = " or more"
		}
		fmt.Fprintf(t.out, "replay %s: %s%s%s\n", line.ID, messages(n), more, erased(n.Erased))
	}
	if !r.Wait {
		if r.JSON {
			return json.NewEncoder(t.out).Encode(line)
		}
		return nil
	}
	return r.wait(ctx, t, func() (replayView, error) {
		now, err := replays.Replay(ctx, order.Tenant, started.ID)
		return replayLine(now), err
	})
}

// replayCounts is how long an order counts before it is placed; what is left is
// counted by the node that carries it out.
const replayCounts = 10 * time.Second

// replayPoll is how often the progress is looked at; after idleLooks nobody has
// begun, where a node that runs takes about a second.
const (
	replayPoll = 500 * time.Millisecond
	idleLooks  = 10
)

// wait shows the progress until the replay has ended.
func (r *replayStart) wait(ctx context.Context, t *terminal, look func() (replayView, error)) error {
	tick := time.NewTicker(replayPoll)
	defer tick.Stop()
	last := ""
	for looks := 1; ; looks++ {
		now, err := look()
		if err != nil {
			return err
		}
		if looks == idleLooks && now.Status == "pending" && now.Text == "" {
			fmt.Fprintln(t.err, "nobody has begun yet: is bankfeed serve running on this data, with the role deliver and a broker?")
		}
		if text := now.progress(); text != last && !r.JSON {
			fmt.Fprintln(t.out, text)
			last = text
		}
		switch now.Status {
		case "done", "failed", "cancelled":
			if r.JSON {
				if err := json.NewEncoder(t.out).Encode(now); err != nil {
					return err
				}
			}
			if now.Status != "done" {
				return errSilent
			}
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the replay goes on; to end it: bankfeed replay cancel %s", now.ID)
		}
	}
}

type replayList struct {
	config.Common
	Tenant string `placeholder:"NAME" help:"Whose replays. Default: the only tenant's."`
	Limit  int    `default:"20" help:"How many."`
	JSON   bool   `name:"json" help:"Print one JSON object a line."`
}

func (l *replayList) Run(ctx context.Context, t *terminal) (err error) {
	d, err := t.openData(ctx, l.Common)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	tenant, err := d.TenantNamed(ctx, l.Tenant)
	if err != nil {
		return err
	}
	if l.Limit < 1 {
		return bankfeed.InvalidField("limit", "expected a number above 0")
	}
	list, err := d.Replays(time.Now).List(ctx, tenant, 0, l.Limit)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(t.out, 0, 4, 2, ' ', 0)
	if !l.JSON {
		fmt.Fprintln(w, "ID\tSTREAM\tASKED FOR\tSTATUS\tMESSAGES\tSENT\tUNROUTED\tERASED\tREMARK")
	}
	e := json.NewEncoder(t.out)
	for _, r := range list {
		line := replayLine(r)
		if l.JSON {
			if err := e.Encode(line); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%d\t%d\t%s\n", line.ID, line.Stream, line.CreatedAt.Format(time.RFC3339), line.Status,
			line.total(), line.Published, line.Unrouted, line.Erased, line.Text)
	}
	return w.Flush()
}

type replayCancel struct {
	config.Common
	Tenant string `placeholder:"NAME" help:"Whose replay. Default: the only tenant's."`
	ID     int64  `arg:"" help:"As replay list shows it."`
}

func (c *replayCancel) Run(ctx context.Context, t *terminal) (err error) {
	d, err := t.openData(ctx, c.Common)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	tenant, err := d.TenantNamed(ctx, c.Tenant)
	if err != nil {
		return err
	}
	r, err := d.Replays(time.Now).Cancel(ctx, tenant, c.ID)
	if errors.Is(err, bankfeed.ErrNotFound) {
		return errors.New("there is no such replay: see bankfeed replay list")
	}
	if err == nil {
		_, err = fmt.Fprintln(t.out, replayLine(r).progress())
	}
	return err
}

func noStream(err error) error {
	if errors.Is(err, bankfeed.ErrNotFound) {
		return errors.New("there is no such stream or event: bankfeed serve makes the streams of its settings known")
	}
	return err
}

// replayView is a replay for people and programs.
type replayView struct {
	ID        string     `json:"id"`
	Stream    string     `json:"stream"`
	Queue     string     `json:"queue,omitempty"`
	Status    string     `json:"status"`
	Text      string     `json:"text,omitempty"`
	First     int64      `json:"first"`
	Last      int64      `json:"last"`
	Position  int64      `json:"position"`
	Total     *int64     `json:"total,omitempty"` // absent until counted
	Published int64      `json:"published"`
	Unrouted  int64      `json:"unrouted"`
	Erased    int64      `json:"erased"`
	CreatedAt time.Time  `json:"created_at"`
	EndedAt   *time.Time `json:"ended_at,omitempty"`
}

func replayLine(r app.Replay) replayView {
	v := replayView{
		ID: strconv.FormatInt(r.ID, 10), Stream: r.Stream.Name, Queue: r.Queue, Status: string(r.Status), Text: r.Text,
		First: int64(r.Filter.First), Last: int64(r.Filter.Last), Position: int64(r.Position),
		Published: r.Published, Unrouted: r.Unrouted, Erased: r.Erased, CreatedAt: r.CreatedAt(),
	}
	if r.Total >= 0 {
		v.Total = &r.Total
	}
	if !r.EndedAt.IsZero() {
		v.EndedAt = &r.EndedAt
	}
	return v
}

func (v replayView) total() string {
	if v.Total == nil {
		return "?"
	}
	return strconv.FormatInt(*v.Total, 10)
}

func (v replayView) progress() string {
	s := fmt.Sprintf("%s: %d of %s sent", v.Status, v.Published, v.total())
	if v.Unrouted > 0 {
		s += fmt.Sprintf(", %d unrouted", v.Unrouted)
	}
	s += erased(v.Erased)
	if v.Text != "" {
		s += " (" + v.Text + ")"
	}
	return s
}

func messages(n app.ReplayCount) string {
	s := strconv.FormatInt(n.Total, 10) + " messages"
	if n.Total == 1 {
		s = "1 message"
	}
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(n.Kinds)) {
		parts = append(parts, fmt.Sprintf("%s %d", k, n.Kinds[k]))
	}
	if len(parts) > 0 {
		s += " (" + strings.Join(parts, ", ") + ")"
	}
	return s
}

func erased(n int64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(", %d erased", n)
}
