package ingest

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/connector"
	"github.com/bankfeed/bankfeed/internal/ingest/identity"
)

// ImportStore is what imports need to remember.
type ImportStore interface {
	// Import finds what a user handed in under a key; ImportOf the first document
	// with a digest that made a connection.
	Import(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, key []byte) (bankfeed.Import, error)
	ImportOf(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, digest []byte) (bankfeed.Import, error)
	// Unfinished reports whether the document that makes a connection is not
	// stored whole yet.
	Unfinished(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, connection bankfeed.ConnectionID) (bool, error)
	// ClaimImport takes up the work of storing a document. It is ErrBusy while
	// somebody else does it, ErrNotFound when it is done.
	ClaimImport(ctx context.Context, tenant bankfeed.TenantID, session bankfeed.SessionID, owner string, now, until time.Time) (bankfeed.Fence, error)
	RenewImport(ctx context.Context, f bankfeed.Fence, owner string, until time.Time) error
	// EachKnown gives the stored transactions of an account, of some days or
	// all, in any order. f must not use the store.
	EachKnown(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, account bankfeed.AccountID, first, last bankfeed.Date, whole bool, f func(*identity.Known)) error
}

// ImportOrder asks to store a document of accounts and transactions.
type ImportOrder struct {
	Tenant  bankfeed.TenantID
	User    bankfeed.UserID
	Client  string
	Sandbox bool
	// Connection is the one to add to, which an earlier document made; 0 makes a
	// new one.
	Connection bankfeed.ConnectionID
	// Key is what the client calls the request, so that it may repeat it. Without
	// one, an equal document that made a connection is the same request.
	Key string
	// Callback checks the URL that the document names, before anything is
	// stored. Nil: such a document is refused.
	Callback func(bankfeed.Secret) (*bankfeed.RequestCallback, error)
}

// Imported is what came of it. Everything is stored.
type Imported struct {
	Connection bankfeed.ConnectionID
	// Request is what the callback tells of; nil when the request was only
	// repeated.
	Request  *bankfeed.Request
	Repeated bool // nothing was to be done
	// Created, Updated and Unchanged count transactions.
	Created, Updated, Unchanged int
}

// Errors of an import.
var (
	// ErrKeyReused: the key names another document.
	ErrKeyReused = &bankfeed.Error{Kind: bankfeed.Conflict, Field: "Idempotency-Key", Text: "was used for another body"}
	// ErrBankConnection: a bank feeds the connection, nobody else.
	ErrBankConnection = bankfeed.Errorf(bankfeed.Conflict, "the data source is read from a bank; nothing can be added to it")
)

const (
	// importWait is how long a request waits for an equal one that is being
	// stored; then it is ErrBusy.
	importWait = 10 * time.Second
	importLook = 200 * time.Millisecond
	// importPatience is how long a document that was cut off may wait for its
	// client to hand it in again.
	importPatience = 15 * time.Minute
	// How long a claim lasts, and how often it is renewed: as of all work.
	importLease, importBeat = 20 * time.Second, 5 * time.Second
	// importBytes bounds the raw records of one commit, beside CommitRows.
	importBytes = 1 << 20
	// accountsAtOnce is how many accounts of a document one commit stores.
	importAccounts = 50
)

// Import stores a document: all of it, or, when anything is wrong with it,
// nothing. It goes the way of a bank's data: a session, the same identities, the
// same events, in portions. When it returns without an error everything is
// stored. A hub that dies on the way leaves a part; the client, which got no
// answer, hands the document in again, and then it is completed.
func (e *Engine) Import(ctx context.Context, o ImportOrder, body io.Reader) (Imported, error) {
	select {
	case e.incoming <- struct{}{}:
		defer func() { <-e.incoming }()
	default:
		return Imported{}, &bankfeed.Error{Kind: bankfeed.RateLimited, Text: "too many imports at the same time", RetryAfter: time.Second}
	}
	var documents []*identity.Document
	s, err := e.Statements.Read(ctx, body, func(account int, t *bankfeed.Transaction) bool {
		for account >= len(documents) {
			documents = append(documents, identity.NewDocument())
		}
		return documents[account].Note(t)
	})
	if err != nil {
		return Imported{}, err
	}
	select {
	case e.importing <- struct{}{}:
		defer func() { <-e.importing }()
	case <-ctx.Done():
		return Imported{}, errors.Join(ctx.Err(), s.Close())
	}
	i := &importing{Engine: e, o: o, doc: s, documents: documents, owner: e.Node + "/" + rand.Text()[:8]}
	done, err := i.store(ctx)
	if err := errors.Join(err, s.Close()); err != nil {
		return Imported{}, err
	}
	return done, nil
}

// importing is one request on its way.
type importing struct {
	*Engine
	o         ImportOrder
	doc       connector.Statement
	documents []*identity.Document // by account; shorter where the last have no transactions
	owner     string
	callback  *bankfeed.RequestCallback
	record    *bankfeed.Import // nil for an addition without a key
	resumed   bool             // the session was opened before
	done      Imported
}

func (i *importing) store(ctx context.Context) (Imported, error) {
	if url := i.doc.Head().CallbackURL; url != "" {
		if i.o.Callback == nil {
			return Imported{}, bankfeed.InvalidField("callbackUrl", "cannot be given here")
		}
		var err error
		if i.callback, err = i.o.Callback(url); err != nil {
			return Imported{}, err
		}
	}
	deadline := i.now().Add(importWait)
	for {
		session, err := i.begin(ctx)
		if err == nil && i.done.Repeated {
			return i.done, nil
		}
		var f bankfeed.Fence
		if err == nil {
			now := i.now()
			f, err = i.Store.ClaimImport(ctx, i.o.Tenant, session, i.owner, now, now.Add(importLease))
		}
		switch {
		case err == nil:
			return i.run(ctx, f)
		case errors.Is(err, bankfeed.ErrConflict), errors.Is(err, bankfeed.ErrNotFound) && session != 0:
			continue // somebody was faster, or has just ended
		case !errors.Is(err, bankfeed.ErrBusy) || i.now().After(deadline):
			return Imported{}, err
		}
		select {
		case <-ctx.Done():
			return Imported{}, ctx.Err()
		case <-time.After(importLook):
		}
	}
}

// key names the request, for its user.
func (i *importing) key() []byte {
	b := binary.BigEndian.AppendUint64([]byte("import"), uint64(i.o.Connection))
	if i.o.Key != "" {
		b = append(append(b, 'k'), i.o.Key...)
	} else {
		b = append(append(b, 'd'), i.doc.Head().Digest...)
	}
	h := sha256.Sum256(b)
	return h[:]
}

// find looks for the request, as it came before. An addition without a key is
// none that anybody could recognise: it changes nothing when it comes again, and
// may be meant, after another one in between.
func (i *importing) find(ctx context.Context) (known *bankfeed.Import, err error) {
	if i.o.Connection != 0 && i.o.Key == "" {
		return nil, nil
	}
	fresh := &bankfeed.Import{Key: i.key(), Digest: i.doc.Head().Digest, Target: i.o.Connection, User: i.o.User}
	found, err := i.Store.Import(ctx, i.o.Tenant, i.o.User, fresh.Key)
	if errors.Is(err, bankfeed.ErrNotFound) && i.o.Key == "" {
		found, err = i.Store.ImportOf(ctx, i.o.Tenant, i.o.User, fresh.Digest)
	}
	switch {
	case errors.Is(err, bankfeed.ErrNotFound):
		return fresh, nil
	case err != nil:
		return nil, err
	case !slices.Equal(found.Digest, fresh.Digest):
		return nil, ErrKeyReused
	}
	return &found, nil
}

// begin finds the session in which the document is to be stored, or opens it.
// done.Repeated is set when it was stored before.
func (i *importing) begin(ctx context.Context) (bankfeed.SessionID, error) {
	var err error
	if i.record, err = i.find(ctx); err != nil {
		return 0, err
	}
	target := i.o.Connection
	if i.record != nil && i.record.Connection != 0 {
		target = i.record.Connection
	}
	if target == 0 {
		return i.create(ctx)
	}
	st, err := i.Store.ConnectionState(ctx, i.o.Tenant, i.o.User, target)
	if err == nil && st.Connection.Status == bankfeed.ConnectionClosed {
		err = bankfeed.ErrNotFound
	}
	switch {
	case errors.Is(err, bankfeed.ErrNotFound) && i.o.Connection == 0:
		return i.create(ctx) // what it made before was removed
	case err != nil:
		return 0, err
	case len(st.Connection.Channels) > 0:
		return 0, ErrBankConnection
	case i.record != nil && i.record.EndedAt != nil:
		i.done = Imported{Connection: target, Repeated: true}
		return 0, nil
	case st.Session != nil:
		i.resumed = true
		return st.Session.ID, nil
	}
	i.resumed = false
	return i.open(ctx, &st, &bankfeed.Change{})
}

// create makes the connection.
func (i *importing) create(ctx context.Context) (bankfeed.SessionID, error) {
	u, err := i.Store.User(ctx, i.o.Tenant, i.o.User)
	if err != nil {
		return 0, err
	}
	id, err := i.Store.NextIDs(ctx, i.o.Tenant, bankfeed.KindConnection, 1)
	if err != nil {
		return 0, err
	}
	st := bankfeed.ConnectionState{User: u, Connection: bankfeed.Connection{ID: bankfeed.ConnectionID(id), User: u.ID, Sandbox: i.o.Sandbox,
		ProviderID: bankfeed.ImportProvider, ProviderName: importName}}
	return i.open(ctx, &st, &bankfeed.Change{NewConnection: &st.Connection})
}

// importName is what stands where a document names neither bank nor itself.
const importName = "Import"

// open opens a session for the document.
func (i *importing) open(ctx context.Context, st *bankfeed.ConnectionState, c *bankfeed.Change) (bankfeed.SessionID, error) {
	id, err := i.Store.NextIDs(ctx, i.o.Tenant, bankfeed.KindSession, 1)
	if err != nil {
		return 0, err
	}
	now, head := i.now(), i.doc.Head()
	conn := &st.Connection
	conn.ProviderName, conn.BIC = cmp.Or(head.BankName, head.Name, conn.ProviderName), cmp.Or(head.BIC, conn.BIC)
	conn.Status = bankfeed.ConnectionRunning
	st.Session = &bankfeed.Session{ID: bankfeed.SessionID(id), ExternalID: head.Handle, Status: bankfeed.SessionInitiated, Stage: bankfeed.StageAccounts,
		Type: bankfeed.SessionAll, Initiator: bankfeed.ByUser, CreatedAt: now, User: i.o.User, Connection: conn.ID}
	s := i.scribe(i.o.Tenant)
	c.Tenant, c.User, c.NewSession = i.o.Tenant, i.o.User, st.Session
	if c.NewConnection != nil {
		conn.CreatedAt = now
		c.Events = append(c.Events, s.Draft(bankfeed.EventConnectionCreated, now, st, nil))
	} else {
		c.Connection = conn
	}
	c.Events = append(c.Events, s.Draft(bankfeed.EventSyncStarted, now, st, nil))
	c.Ready = []bankfeed.WorkItem{{Tenant: i.o.Tenant, Kind: bankfeed.WorkImport, ID: id, Group: bankfeed.ImportProvider, ReadyAt: now.Add(importPatience)}}
	if i.record != nil {
		r := *i.record
		r.Connection, r.Session, r.CreatedAt, r.EndedAt = conn.ID, st.Session.ID, now, nil
		c.Import = &r
	}
	_, err = i.Store.Apply(ctx, c)
	if errors.Is(err, bankfeed.ErrBusy) {
		err = bankfeed.ErrConflict // another document is quicker: look again
	}
	return st.Session.ID, err
}

// run stores the document in a claimed session.
func (i *importing) run(ctx context.Context, f bankfeed.Fence) (Imported, error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	beating := make(chan struct{})
	go func() { defer close(beating); i.beat(ctx, f, stop) }()
	defer func() { stop(nil); <-beating }()

	st, err := i.Store.SessionState(ctx, f.Tenant, bankfeed.SessionID(f.ID))
	if err != nil {
		return Imported{}, err
	}
	r := &run{Engine: i.Engine, fence: f, scribe: i.scribe(f.Tenant), st: st, unchanged: i.Unchanged(f.Tenant), toldOf: map[bankfeed.AccountID]bool{}}
	w := &importRun{channelRun: &channelRun{run: r}, i: i}
	err = guard(func() error { return w.all(ctx) })
	if err == nil {
		return i.done, nil
	}
	if cause := context.Cause(ctx); cause != nil && ctx.Err() != nil {
		err = cause
	}
	// Whoever hands it in again need not wait for the lease to end.
	w.giveBack(context.WithoutCancel(ctx))
	if errors.Is(err, bankfeed.ErrFenced) {
		err = bankfeed.ErrConflict
	}
	return Imported{}, err
}

// beat keeps the claim while the document is being stored.
func (i *importing) beat(ctx context.Context, f bankfeed.Fence, stop context.CancelCauseFunc) {
	t := time.NewTicker(importBeat)
	defer t.Stop()
	for until := i.now().Add(importLease); ; {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		next := i.now().Add(importLease)
		switch err := i.Store.RenewImport(ctx, f, i.owner, next); {
		case err == nil:
			until = next
		case errors.Is(err, bankfeed.ErrFenced) || i.now().After(until):
			stop(bankfeed.ErrFenced)
			return
		}
	}
}
