package analysis

import (
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/finapi"
)

// ready makes sure that all data sources are the user's and SUCCESSFUL:
// ErrNotFound, ErrNotSuccessful.
func (s *Service) ready(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, sources []bankfeed.ConnectionID) error {
	known, err := s.Store.Connections(ctx, tenant, user)
	if err != nil {
		return err
	}
	for _, id := range sources {
		if !slices.ContainsFunc(known, func(c bankfeed.Connection) bool { return c.ID == id && c.Imported() }) {
			return bankfeed.ErrNotFound
		}
	}
	for _, c := range known {
		if !slices.Contains(sources, c.ID) {
			continue
		}
		if c.Outcome().Status != bankfeed.OutcomeSucceeded {
			return ErrNotSuccessful
		}
		open, err := s.Store.OpenSync(ctx, tenant, c.ID)
		if err != nil {
			return err
		}
		if open {
			return ErrNotSuccessful
		}
	}
	return nil
}

// checkSources bounds a list of data sources and drops repetitions.
func checkSources(sources []bankfeed.ConnectionID) ([]bankfeed.ConnectionID, error) {
	if len(sources) == 0 {
		return nil, bankfeed.InvalidField("dataSourceIds", "names no data source")
	}
	if len(sources) > MaxSources {
		return nil, bankfeed.InvalidField("dataSourceIds", "names more than %d data sources", MaxSources)
	}
	var out []bankfeed.ConnectionID
	for _, id := range sources {
		if !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	return out, nil
}

// CreateCase binds data sources, all of them SUCCESSFUL. A key, if there is one,
// makes one case however often the request is repeated.
func (s *Service) CreateCase(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, name, key string, sources []bankfeed.ConnectionID) (Case, error) {
	sources, err := checkSources(sources)
	if err != nil {
		return Case{}, err
	}
	if utf8.RuneCountInString(name) > MaxName {
		return Case{}, bankfeed.InvalidField("name", "is longer than %d characters", MaxName)
	}
	c := Case{User: user, Name: name, Sources: sources, CreatedAt: s.now()}
	if key != "" {
		h := sha256.Sum256([]byte(key))
		c.Key = h[:]
		if known, err := s.repeated(ctx, tenant, &c); !errors.Is(err, bankfeed.ErrNotFound) {
			return known, err
		}
	}
	if err := s.ready(ctx, tenant, user, sources); err != nil {
		return Case{}, err
	}
	id, err := s.Store.NextID(ctx, tenant, bankfeed.KindCase)
	if err != nil {
		return Case{}, err
	}
	c.ID = CaseID(id)
	err = s.Store.AddCase(ctx, tenant, c)
	if errors.Is(err, bankfeed.ErrConflict) { // the same request, at the same time
		return s.repeated(ctx, tenant, &c)
	}
	return c, err
}

// repeated finds the case that a request with the same key made. A key that comes
// with another request names nothing.
func (s *Service) repeated(ctx context.Context, tenant bankfeed.TenantID, c *Case) (Case, error) {
	known, err := s.Store.CaseByKey(ctx, tenant, c.User, c.Key)
	if err == nil && (known.Name != c.Name || !slices.Equal(known.Sources, c.Sources)) {
		return Case{}, ErrKeyReused
	}
	return known, err
}

// now has the precision of the database.
func (s *Service) now() time.Time { return s.Now().UTC().Truncate(time.Microsecond) }

// CreateReport asks for a report. Its case's data sources must all be
// SUCCESSFUL at that moment.
func (s *Service) CreateReport(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id CaseID, t finapi.ReportType, o Order) (Report, error) {
	c, err := s.Store.Case(ctx, tenant, user, id)
	if err != nil {
		return Report{}, err
	}
	if !slices.Contains(finapi.ReportTypes, t) {
		return Report{}, bankfeed.ErrNotFound
	}
	if o.Days == 0 {
		o.Days = defaultDays
	}
	if o.Days < 1 || o.Days > MaxDays {
		return Report{}, bankfeed.InvalidField("daysOfReport", "must be from 1 to %d", MaxDays)
	}
	if err := s.ready(ctx, tenant, user, c.Sources); err != nil {
		return Report{}, err
	}
	n, err := s.Store.NextID(ctx, tenant, bankfeed.KindReport)
	if err != nil {
		return Report{}, err
	}
	r := Report{ID: ReportID(n), Case: id, User: user, Type: t, Status: finapi.ReportPending, CreatedAt: s.now(), Order: o}
	if err := s.Store.AddReport(ctx, tenant, r); err != nil {
		return Report{}, err
	}
	s.Kick()
	return r, nil
}

// Report reads the report of a type.
func (s *Service) Report(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id CaseID, t finapi.ReportType) (Report, error) {
	list, err := s.Store.Reports(ctx, tenant, user, id, t)
	if err == nil && len(list) == 0 {
		err = bankfeed.ErrNotFound
	}
	if err != nil {
		return Report{}, err
	}
	return list[0], nil
}

// ReportByID reads a report of a case by its number.
func (s *Service) ReportByID(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id CaseID, report ReportID) (Report, error) {
	list, err := s.Store.Reports(ctx, tenant, user, id, finapi.ReportType{})
	if err != nil {
		return Report{}, err
	}
	if i := slices.IndexFunc(list, func(r Report) bool { return r.ID == report }); i >= 0 {
		return list[i], nil
	}
	return Report{}, bankfeed.ErrNotFound
}

// Reports lists the reports of a case.
func (s *Service) Reports(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id CaseID) ([]Report, error) {
	return s.Store.Reports(ctx, tenant, user, id, finapi.ReportType{})
}

// DeleteReport removes the report of a type, so that another can be made.
func (s *Service) DeleteReport(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id CaseID, t finapi.ReportType) error {
	r, err := s.Report(ctx, tenant, user, id, t)
	if err != nil {
		return err
	}
	return s.Store.DeleteReport(ctx, tenant, user, id, r.ID)
}

// Case reads a case.
func (s *Service) Case(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id CaseID) (Case, error) {
	return s.Store.Case(ctx, tenant, user, id)
}

// Cases lists a user's cases, newest first.
func (s *Service) Cases(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, before CaseID, limit int) ([]Case, error) {
	return s.Store.Cases(ctx, tenant, user, before, limit)
}

// DeleteCase removes a case with its reports.
func (s *Service) DeleteCase(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id CaseID) error {
	return s.Store.DeleteCase(ctx, tenant, user, id)
}
