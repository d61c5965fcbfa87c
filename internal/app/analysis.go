package app

import (
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/analysis"
	"github.com/bankfeed/bankfeed/internal/config"
)

const (
	// reportsAtOnce is how many reports one node computes at the same time: each
	// keeps a core busy.
	reportsAtOnce = 2
	// answerGrace is how long the answer to an order of a report may take to be
	// written.
	answerGrace = 500 * time.Millisecond
)

// CheckRules reports every fault of the file with rules for labels.
func CheckRules(c config.Config) error {
	_, err := analysis.LoadRules(c.RulesFile)
	return err
}

// openAnalysis makes what computes reports and checks.
func (a *App) openAnalysis() error {
	rules, err := analysis.LoadRules(a.cfg.RulesFile)
	if err != nil {
		return err
	}
	s := a.data.Store
	a.reports = analysis.New(analysis.Config{
		Store: s, Rules: rules, Installation: s.Installation(), Build: a.build, Node: a.node, Zone: a.cfg.FinAPI.Zone, Now: a.now,
		NotBefore: a.cfg.Callbacks.Delay + answerGrace, Kick: func() { a.kick(bankfeed.WorkReport) },
	})
	if a.cfg.Does(config.RoleSync) {
		a.claims(bankfeed.WorkReport, reportsAtOnce, nil, a.reports.Run)
	}
	return nil
}
