package analysis

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/finapi"
)

// collector computes a result from transactions, of which it keeps no more than
// it needs.
type collector interface {
	add(e *entry)
	result(h *history) any
}

// collectors makes the collector of each type of report.
var collectors = map[finapi.ReportType]func() collector{
	finapi.ReportBalances:          func() collector { return newBalances() },
	finapi.ReportCashFlow:          func() collector { return newCashFlow() },
	finapi.ReportIncomeAndSpending: func() collector { return newIncomeSpending(true, true) },
	finapi.ReportIncome:            func() collector { return newIncomeSpending(true, false) },
	finapi.ReportSpending:          func() collector { return newIncomeSpending(false, true) },
	finapi.ReportRentAndLiving:     func() collector { return newIncomeSpending(false, true, categoryHousing, categoryLiving) },
	finapi.ReportContracts:         func() collector { return newContracts("") },
	finapi.ReportInsurance:         func() collector { return newContracts(categoryInsurance) },
	finapi.ReportRisk:              func() collector { return newRisk(allRisks...) },
	finapi.ReportChargebacks:       func() collector { return newRisk("chargebacks") },
	finapi.ReportDebtCollection:    func() collector { return newRisk("debtCollection") },
	finapi.ReportGambling:          func() collector { return newRisk("gambling") },
	finapi.ReportSeizure:           func() collector { return newRisk("seizure") },
}

// compute reads the history of a query and makes a result of it.
func (s *Service) compute(ctx context.Context, q query, t finapi.ReportType) (any, error) {
	h, err := s.read(ctx, q)
	if err != nil {
		return nil, err
	}
	if t == finapi.ReportBalances {
		if err := s.catchUp(ctx, q, h); err != nil {
			return nil, err
		}
	}
	c := collectors[t]()
	if err := s.each(ctx, q, h, c.add); err != nil {
		return nil, err
	}
	return c.result(h), nil
}

// maxFaults is after how many faults of the hub a report is given up. A database
// that does not answer is none: then nothing can be counted either.
const maxFaults = 5

const (
	codeInternal    = "INTERNAL_ERROR"
	messageInternal = "The report could not be computed."
)

// Run computes the report of claimed work. What has begun and was cut off, by a
// kill or a node that is gone, begins anew elsewhere: until the commit that
// stores the result, and tells of it, nothing was said.
func (s *Service) Run(ctx context.Context, f bankfeed.Fence) error {
	r, c, err := s.Store.ReportWork(ctx, f.Tenant, ReportID(f.ID))
	if errors.Is(err, bankfeed.ErrNotFound) { // removed, with its case, data source or user
		return s.Store.FinishWork(ctx, f, bankfeed.Release{Done: true})
	}
	if err != nil {
		return err
	}
	if r.Status.Final() {
		return s.Store.FinishWork(ctx, f, bankfeed.Release{Done: true})
	}
	if r.Status == finapi.ReportPending {
		r.Status = finapi.ReportInProgress
		err = s.Store.SaveReport(ctx, r, &bankfeed.Change{Tenant: f.Tenant, User: r.User, Fence: &f})
	}
	if err == nil {
		err = s.run(ctx, f, r, c)
	}
	if errors.Is(err, bankfeed.ErrNotFound) {
		return s.Store.FinishWork(ctx, f, bankfeed.Release{Done: true})
	}
	if err != nil && ctx.Err() == nil && !errors.Is(err, bankfeed.ErrFenced) {
		r.Faults++
		err = errors.Join(err, s.Store.SaveReport(ctx, r, &bankfeed.Change{Tenant: f.Tenant, User: r.User, Fence: &f}))
	}
	return err
}

func (s *Service) run(ctx context.Context, f bankfeed.Fence, r Report, c Case) error {
	if r.Faults >= maxFaults {
		r.Status, r.Code = finapi.ReportFailed, codeInternal
		return s.end(ctx, f, r, c)
	}
	result, err := s.compute(ctx, query{tenant: f.Tenant, user: r.User, sources: c.Sources, days: r.Order.Days}, r.Type)
	if err != nil {
		return err
	}
	if r.Result, err = json.Marshal(result); err != nil {
		return fmt.Errorf("writing the result of a report: %w", err)
	}
	r.Status = finapi.ReportSuccessful
	return s.end(ctx, f, r, c)
}

// end stores the end of a report, and with it the event that tells of it.
func (s *Service) end(ctx context.Context, f bankfeed.Fence, r Report, c Case) error {
	user, err := s.Store.User(ctx, f.Tenant, r.User)
	if err != nil {
		return err
	}
	r.EndedAt = s.now()
	ref := bankfeed.RequestRef{ID: bankfeed.RequestID(r.ID), UUID: s.Installation.UUID(bankfeed.KindReport, f.Tenant, int64(r.ID)), Kind: bankfeed.RequestReport,
		Status: string(r.Status), Handle: r.Order.Handle, Client: r.Order.Client, Code: r.Code,
		Report: &bankfeed.ReportRef{Case: s.Installation.UUID(bankfeed.KindCase, f.Tenant, int64(c.ID)), Category: string(r.Type.Category), Type: r.Type.Type}}
	if r.Code != "" {
		ref.Message = messageInternal
	}
	for _, id := range c.Sources {
		ref.Sources = append(ref.Sources, bankfeed.SourceRef{Connection: id, UUID: s.Installation.UUID(bankfeed.KindConnection, f.Tenant, int64(id)),
			Outcome: bankfeed.Outcome{Status: bankfeed.OutcomeSucceeded}})
	}
	scribe := bankfeed.Scribe{Installation: s.Installation, Tenant: f.Tenant, Build: s.Build, Node: s.Node}
	d := scribe.DraftRequest(bankfeed.EventRequestFinished, r.EndedAt, user, ref)
	if r.Order.CallbackURL != "" {
		d.Callbacks = []bankfeed.CallbackOrder{{URL: r.Order.CallbackURL, ReadyAt: r.CreatedAt.Add(s.NotBefore), Once: r.Order.Once}}
	}
	return s.Store.SaveReport(ctx, r, &bankfeed.Change{Tenant: f.Tenant, User: r.User, Fence: &f, Release: &bankfeed.Release{Done: true}, Events: []bankfeed.Draft{d}})
}

// Message says why a report failed, for people; empty if it did not.
func (r *Report) Message() string {
	if r.Code == "" {
		return ""
	}
	return messageInternal
}
