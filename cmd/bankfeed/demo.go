package main

import (
	"context"
	"log/slog"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/demo"
	"github.com/bankfeed/bankfeed/internal/telemetry"
)

// demoCommand has few settings on purpose: it shows itself the same everywhere,
// whatever database and broker the environment names.
type demoCommand struct {
	Once    bool            `help:"End when everything was shown; exit code 0 only if all of it arrived."`
	Listen  string          `placeholder:"ADDR" help:"Address of the hub. Default: a free port of the loopback interface."`
	DataDir string          `env:"BANKFEED_DATA_DIR" default:"./bankfeed-data" placeholder:"DIR" help:"The demo works in the folder demo in it, which it empties."`
	AMQPURL bankfeed.Secret `name:"amqp-url" placeholder:"URL" help:"amqp:// or amqps:// URL of a RabbitMQ broker: the demo streams to it too, in a virtual host of its own if the user may make one, and shows what a consumer received. BANKFEED_AMQP_URL is ignored."`
	Verbose bool            `short:"v" help:"Show the hub's log."`
}

func (d *demoCommand) Run(ctx context.Context, t *terminal) error {
	level := slog.LevelError
	if d.Verbose {
		level = slog.LevelDebug
	}
	return demo.Run(ctx, demo.Options{DataDir: d.DataDir, Listen: d.Listen, Once: d.Once, AMQPURL: d.AMQPURL, VHost: demo.VHost, Out: t.out, Colour: telemetry.Coloured(t.out),
		Log: telemetry.NewLogger(t.err, "text", level)})
}
