// Package statement reads accounts and transactions that a client hands in, as
// a document in a format of its own, and gives them in the hub's words: the
// JSON of the finAPI dialect (docs/import.md). Nothing of it asks a bank.
//
// A document may hold 100,000 transactions. It is read twice, once to check it
// whole and once to store it, and in between lies encrypted in a file without a
// name: what is held in memory is the accounts and one transaction.
package statement

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"io"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/connector"
)

// Limits bound a document.
type Limits struct {
	Bytes        int64 // default 128 MiB
	Accounts     int   // default 500
	Transactions int   // of all accounts, default 100,000
}

// Defaults.
const (
	DefaultBytes        = 128 << 20
	DefaultAccounts     = 500
	DefaultTransactions = 100_000
)

// Bounds of parts of a document, in bytes of JSON. A value may not be larger
// than it can be held.
const (
	maxRecord  = 32 << 10 // a transaction
	maxAccount = 16 << 10 // an account without its transactions
	maxFaults  = 20
)

// JSON reads documents in JSON. It implements connector.Statements.
type JSON struct {
	Limits
	// Dir is where documents wait that are too large for memory; empty is the
	// system's directory for temporary files.
	Dir string
}

var _ connector.Statements = JSON{}

func (l Limits) filled() Limits {
	return Limits{cmp.Or(l.Bytes, DefaultBytes), cmp.Or(l.Accounts, DefaultAccounts), cmp.Or(l.Transactions, DefaultTransactions)}
}

// document implements connector.Statement.
type document struct {
	limits   Limits
	head     connector.StatementHead
	accounts []bankfeed.Account
	spool    *spool
}

// Read implements connector.Statements.
func (j JSON) Read(ctx context.Context, r io.Reader, check func(account int, t *bankfeed.Transaction) bool) (_ connector.Statement, err error) {
	limits := j.filled()
	sp := newSpool(j.Dir)
	defer func() {
		if err != nil {
			err = errors.Join(err, sp.Close())
		}
	}()
	digest := sha256.New()
	in := &input{ctx: ctx, r: r, left: limits.Bytes, limit: limits.Bytes}
	d := newDecoder(io.TeeReader(in, io.MultiWriter(sp, digest)), limits)
	d.transaction = func(account, i int, t bankfeed.Transaction) error {
		if !check(account, &t) {
			d.fault(transactionPath(account, i)+".id", "was given before in this account")
		}
		return nil
	}
	if err := d.document(); err != nil {
		// What is left is read too: a sender who is not listened to does not
		// listen either, and would never see what is wrong.
		if errors.Is(err, errMany) || bankfeed.ErrorKindOf(err) == bankfeed.Invalid && in.err == nil {
			_, _ = io.Copy(io.Discard, in) // it only makes room for the answer
		}
		if in.err != nil {
			return nil, in.err
		}
		return nil, d.with(err)
	}
	if err := d.with(nil); err != nil {
		return nil, err
	}
	if err := sp.seal(); err != nil {
		return nil, err
	}
	d.head.Digest = digest.Sum(nil)
	return &document{limits, d.head, d.accounts, sp}, nil
}

// Head implements connector.Statement.
func (d *document) Head() connector.StatementHead { return d.head }

// Accounts implements connector.Statement.
func (d *document) Accounts() []bankfeed.Account { return d.accounts }

// Transactions implements connector.Statement.
func (d *document) Transactions(ctx context.Context, f func(account int, t bankfeed.Transaction) error) error {
	r, err := d.spool.reader()
	if err != nil {
		return err
	}
	again := newDecoder(&input{ctx: ctx, r: r, left: d.limits.Bytes, limit: d.limits.Bytes}, d.limits)
	again.known = d.accounts
	again.transaction = func(account, _ int, t bankfeed.Transaction) error { return f(account, t) }
	if err := again.document(); err != nil {
		return err
	}
	if again.faults != nil {
		return errors.New("a document changed after it was checked")
	}
	return nil
}

// Close implements connector.Statement.
func (d *document) Close() error { return d.spool.Close() }

// input reads a body up to its bound and remembers why it ended early.
type input struct {
	ctx         context.Context
	r           io.Reader
	left, limit int64
	err         error
}

func (i *input) Read(b []byte) (n int, err error) {
	if i.err != nil {
		return 0, i.err
	}
	if err := i.ctx.Err(); err != nil {
		i.err = err
		return 0, err
	}
	n, err = i.r.Read(b)
	if i.left -= int64(n); i.left < 0 {
		i.err = bankfeed.Errorf(bankfeed.TooLarge, "the body has more than %d bytes", i.limit)
	} else if err != nil && !errors.Is(err, io.EOF) {
		i.err = &bankfeed.Error{Kind: bankfeed.Invalid, Field: "body", Text: "could not be read to its end", Err: err}
	}
	if i.err != nil {
		err = i.err
	}
	return n, err
}
