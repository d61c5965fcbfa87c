package connector

import (
	"context"
	"io"

	"github.com/bankfeed/bankfeed"
)

// Statements read documents that are handed in instead of being asked for.
type Statements interface {
	// Read reads a document to its end and checks it whole. What is wrong with
	// it comes back as bankfeed.Faults, several at once. Every transaction that
	// is right by itself is given to check, which reports false for an id that
	// the account had already; the transaction is only lent.
	Read(ctx context.Context, r io.Reader, check func(account int, t *bankfeed.Transaction) bool) (Statement, error)
}

// Statement is a document that was found valid and can be read again. Its
// transactions are not held in memory.
type Statement interface {
	Head() StatementHead
	// Accounts in the order of the document, each with its balances.
	Accounts() []bankfeed.Account
	// Transactions reads all of them again, account by account, in the order of
	// the document. ID, Account and CreatedAt stay empty.
	Transactions(ctx context.Context, f func(account int, t bankfeed.Transaction) error) error
	// Close gives back what the document took.
	Close() error
}

// StatementHead is what a document says beside its accounts. Members that a
// format does not know are empty.
type StatementHead struct {
	Name     string // of the source of data
	BankName string
	BIC      string
	// CallbackURL is told when the document is stored, with the Handle.
	CallbackURL bankfeed.Secret
	Handle      string
	// Digest is of the document, byte for byte (SHA-256).
	Digest []byte
}
