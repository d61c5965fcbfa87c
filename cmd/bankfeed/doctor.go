package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/bankfeed/bankfeed/internal/app"
	"github.com/bankfeed/bankfeed/internal/config"
	"github.com/bankfeed/bankfeed/internal/telemetry"
)

type doctorCommand struct {
	config.Settings
	JSON bool `name:"json" help:"Print one JSON object a line."`
}

func (d *doctorCommand) Run(ctx context.Context, t *terminal) error {
	c, err := t.serverConfig(d.Settings)
	var findings []app.Finding
	if err != nil {
		for _, fault := range split(err) {
			findings = append(findings, app.Finding{Level: app.Fail, Subject: "settings", Text: oneLine(fault)})
		}
	} else {
		findings = append(findings, app.Finding{Level: app.OK, Subject: "settings", Text: "complete"})
		findings = append(findings, app.Examine(ctx, c)...)
	}
	colour := map[app.Level]string{app.OK: "\x1b[32m", app.Warn: "\x1b[33m", app.Fail: "\x1b[31m"}
	failed := false
	e := json.NewEncoder(t.out)
	for _, f := range findings {
		failed = failed || f.Level == app.Fail
		if d.JSON {
			if err := e.Encode(f); err != nil {
				return err
			}
			continue
		}
		level := fmt.Sprintf("%-4s", f.Level)
		if telemetry.Coloured(t.out) {
			level = colour[f.Level] + level + "\x1b[0m"
		}
		fmt.Fprintf(t.out, "%s  %-16s %s\n", level, f.Subject, strings.TrimSpace(f.Text))
	}
	if failed {
		return errSilent
	}
	return nil
}
