package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/client/process"
	"github.com/bankfeed/bankfeed/wire/finapi"
)

// The customer at the test bank.
var customer = map[string]string{"username": "fine", "login": "fine", "password": "sandbox", "code": "123456"}

// site is the application and its hub, both at work.
type site struct {
	hub  *hub
	url  string
	stop func() error
}

// openSite starts both, with everything they keep in one directory.
func openSite(ctx context.Context, binary, dir string, log *slog.Logger, environment ...string) (*site, error) {
	h, err := startHub(ctx, binary, dir, environment...)
	if err != nil {
		return nil, err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		h.stop()
		return nil, err
	}
	s := settings{Hub: h.URL, PublicURL: "http://" + l.Addr().String(), ClientID: h.Client.ID, ClientSecret: h.Client.Secret,
		Database: filepath.Join(dir, "loancheck.db"), Key: make([]byte, 32), CallbackSecrets: []bankfeed.Secret{h.CallbackSecret}, Log: log}
	_, _ = rand.Read(s.Key) // never fails
	working, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- serve(working, l, s) }()
	return &site{hub: h, url: s.PublicURL, stop: func() error {
		cancel()
		err := <-ended
		h.stop()
		return err
	}}, nil
}

// demo runs the guide from the web form to report and check, and prints it.
func demo(ctx context.Context, out io.Writer) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	say := func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) }
	dir, err := os.MkdirTemp("", "loancheck")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	say("1. A hub with a test bank, and this application beside it")
	binary, err := buildHub(ctx, dir)
	if err != nil {
		return err
	}
	s, err := openSite(ctx, binary, dir, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	say("   hub %s (bankfeed serve --sandbox), application %s", s.hub.URL, s.url)

	say("2. A customer asks whether 250.00 € can be paid; the application makes a user for this errand and a web form")
	say("   POST /api/v1/processes, GET /api/v1/processes/{token}, POST /api/webForms/bankConnectionImport")
	b, err := newBrowser(customer, func(address string) { say("   → %s", address) })
	if err != nil {
		return err
	}
	id, err := inquire(ctx, b, s.url, "250.00", func() {
		say("3. The customer's browser goes through the web form and the bank's pages, and comes back")
	})
	if err != nil {
		return err
	}

	say("4. The process, live (GET /processes/events, Server-Sent Events)")
	known := map[string]bool{}
	status, err := watch(ctx, b, s.url, id, func(p process.Process) {
		step := ""
		for _, name := range p.Steps {
			if !known[name] {
				known[name], step = true, "+ "+name
			}
		}
		say("   %-16s %s", p.Status, step)
	})
	if err != nil {
		return err
	}
	p, err := read(ctx, b, s.url, id)
	if err != nil {
		return err
	}
	if status != process.Done {
		return fmt.Errorf("the process ended as %s: %+v", status, p.Reason)
	}
	return tell(p, say)
}

// inquire asks about an amount and connects the bank.
func inquire(ctx context.Context, b *browser, app, amount string, connecting func()) (id string, err error) {
	home, err := b.open(ctx, http.MethodGet, app+"/", nil, nil)
	if err != nil {
		return "", err
	}
	p, err := b.open(ctx, http.MethodPost, app+"/inquiries", url.Values{"amount": {amount}}, home.at)
	if err != nil {
		return "", err
	}
	id = strings.TrimPrefix(p.at.Path, "/inquiries/")
	form := linkOf(p)
	if form == "" {
		return "", errors.New("the page has no way to the web form")
	}
	connecting()
	_, err = b.through(ctx, form, app)
	return id, err
}

// watch follows the process until it has ended.
func watch(ctx context.Context, b *browser, app, id string, seen func(process.Process)) (process.Status, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, app+"/processes/events?process="+id, nil)
	if err != nil {
		return "", err
	}
	resp, err := b.http.Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("the stream of changes answered %s", resp.Status)
	}
	var p process.Process
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		p = process.Process{}
		if err := json.Unmarshal([]byte(data), &p); err != nil {
			return "", err
		}
		seen(p)
	}
	if err := lines.Err(); err != nil {
		return "", err
	}
	if !p.Status.Ended() {
		return "", fmt.Errorf("the stream broke off at %s", p.Status)
	}
	return p.Status, nil
}

func read(ctx context.Context, b *browser, app, id string) (p process.Process, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, app+"/processes/"+id, nil)
	if err != nil {
		return p, err
	}
	resp, err := b.http.Do(r)
	if err != nil {
		return p, err
	}
	defer resp.Body.Close()
	err = json.NewDecoder(resp.Body).Decode(&p)
	return p, err
}

// tell prints the results.
func tell(p process.Process, say func(string, ...any)) error {
	var check finapi.BalancesCheck
	if err := json.Unmarshal(p.Results["check:balancesCheck"], &check); err != nil {
		return fmt.Errorf("the check: %w", err)
	}
	say("5. The check: %s (payable: %v, overdraft needed: %v)", check.Result, check.Payable, check.OverdraftRequired)
	for _, a := range check.Accounts {
		say("   %s %s: %s, of %s", a.Type, a.Currency, a.Result, amount(a.Balance))
	}
	if check.Result == "" || len(check.Accounts) == 0 {
		return errors.New("the check says nothing")
	}
	say("6. The reports")
	var balances finapi.BalancesResult
	if err := result(p, finapi.ReportBalances, &balances); err != nil {
		return err
	}
	for _, a := range balances.Accounts {
		if s := a.Statistics; s != nil {
			say("   %s: %s %s now; from %s to %s in %d days", a.Type, amount(a.Balance), a.Currency, s.Minimum.String(), s.Maximum.String(), s.Days)
		}
	}
	var money finapi.IncomeSpendingResult
	if err := result(p, finapi.ReportIncomeAndSpending, &money); err != nil {
		return err
	}
	for _, c := range money.Currencies {
		if c.Income != nil && c.Spending != nil {
			say("   %s: income %s, spending %s", c.Currency, c.Income.Total.String(), c.Spending.Total.String())
		}
	}
	var risk finapi.RiskResult
	if err := result(p, finapi.ReportRisk, &risk); err != nil {
		return err
	}
	for _, i := range risk.Indicators {
		say("   %s: %d", i.Type, i.Count)
	}
	if len(balances.Accounts) == 0 || len(money.Currencies) == 0 {
		return errors.New("the reports are empty")
	}
	say("Done.")
	return nil
}

func amount(d *finapi.Decimal) string {
	if d == nil {
		return "unknown"
	}
	return d.String()
}

// result reads the result of a report.
func result(p process.Process, t finapi.ReportType, out any) error {
	var report finapi.Report
	if err := json.Unmarshal(p.Results["report:"+t.String()], &report); err != nil {
		return fmt.Errorf("the report %s: %w", t, err)
	}
	return json.Unmarshal(report.Result, out)
}
