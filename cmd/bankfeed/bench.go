package main

import (
	"context"
	"fmt"
	"os"

	"github.com/bankfeed/bankfeed/internal/bench"
	"github.com/bankfeed/bankfeed/internal/telemetry"
)

type benchCommand struct {
	Name  string `arg:"" optional:"" enum:"ingest,queue,stream,callback,all" default:"all" help:"What to measure: ingest, queue, stream, callback or all (the default)."`
	JSON  bool   `name:"json" help:"Print one JSON object for each result."`
	Quick bool   `help:"Small numbers, and without the cases that take minutes."`
}

// Help implements kong.HelpProvider.
func (*benchCommand) Help() string {
	return "Measures the hub beside a raw baseline, on SQLite and on PostgreSQL if it finds one, the stream on RabbitMQ if it finds one. Works in databases and virtual hosts of its own, which it drops. " +
		"docs/performance.md says what the figures mean."
}

func (b *benchCommand) Run(ctx context.Context, t *terminal) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	o := bench.Options{Quick: b.Quick, JSON: b.JSON, Out: t.out, Self: self}
	o.Notice = func(text string) { fmt.Fprintln(t.err, text) }
	if telemetry.IsTerminal(t.err) {
		o.Progress = o.Notice
	}
	return bench.Run(ctx, b.Name, o)
}
