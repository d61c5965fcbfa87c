package store

import (
	"context"
	"database/sql"
	"errors"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/analysis"
	"github.com/bankfeed/bankfeed/wire/finapi"
)

var _ analysis.Store = (*Store)(nil)

// What is sealed of cases and reports.
const (
	sealCase   = "case"
	sealOrder  = "report order"
	sealResult = "report"
)

type orderDoc struct {
	analysis.Order
	CallbackURL string `json:"callback_url,omitempty"`
}

// whole: none of the case's data sources was removed, or is being removed.
const whole = ` NOT EXISTS (SELECT 1 FROM case_sources x LEFT JOIN connections n ON n.tenant_id = x.tenant_id AND n.id = x.connection_id
	WHERE x.tenant_id = cases.tenant_id AND x.case_id = cases.id AND (n.id IS NULL OR n.status = 'CLOSED'))`

// AddCase implements analysis.Store. Its data sources are locked, so that none is
// removed without the case.
func (s *Store) AddCase(ctx context.Context, tenant bankfeed.TenantID, c analysis.Case) error {
	o, err := s.owner(ctx, tenant, c.User)
	if err != nil {
		return unknownIfErased(err)
	}
	name := o.Seal(nil, []byte(c.Name), ownerAAD(sealCase, tenant, c.User))
	err = s.tx(ctx, func(tx *sql.Tx) error {
		lock := ""
		if s.engine == Postgres {
			lock = " ORDER BY id FOR SHARE"
		}
		there, err := collect(ctx, tx, scanNumber, `SELECT id FROM connections WHERE tenant_id = $1 AND user_id = $2 AND status <> 'CLOSED' AND id IN `+s.inNumbers("$3")+lock,
			tenant, c.User, list(c.Sources))
		if err != nil {
			return err
		}
		if len(there) != len(c.Sources) {
			return bankfeed.ErrNotFound
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO cases (tenant_id, id, user_id, created_at, idem, name) VALUES ($1, $2, $3, $4, $5, $6)`,
			tenant, c.ID, c.User, c.CreatedAt.UnixMicro(), c.Key, name); err != nil {
			return err
		}
		for i, id := range c.Sources {
			if _, err := tx.ExecContext(ctx, `INSERT INTO case_sources (tenant_id, case_id, ord, connection_id) VALUES ($1, $2, $3, $4)`, tenant, c.ID, i, id); err != nil {
				return err
			}
		}
		return nil
	})
	if duplicate(err) {
		return bankfeed.ErrConflict
	}
	return err
}

func scanNumber(scan func(...any) error) (n int64, err error) {
	err = scan(&n)
	return n, err
}

func (s *Store) cases(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, where string, args ...any) ([]analysis.Case, error) {
	o, err := s.owner(ctx, tenant, user)
	if err != nil {
		return nil, unknownIfErased(err)
	}
	cases, err := collect(ctx, s.read, func(scan func(...any) error) (c analysis.Case, err error) {
		var created sql.NullInt64
		var sealed []byte
		if err = scan(&c.ID, &c.User, &created, &c.Key, &sealed); err != nil {
			return c, err
		}
		name, err := o.Open(nil, sealed, ownerAAD(sealCase, tenant, user))
		c.Name, c.CreatedAt = string(name), at(created)
		return c, err
	}, `SELECT id, user_id, created_at, idem, name FROM cases WHERE tenant_id = $1 AND user_id = $2 AND`+whole+where, append([]any{tenant, user}, args...)...)
	if err != nil || len(cases) == 0 {
		return nil, err
	}
	ids, byID := make([]int64, len(cases)), map[analysis.CaseID]*analysis.Case{}
	for i := range cases {
		ids[i], byID[cases[i].ID] = int64(cases[i].ID), &cases[i]
	}
	_, err = collect(ctx, s.read, func(scan func(...any) error) (_ struct{}, err error) {
		var id analysis.CaseID
		var source bankfeed.ConnectionID
		if err = scan(&id, &source); err == nil && byID[id] != nil {
			byID[id].Sources = append(byID[id].Sources, source)
		}
		return struct{}{}, err
	}, `SELECT case_id, connection_id FROM case_sources WHERE tenant_id = $1 AND case_id IN `+s.inNumbers("$2")+` ORDER BY case_id, ord`, tenant, list(ids))
	return cases, err
}

func (s *Store) oneCase(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, where string, arg any) (analysis.Case, error) {
	list, err := s.cases(ctx, tenant, user, where, arg)
	if err == nil && len(list) == 0 {
		err = bankfeed.ErrNotFound
	}
	if err != nil {
		return analysis.Case{}, err
	}
	return list[0], nil
}

// Case implements analysis.Store.
func (s *Store) Case(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id analysis.CaseID) (analysis.Case, error) {
	return s.oneCase(ctx, tenant, user, ` AND id = $3`, id)
}

// CaseByKey implements analysis.Store.
func (s *Store) CaseByKey(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, key []byte) (analysis.Case, error) {
	return s.oneCase(ctx, tenant, user, ` AND idem = $3`, key)
}

// Cases implements analysis.Store.
func (s *Store) Cases(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, before analysis.CaseID, limit int) ([]analysis.Case, error) {
	return s.cases(ctx, tenant, user, ` AND (CAST($3 AS BIGINT) = 0 OR id < $3) ORDER BY id DESC LIMIT $4`, int64(before), limit)
}

// DeleteCase implements analysis.Store.
func (s *Store) DeleteCase(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id analysis.CaseID) error {
	if _, err := s.Case(ctx, tenant, user, id); err != nil {
		return err
	}
	return s.tx(ctx, func(tx *sql.Tx) error {
		r, err := tx.ExecContext(ctx, `DELETE FROM cases WHERE tenant_id = $1 AND user_id = $2 AND id = $3`, tenant, user, id)
		if err := changed(r, err, bankfeed.ErrNotFound); err != nil {
			return err
		}
		for _, query := range []string{`DELETE FROM reports WHERE tenant_id = $1 AND case_id = $2`, `DELETE FROM case_sources WHERE tenant_id = $1 AND case_id = $2`} {
			if _, err := tx.ExecContext(ctx, query, tenant, id); err != nil {
				return err
			}
		}
		return nil
	})
}

// dropCases removes the cases of connections, which are those that a query with
// the parameters $1, the tenant, and $2 selects: what a report says of several
// data sources cannot be taken apart. The cases come first: whoever adds a report
// holds its case, and is seen by the next statement.
func dropCases(ctx context.Context, tx *sql.Tx, connections string, tenant bankfeed.TenantID, arg any) error {
	these := ` IN (SELECT case_id FROM case_sources WHERE tenant_id = $1 AND connection_id IN (` + connections + `))`
	for _, query := range []string{
		`DELETE FROM cases WHERE tenant_id = $1 AND id` + these,
		`DELETE FROM reports WHERE tenant_id = $1 AND case_id` + these,
		`DELETE FROM case_sources WHERE tenant_id = $1 AND case_id` + these,
	} {
		if _, err := tx.ExecContext(ctx, query, tenant, arg); err != nil {
			return err
		}
	}
	return nil
}

func (o owner) sealOrder(r analysis.Report) ([]byte, error) {
	return o.seal(sealOrder, orderDoc{r.Order, string(r.Order.CallbackURL)})
}

// AddReport implements analysis.Store.
func (s *Store) AddReport(ctx context.Context, tenant bankfeed.TenantID, r analysis.Report) error {
	o, err := s.owner(ctx, tenant, r.User)
	if err != nil {
		return unknownIfErased(err)
	}
	order, err := o.sealOrder(r)
	if err != nil {
		return err
	}
	work := []bankfeed.WorkItem{{Tenant: tenant, Kind: bankfeed.WorkReport, ID: int64(r.ID), ReadyAt: r.CreatedAt}}
	err = s.tx(ctx, func(tx *sql.Tx) error {
		lock := ""
		if s.engine == Postgres {
			lock = " FOR SHARE"
		}
		if _, err := one(ctx, tx, scanNumber, `SELECT id FROM cases WHERE tenant_id = $1 AND user_id = $2 AND id = $3`+lock, tenant, r.User, r.Case); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `
			INSERT INTO reports (tenant_id, id, user_id, case_id, category, type, status, code, faults, created_at, order_data)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
			tenant, r.ID, r.User, r.Case, r.Type.Category, r.Type.Type, r.Status, r.Code, r.Faults, r.CreatedAt.UnixMicro(), order); err != nil {
			return err
		}
		return s.putWork(ctx, tx, work)
	})
	if duplicate(err) {
		return analysis.ErrReportExists
	}
	if err == nil {
		s.tellReady(work)
	}
	return err
}

const reportColumns = `id, user_id, case_id, category, type, status, code, faults, created_at, ended_at, order_data, result`

func (o owner) scanReport(scan func(...any) error) (r analysis.Report, err error) {
	var created, ended sql.NullInt64
	var order, result []byte
	if err = scan(&r.ID, &r.User, &r.Case, &r.Type.Category, &r.Type.Type, &r.Status, &r.Code, &r.Faults, &created, &ended, &order, &result); err != nil {
		return r, err
	}
	var d orderDoc
	if err = o.open(sealOrder, order, &d); err != nil {
		return r, err
	}
	r.CreatedAt, r.EndedAt, r.Order = at(created), at(ended), d.Order
	r.Order.CallbackURL = bankfeed.Secret(d.CallbackURL)
	if result != nil {
		r.Result, err = o.Open(nil, result, ownerAAD(sealResult, o.tenant, o.user))
	}
	return r, err
}

// Reports implements analysis.Store.
func (s *Store) Reports(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id analysis.CaseID, t finapi.ReportType) ([]analysis.Report, error) {
	if _, err := s.Case(ctx, tenant, user, id); err != nil {
		return nil, err
	}
	o, err := s.owner(ctx, tenant, user)
	if err != nil {
		return nil, unknownIfErased(err)
	}
	return collect(ctx, s.read, o.scanReport, `
		SELECT `+reportColumns+` FROM reports WHERE tenant_id = $1 AND user_id = $2 AND case_id = $3 AND ($4 = '' OR category = $4 AND type = $5) ORDER BY id`,
		tenant, user, id, string(t.Category), t.Type)
}

// DeleteReport implements analysis.Store.
func (s *Store) DeleteReport(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id analysis.CaseID, report analysis.ReportID) error {
	return s.tx(ctx, func(tx *sql.Tx) error {
		r, err := tx.ExecContext(ctx, `DELETE FROM reports WHERE tenant_id = $1 AND user_id = $2 AND case_id = $3 AND id = $4`, tenant, user, id, report)
		return changed(r, err, bankfeed.ErrNotFound)
	})
}

// ReportWork implements analysis.Store.
func (s *Store) ReportWork(ctx context.Context, tenant bankfeed.TenantID, id analysis.ReportID) (r analysis.Report, c analysis.Case, err error) {
	var user bankfeed.UserID
	err = s.read.QueryRowContext(ctx, `SELECT user_id FROM reports WHERE tenant_id = $1 AND id = $2`, tenant, id).Scan(&user)
	if errors.Is(err, sql.ErrNoRows) {
		return r, c, bankfeed.ErrNotFound
	}
	if err != nil {
		return r, c, err
	}
	o, err := s.owner(ctx, tenant, user)
	if err != nil {
		return r, c, unknownIfErased(err)
	}
	if r, err = one(ctx, s.read, o.scanReport, `SELECT `+reportColumns+` FROM reports WHERE tenant_id = $1 AND id = $2`, tenant, id); err != nil {
		return r, c, err
	}
	c, err = s.Case(ctx, tenant, user, r.Case)
	return r, c, err
}

// SaveReport implements analysis.Store.
func (s *Store) SaveReport(ctx context.Context, r analysis.Report, c *bankfeed.Change) error {
	o, err := s.owner(ctx, c.Tenant, r.User)
	if err != nil {
		return unknownIfErased(err)
	}
	var result []byte
	if r.Result != nil {
		result = o.Seal(nil, r.Result, ownerAAD(sealResult, c.Tenant, r.User))
	}
	_, err = s.apply(ctx, c, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, `UPDATE reports SET status = $3, code = $4, faults = $5, ended_at = $6, result = $7 WHERE tenant_id = $1 AND id = $2`,
			c.Tenant, r.ID, r.Status, r.Code, r.Faults, micros(r.EndedAt), result)
		return changed(res, err, bankfeed.ErrNotFound)
	})
	if errors.Is(err, bankfeed.ErrErased) {
		err = bankfeed.ErrNotFound
	}
	return err
}
