package app

import (
	"context"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/access"
	"github.com/bankfeed/bankfeed/internal/api/finapi"
)

// finAPI makes the finAPI dialect.
func (a *App) finAPI(limit *access.Limiter[bankfeed.TenantID]) (*finapi.API, error) {
	s := a.data.Store
	return finapi.New(finapi.Config{
		Version: a.build, Installation: s.Installation(), Log: a.log, Now: a.now, Zone: a.cfg.FinAPI.Zone,
		Access: a.access, Syncer: a.ingest, Reader: s, Remover: a.consent, Importer: a.ingest, Eraser: a.consent, Processes: a.access, Analysis: a.reports, Forms: a.webforms,
		CheckCallback: a.sender.CheckURL, Limit: limit,
	})
}

// sweepProcesses erases the users of processes that have expired.
func (a *App) sweepProcesses(ctx context.Context, now time.Time) (int, error) {
	return a.access.SweepProcesses(ctx, now, a.consent.EraseUser)
}

// sweepDeletions forgets erasures of data that nobody asks for any more.
func (a *App) sweepDeletions(ctx context.Context, now time.Time) (int, error) {
	return inChunks(func(limit int) (int, error) {
		return a.data.Store.SweepDeletions(ctx, now.Add(-a.cfg.Retention), limit)
	})
}
