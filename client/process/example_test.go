package process_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/client"
	"github.com/bankfeed/bankfeed/client/process"
	"github.com/bankfeed/bankfeed/client/processsql"
	"github.com/bankfeed/bankfeed/wire/finapi"
)

func Example() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	store, err := processsql.Open(ctx, os.Getenv("DATABASE")) // a URL of PostgreSQL, or a file
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close()
	key, _ := base64.StdEncoding.DecodeString(os.Getenv("TOKEN_KEY"))
	sealer, err := process.NewSealer(key)
	if err != nil {
		fmt.Println(err)
		return
	}
	service, err := process.New(process.Options{
		API:         &client.DataIntelligence{BaseURL: "https://hub.example/api/v1"},
		Store:       store,
		Sealer:      sealer,
		CallbackURL: "https://app.example/callbacks",
		Webhook:     &client.Webhook{Secrets: []bankfeed.Secret{bankfeed.Secret(os.Getenv("CALLBACK_SECRET"))}},
		Scenarios: map[string]process.Scenario{
			"reports": process.Reports(finapi.ReportBalances, finapi.ReportRisk), // called back at /callbacks/reports
			"checks":  process.Checks(),                                          // called back at /callbacks/checks
		},
		Log: slog.Default(),
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	mux := http.NewServeMux()
	service.Mount(mux, "/callbacks")
	mux.Handle("/processes/", http.StripPrefix("/processes", service.View(func(r *http.Request, p process.Process) bool {
		return p.User == r.Header.Get("X-My-User") // whoever your own sessions say it is
	})))
	mux.HandleFunc("POST /check", func(w http.ResponseWriter, r *http.Request) {
		p, err := service.Start(r.Context(), process.Order{
			Scenario: "checks",
			User:     r.Header.Get("X-My-User"),
			Token:    bankfeed.Secret(r.Header.Get("X-Access-Token")),
			Params:   map[string]string{"amount": r.FormValue("amount")},
		})
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		fmt.Fprintln(w, p.ID, p.Status)
	})
	server := &http.Server{Addr: ":8080", Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.ListenAndServe() }()
	if err := service.Run(ctx); err != nil {
		fmt.Println(err)
	}
}
