package main

import (
	"bytes"
	"context"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/access"
	"github.com/bankfeed/bankfeed/internal/app"
	"github.com/bankfeed/bankfeed/internal/config"
	"github.com/bankfeed/bankfeed/internal/delivery/stream"
)

// command runs a command on a data directory.
func command(t *testing.T, dir string, args ...string) (output string, code int) {
	t.Helper()
	var out bytes.Buffer
	code = run(t.Context(), append(args, "--data-dir", dir), &out, &out)
	return strings.TrimSpace(out.String()), code
}

// streamed makes a data directory with a stream and six events of an account,
// four of which are messages.
func streamed(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	_, code := command(t, dir, "client", "create")
	require.Zero(t, code)
	d, err := app.OpenData(t.Context(), config.Storage{DataDir: dir})
	require.NoError(t, err)
	defer d.Close()
	clients, err := d.Access().ListClients(t.Context())
	require.NoError(t, err)
	client := clients[0].Client
	user, err := d.Access().CreateUser(t.Context(), bankfeed.Caller{Client: client}, access.NewUser{ExternalID: "customer-1"})
	require.NoError(t, err)
	c := &bankfeed.Change{Tenant: client.Tenant, User: user.ID}
	for _, typ := range []bankfeed.EventType{
		bankfeed.EventSyncStarted, bankfeed.EventAccountCreated, bankfeed.EventTransactionCreated, bankfeed.EventTransactionCreated,
		bankfeed.EventAccountFinished, bankfeed.EventSyncSucceeded,
	} {
		c.Events = append(c.Events, bankfeed.Draft{Type: typ, At: time.Now(), Connection: 5, Account: 4, Snapshot: &bankfeed.Snapshot{Schema: 1, Node: "n"}})
	}
	_, err = d.Store.Apply(t.Context(), c)
	require.NoError(t, err)
	require.NoError(t, d.Store.EnableStream(t.Context(), stream.Key{Tenant: client.Tenant, Name: "main"}, stream.Settings{Name: "main"}, "broker:5672/", 0, time.Now()))
	return dir
}

func TestReplayCommand(t *testing.T) {
	dir := streamed(t)
	out, code := command(t, dir, "replay", "--dry-run")
	require.Zero(t, code, out)
	require.Equal(t, "4 messages (account 1, session 1, transaction 2) would be sent", out)

	out, code = command(t, dir, "replay", "--dry-run", "--json", "--account", "4", "--messages", "transaction,session", "--from", "4", "--to", "4")
	require.Zero(t, code, out)
	require.JSONEq(t, `{"total":1,"messages":{"transaction":1},"erased":0,"first":4,"last":4}`, out)

	out, code = command(t, dir, "replay", "--stream", "main", "--queue", "again", "--all")
	require.Zero(t, code, out)
	id := regexp.MustCompile(`^replay (\d{13}): 4 messages \(account 1, session 1, transaction 2\)$`).FindStringSubmatch(out)
	require.NotNil(t, id, out)

	out, code = command(t, dir, "replay", "list", "--json")
	require.Zero(t, code, out)
	var listed replayView
	require.NoError(t, json.Unmarshal([]byte(out), &listed))
	require.Equal(t, id[1], listed.ID)
	require.Equal(t, "pending", listed.Status)
	require.Equal(t, "again", listed.Queue)

	out, code = command(t, dir, "replay", "cancel", id[1])
	require.Zero(t, code, out)
	require.Equal(t, "cancelled: 0 of 4 sent", out)
	out, code = command(t, dir, "replay", "list")
	require.Zero(t, code, out)
	require.Regexp(t, id[1]+` +main .* cancelled +4 +0 +0 +0`, out)
}

func TestReplayWaitShowsTheProgress(t *testing.T) {
	total := int64(9)
	v := func(status string, published int64, text string) replayView {
		return replayView{ID: "7", Status: status, Total: &total, Published: published, Text: text}
	}
	play := func(ctx context.Context, asJSON bool, steps ...replayView) (string, error) {
		var out bytes.Buffer
		err := (&replayStart{JSON: asJSON}).wait(ctx, &terminal{out: &out, err: &out}, func() (replayView, error) {
			now := steps[0]
			if len(steps) > 1 {
				steps = steps[1:]
			}
			return now, nil
		})
		return out.String(), err
	}
	out, err := play(t.Context(), false, v("pending", 0, ""), v("pending", 0, ""), v("running", 4, "waiting: no broker"), v("done", 9, ""))
	require.NoError(t, err)
	require.Equal(t, "pending: 0 of 9 sent\nrunning: 4 of 9 sent (waiting: no broker)\ndone: 9 of 9 sent\n", out)

	out, err = play(t.Context(), false, v("failed", 4, "the queue \"q\" does not exist"))
	require.ErrorIs(t, err, errSilent)
	require.Equal(t, "failed: 4 of 9 sent (the queue \"q\" does not exist)\n", out)

	out, err = play(t.Context(), true, v("running", 1, ""), v("done", 9, ""))
	require.NoError(t, err)
	require.Contains(t, out, `"status":"done"`)
	require.Equal(t, 1, strings.Count(out, "\n"))

	synctest.Test(t, func(t *testing.T) {
		idle := slices.Repeat([]replayView{v("pending", 0, "")}, 30)
		out, err = play(t.Context(), false, append(idle, v("running", 1, ""), v("done", 9, ""))...)
	})
	require.NoError(t, err)
	require.Regexp(t, "^pending: 0 of 9 sent\nnobody has begun yet: [^\n]*\nrunning: 1 of 9 sent\ndone: 9 of 9 sent\n$", out)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = play(ctx, false, v("running", 1, ""))
	require.EqualError(t, err, "the replay goes on; to end it: bankfeed replay cancel 7")
	require.NotErrorIs(t, err, errSilent)
}
