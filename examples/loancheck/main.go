package main

import (
	"context"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/bankfeed/bankfeed"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "loancheck:", err)
		stop()
		os.Exit(1) //nolint:gocritic // everything that was deferred is done
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("loancheck", flag.ContinueOnError)
	showOff := flags.Bool("demo", false, "start a hub with a test bank, play the customer, end")
	hub := flags.String("hub", "http://127.0.0.1:8440", "`URL` of the hub")
	listen := flags.String("listen", "127.0.0.1:8441", "`address` to listen on")
	public := flags.String("public-url", "", "`URL` under which browsers and the hub reach this application; default: http:// and the address")
	database := flags.String("database", "loancheck.db", "`file` of the database")
	if err := flags.Parse(args); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if *showOff {
		return demo(ctx, os.Stdout)
	}
	s := settings{Hub: strings.TrimRight(*hub, "/"), PublicURL: strings.TrimRight(*public, "/"), Database: *database, Log: log,
		ClientID: bankfeed.Secret(os.Getenv("LOANCHECK_CLIENT_ID")), ClientSecret: bankfeed.Secret(os.Getenv("LOANCHECK_CLIENT_SECRET"))}
	if s.ClientID == "" || s.ClientSecret == "" {
		return errors.New("LOANCHECK_CLIENT_ID and LOANCHECK_CLIENT_SECRET must name a client of the hub (bankfeed client create)")
	}
	key, err := base64.StdEncoding.DecodeString(os.Getenv("LOANCHECK_KEY"))
	if err != nil || len(key) != 32 {
		return errors.New("LOANCHECK_KEY must be the base64 of 32 random bytes (openssl rand -base64 32): tokens are sealed with it")
	}
	s.Key = key
	for _, secret := range strings.Fields(os.Getenv("LOANCHECK_CALLBACK_SECRETS")) {
		s.CallbackSecrets = append(s.CallbackSecrets, bankfeed.Secret(secret))
	}
	if len(s.CallbackSecrets) == 0 {
		log.Warn("LOANCHECK_CALLBACK_SECRETS is empty: callbacks are not verified, only taken as hints")
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", *listen)
	if err != nil {
		return err
	}
	if s.PublicURL == "" {
		s.PublicURL = "http://" + l.Addr().String()
	}
	return serve(ctx, l, s)
}

// serve runs the application until ctx ends.
func serve(ctx context.Context, l net.Listener, s settings) error {
	a, err := newApp(ctx, s)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	defer a.close()
	working, stop := context.WithCancel(ctx)
	server := &http.Server{Handler: a.handler(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute,
		BaseContext: func(net.Listener) context.Context { return working }}
	ended := make(chan error, 2)
	go func() { ended <- a.processes.Run(working) }()
	go func() { ended <- server.Serve(l) }()
	s.Log.InfoContext(ctx, "serving", "url", s.PublicURL, "hub", s.Hub)
	running := 2
	select {
	case <-ctx.Done():
		err = nil
	case err = <-ended:
		running--
	}
	stop() // streams end with it
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if e := server.Shutdown(late); err == nil {
		err = e
	}
	for range running {
		if e := <-ended; err == nil && !errors.Is(e, http.ErrServerClosed) {
			err = e
		}
	}
	return err
}
