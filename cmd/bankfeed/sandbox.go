package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bankfeed/bankfeed/internal/app"
	"github.com/bankfeed/bankfeed/internal/config"
	"github.com/bankfeed/bankfeed/internal/telemetry"
)

type sandboxCommand struct {
	Listen string `default:"127.0.0.1:8450" placeholder:"ADDR" help:"Address to listen on. The bank checks no certificates and its administration API has no credentials: keep it on a machine for tests."`
	Dir    string `default:"./bankfeed-sandbox" placeholder:"DIR" help:"Where the bank keeps its state; empty for memory only."`
	config.Log
}

func (s *sandboxCommand) Run(ctx context.Context, t *terminal) error {
	c, err := config.Common{Data: config.Data{DataDir: ".", DatabaseConns: "0"}, Log: s.Log}.Check(nil)
	if err != nil {
		return err
	}
	bank, err := app.StartSandbox(ctx, s.Dir, s.Listen, telemetry.NewLogger(t.err, c.LogFormat, c.LogLevel))
	if err != nil {
		return err
	}
	fmt.Fprintln(t.out, "The simulated bank is at", bank.URL)
	err = bank.Wait(ctx)
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return errors.Join(err, bank.Stop(stopping))
}
