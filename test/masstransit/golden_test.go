package masstransit_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/test/masstransit"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

// Every event that the hub's golden files know, as the hub would send it, is
// read by both versions, and nothing that the page promises is missing.
func TestMessagesOfTheHubAreConsumed(t *testing.T) {
	files, err := filepath.Glob("../../wire/banqup/testdata/*.json")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	bus := banqup.Bus{Host: banqup.Host{
		MachineName: "hub", ProcessName: "bankfeed", ProcessID: 17, Assembly: "bankfeed", AssemblyVersion: "1.0.0.0", FrameworkVersion: "8.0.0", MassTransitVersion: "8.5.8.0", OperatingSystemVersion: "Unix",
	}, Address: "rabbitmq://broker:5672/hub", Source: "rabbitmq://broker:5672/hub/bankfeed?temporary=true"}
	seen := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		var golden struct {
			Event struct {
				Epoch    bankfeed.Epoch     `json:"epoch"`
				Tenant   bankfeed.TenantID  `json:"tenant"`
				Position bankfeed.Position  `json:"position"`
				Type     bankfeed.EventType `json:"type"`
				At       time.Time          `json:"at"`
				Snapshot *bankfeed.Snapshot `json:"snapshot"`
			} `json:"event"`
			Settings banqup.Settings `json:"settings"`
		}
		require.NoError(t, json.Unmarshal(text, &golden), file)
		g, s := golden.Event, golden.Settings
		e := &bankfeed.Event{Epoch: g.Epoch, Tenant: g.Tenant, Position: g.Position, Type: g.Type, At: g.At, Snapshot: g.Snapshot}
		kind, ok := banqup.KindOf(e.Type)
		if !ok {
			continue
		}
		message, err := banqup.AppendMessage(nil, e, s)
		if errors.Is(err, banqup.ErrErased) {
			continue
		}
		require.NoError(t, err, file)
		bus.OmitNulls = s.OmitNulls
		body := bus.AppendEnvelope(nil, kind, banqup.Delivery{MessageID: e.ID(), SentTime: e.At}, message)
		d := &amqp.Delivery{
			Exchange: kind.Exchange(), ContentType: banqup.ContentType, DeliveryMode: amqp.Persistent, MessageId: e.ID().String(), Body: body,
		}
		for _, v := range versions {
			j := masstransit.Judge{Version: v, Doubles: !s.DecimalsAsText}.Message(d)
			require.Equal(t, masstransit.Consumed, j.Verdict, "%s, version %d: %s\n%s", file, v, j.Reason, body)
			if !s.OmitNulls {
				require.Empty(t, j.Missing, file)
			}
		}
		seen[kind.Exchange()] = true
	}
	require.Len(t, seen, len(masstransit.Types), "all five have golden files")
}

// A replay says what it repeats, in the envelope and as a header.
func TestReplayIsRecognised(t *testing.T) {
	id, original := bankfeed.EventID(1_770_000_000_000, 1, 0, 7), bankfeed.EventID(1_760_000_000_000, 1, 0, 7)
	d := banqup.Delivery{MessageID: id, SentTime: time.Unix(1_770_000_000, 0), Original: original, Queue: "client"}
	full := masstransit.AspspCall
	bus := banqup.Bus{Address: "rabbitmq://broker", Source: "rabbitmq://broker/hub"}
	body := bus.AppendEnvelope(nil, banqup.Call, d, []byte(payloads[full]))
	j := masstransit.Judge{Version: masstransit.V8}.Message(&amqp.Delivery{
		RoutingKey: "client", ContentType: banqup.ContentType, DeliveryMode: amqp.Persistent, MessageId: id.String(), Headers: d.Headers(), Body: body,
	})
	require.Equal(t, masstransit.Consumed, j.Verdict, j.Reason)
	require.Equal(t, id, j.ID)
	require.Contains(t, string(body), original.String())
}
