package app

import (
	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/webform"
)

// openWebForms makes web forms and tasks, and lets nodes end them.
func (a *App) openWebForms() {
	s := a.data.Store
	a.webforms = webform.New(webform.Config{Store: s, Links: a.consent, Syncs: a.ingest, Installation: s.Installation(), Build: a.build, Node: a.node,
		Now: a.now, Logger: a.log, Kick: func() { a.kick(bankfeed.WorkRequest) }, PublicURL: a.publicURL, Address: a.clientIP(),
		Lifetime: a.cfg.FinAPI.WebFormLife, Grace: max(1, a.cfg.Callbacks.Delay)}) // 0 would be the default
	for _, kind := range []bankfeed.RequestKind{bankfeed.RequestWebForm, bankfeed.RequestTask} {
		a.enders[kind] = a.webforms.Run
	}
}
