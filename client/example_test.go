package client_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/client"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

// ledger books transactions; the other messages do not concern it.
type ledger struct{ client.Ignore }

func (ledger) TransactionMessage(_ context.Context, d client.Delivery, m *banqup.TransactionMessage) error {
	// Deduplicate by the transaction's id: a message may come twice, and a
	// transaction that changed comes again.
	fmt.Println(m.Embedded.Account.ID, m.Data.ID, m.Data.Amount, m.Data.Currency, d.SentTime)
	return nil
}

func (ledger) SessionFinishedMessage(_ context.Context, _ client.Delivery, m *banqup.SessionFinishedMessage) error {
	fmt.Println("account", m.Embedded.Account.ID, "is complete up to", m.Data.ID)
	return nil
}

func ExampleStream() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	s, err := client.NewStream(client.StreamOptions{
		URL:        bankfeed.Secret(os.Getenv("AMQP_URL")),
		Queue:      "ledger",
		Messages:   []banqup.Kind{banqup.Transaction, banqup.Session},
		Handler:    ledger{},
		Duplicates: 10_000,
		Acknowledge: &client.Acknowledge{ // optional: the hub then knows what was processed
			Hub:    "https://hub.example",
			Stream: "main",
			Token:  func(context.Context) (string, error) { return os.Getenv("HUB_TOKEN"), nil },
		},
		Log: slog.Default(),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := s.Run(ctx); err != nil {
		fmt.Println(err)
	}
}
