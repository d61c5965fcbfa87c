package app

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/access"
	"github.com/bankfeed/bankfeed/internal/connector"
	"github.com/bankfeed/bankfeed/internal/connector/statement"
	"github.com/bankfeed/bankfeed/internal/ingest"
	"github.com/bankfeed/bankfeed/internal/telemetry"
)

const (
	// importsEnded is how many documents that were cut off one node ends at the
	// same time.
	importsEnded = 2
	// importKeysKept is how long the key of an addition is remembered.
	importKeysKept = 7 * 24 * time.Hour
)

// statements reads what clients hand in.
func (a *App) statements() statement.JSON {
	return statement.JSON{Limits: statement.Limits{Bytes: a.cfg.Imports.MaxBytes}}
}

// abandonImport ends a document that its client does not go on with.
func (a *App) abandonImport(ctx context.Context, f bankfeed.Fence) error {
	return a.ingest.Abandon(ctx, f, a.consent.DeleteConnection)
}

func (a *App) sweepImports(ctx context.Context, now time.Time) (int, error) {
	return inChunks(func(limit int) (int, error) { return a.data.Store.SweepImports(ctx, now.Add(-importKeysKept), limit) })
}

// ImportText is an order for an import as an operator types it.
type ImportText struct {
	Tenant string
	// User is a number, a UUID or an external id. NewUser makes a user of that
	// external id where there is none, a sandbox one with Sandbox.
	User             string
	NewUser, Sandbox bool
	DataSource       string // to add to; empty makes a new one
	Key              string
	MaxBytes         int64
}

// Imported is what an import came to.
type Imported struct {
	ingest.Imported
	UUID bankfeed.UUID // of the connection
}

// Import stores a document from a file, as the finAPI dialect does from a
// request. Nobody waits for an answer, so its callback is not called; called
// tells whether it names one.
func (d *Data) Import(ctx context.Context, t ImportText, r io.Reader) (done Imported, called bool, err error) {
	in := d.Store.Installation()
	o := ingest.ImportOrder{Key: t.Key, Callback: func(bankfeed.Secret) (*bankfeed.RequestCallback, error) {
		called = true
		return nil, nil
	}}
	if o.Tenant, err = d.TenantNamed(ctx, t.Tenant); err != nil {
		return done, false, err
	}
	if t.DataSource != "" {
		n, ok := in.ParseID(t.DataSource, bankfeed.KindConnection, o.Tenant)
		if !ok {
			return done, false, bankfeed.InvalidField("data-source", "expected a number, or a UUID of this installation and tenant")
		}
		o.Connection = bankfeed.ConnectionID(n)
	}
	if o.User, o.Sandbox, err = d.userNamed(ctx, o.Tenant, t); err != nil {
		return done, false, err
	}
	e := ingest.New(ingest.Config{Store: d.Store, Banks: noBanks{}, Installation: in, Build: telemetry.BuildID(), Node: telemetry.NewNode(),
		Statements: statement.JSON{Limits: statement.Limits{Bytes: t.MaxBytes}}, Unchanged: (&asked{store: d.Store, now: time.Now}).Unchanged})
	done.Imported, err = e.Import(ctx, o, r)
	done.UUID = in.UUID(bankfeed.KindConnection, o.Tenant, int64(done.Connection))
	return done, called, err
}

// noBanks: a document asks none.
type noBanks struct{}

func (noBanks) Lookup(string) (*connector.Profile, connector.Connector, error) {
	return nil, nil, bankfeed.ErrNotFound
}

// userNamed finds a user as an operator names one, or makes it.
func (d *Data) userNamed(ctx context.Context, tenant bankfeed.TenantID, t ImportText) (bankfeed.UserID, bool, error) {
	if n, ok := d.Store.Installation().ParseID(t.User, bankfeed.KindUser, tenant); ok {
		u, err := d.Store.Access().FindUser(ctx, tenant, access.UserKey{ID: bankfeed.UserID(n)})
		if !errors.Is(err, bankfeed.ErrNotFound) {
			return u.ID, u.Sandbox, err
		}
	}
	u, err := d.Store.Access().FindUser(ctx, tenant, access.UserKey{ExternalID: t.User})
	if !errors.Is(err, bankfeed.ErrNotFound) {
		return u.ID, u.Sandbox, err
	}
	if !t.NewUser {
		return 0, false, errors.New("there is no such user; --new-user makes one")
	}
	made, err := d.Access().CreateUser(ctx, bankfeed.Caller{Client: bankfeed.Client{Tenant: tenant, Sandbox: t.Sandbox}}, access.NewUser{ExternalID: t.User})
	return made.ID, t.Sandbox, err
}
