package main

import (
	"context"
	"fmt"
	"path"

	"github.com/bankfeed/bankfeed/internal/app"
	"github.com/bankfeed/bankfeed/internal/config"
)

type migrateCommand struct {
	config.Common
	Check bool `help:"Change nothing; fail if something is pending."`
}

func (m *migrateCommand) Run(ctx context.Context, t *terminal) error {
	c, err := t.dataConfig(m.Common)
	if err != nil {
		return err
	}
	applied, err := app.Migrate(ctx, c.Storage, m.Check)
	for _, name := range applied {
		fmt.Fprintln(t.out, "applied", path.Base(name))
	}
	if err == nil && len(applied) == 0 {
		fmt.Fprintln(t.out, "the database is up to date")
	}
	return err
}
