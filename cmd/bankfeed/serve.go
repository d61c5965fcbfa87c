package main

import (
	"context"

	"github.com/bankfeed/bankfeed/internal/app"
	"github.com/bankfeed/bankfeed/internal/config"
	"github.com/bankfeed/bankfeed/internal/telemetry"
)

type serveCommand struct {
	config.Settings
}

func (s *serveCommand) Run(ctx context.Context, t *terminal) error {
	c, err := t.serverConfig(s.Settings)
	if err != nil {
		return err
	}
	a, err := app.New(ctx, c, telemetry.NewLogger(t.err, c.LogFormat, c.LogLevel))
	if err != nil {
		return err
	}
	return a.Run(ctx)
}
