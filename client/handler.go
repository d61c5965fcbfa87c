package client

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

// Handler processes messages. It is called for one message after the other, in
// the order in which the queue has them. A message counts as processed when its
// method returned nil; until then the broker keeps it, and after a crash it comes
// again, under the same id.
//
// An error makes the stream try the same message again and then move it aside
// (StreamOptions.Retries). A panic is an error too. The context ends when the
// stream was asked to stop and the handler took too long since.
type Handler interface {
	// AccountMessage: an account was found, or read again.
	AccountMessage(ctx context.Context, d Delivery, m *banqup.AccountMessage) error
	// TransactionMessage: a transaction was found, changed, or read again.
	TransactionMessage(ctx context.Context, d Delivery, m *banqup.TransactionMessage) error
	// SessionFinishedMessage: all transactions that a session found on an account
	// were sent before. They have been handled before too, but for those that were
	// moved aside, or that went to another consumer of the same queue.
	SessionFinishedMessage(ctx context.Context, d Delivery, m *banqup.SessionFinishedMessage) error
	// ConsentMessage: a consent was confirmed, stopped working, or was removed.
	ConsentMessage(ctx context.Context, d Delivery, m *banqup.ConsentMessage) error
	// AspspCall: the hub called a bank.
	AspspCall(ctx context.Context, d Delivery, m *banqup.AspspCall) error
}

// Delivery is what is known about a message beside its content.
type Delivery struct {
	// ID is the same for every copy of a message.
	ID bankfeed.UUID
	// Original is the id under which the message was first sent. It differs from
	// ID only in a replay, which somebody asked for.
	Original bankfeed.UUID
	// SentTime is when the hub knew of it.
	SentTime time.Time
	// Redelivered: the broker handed the message out before, perhaps to this
	// consumer; it may have been processed.
	Redelivered bool
}

// Replay says whether the message repeats an earlier one under a new id.
func (d Delivery) Replay() bool { return d.Original != d.ID }

// Ignore is a Handler that does nothing with any message. Embed it to handle
// only some, and name those in StreamOptions.Messages.
type Ignore struct{}

// AccountMessage does nothing.
func (Ignore) AccountMessage(context.Context, Delivery, *banqup.AccountMessage) error { return nil }

// TransactionMessage does nothing.
func (Ignore) TransactionMessage(context.Context, Delivery, *banqup.TransactionMessage) error {
	return nil
}

// SessionFinishedMessage does nothing.
func (Ignore) SessionFinishedMessage(context.Context, Delivery, *banqup.SessionFinishedMessage) error {
	return nil
}

// ConsentMessage does nothing.
func (Ignore) ConsentMessage(context.Context, Delivery, *banqup.ConsentMessage) error { return nil }

// AspspCall does nothing.
func (Ignore) AspspCall(context.Context, Delivery, *banqup.AspspCall) error { return nil }

// panicked is a handler's panic as an error.
type panicked struct {
	value any
	stack string
}

func (p *panicked) Error() string { return fmt.Sprintf("the handler panicked: %v", p.value) }

// handle gives a decoded message to its method.
func handle(ctx context.Context, h Handler, d Delivery, message any) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &panicked{v, string(debug.Stack())}
		}
	}()
	switch m := message.(type) {
	case *banqup.AccountMessage:
		return h.AccountMessage(ctx, d, m)
	case *banqup.TransactionMessage:
		return h.TransactionMessage(ctx, d, m)
	case *banqup.SessionFinishedMessage:
		return h.SessionFinishedMessage(ctx, d, m)
	case *banqup.ConsentMessage:
		return h.ConsentMessage(ctx, d, m)
	case *banqup.AspspCall:
		return h.AspspCall(ctx, d, m)
	default:
		return fmt.Errorf("client: no handler for %T", message)
	}
}
