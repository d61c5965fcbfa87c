package main

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"

	"github.com/bankfeed/bankfeed/internal/app"
	"github.com/bankfeed/bankfeed/internal/telemetry"
)

type versionCommand struct {
	JSON bool `name:"json" help:"Print JSON."`
}

func (v *versionCommand) Run(ctx context.Context, t *terminal) error {
	sqlite, err := app.SQLiteVersion(ctx)
	if err != nil {
		return err
	}
	if v.JSON {
		return json.NewEncoder(t.out).Encode(map[string]string{"build": telemetry.BuildID(), "revision": telemetry.Revision(), "go": runtime.Version(),
			"platform": runtime.GOOS + "/" + runtime.GOARCH, "sqlite": sqlite, "pgx": app.PGXVersion()})
	}
	revision := ""
	if r := telemetry.Revision(); r != "" {
		revision = " (" + r + ")"
	}
	_, err = fmt.Fprintf(t.out, "bankfeed %s%s\n%s %s/%s\nSQLite %s, PostgreSQL by pgx %s\n", telemetry.BuildID(), revision, runtime.Version(), runtime.GOOS,
		runtime.GOARCH, sqlite, app.PGXVersion())
	return err
}
