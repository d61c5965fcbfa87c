package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	_ "modernc.org/sqlite" // the driver

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/client"
	"github.com/bankfeed/bankfeed/client/process"
	"github.com/bankfeed/bankfeed/client/processsql"
	"github.com/bankfeed/bankfeed/wire/finapi"
)

//go:embed assets
var assets embed.FS

var pages = template.Must(template.ParseFS(assets, "assets/*.html"))

// settings say where everything is.
type settings struct {
	Hub, PublicURL         string
	ClientID, ClientSecret bankfeed.Secret
	Database               string // a file
	Key                    []byte // 32 bytes, seals tokens
	CallbackSecrets        []bankfeed.Secret
	Log                    *slog.Logger
}

// app is the application.
type app struct {
	settings
	access    *client.Access
	errands   *client.ProcessController
	forms     *client.WebForms
	processes *process.Service
	inquiries inquiries
	db        *sql.DB

	mu      sync.Mutex
	token   client.Token // of the client itself
	tokenAt time.Time
}

const scenario = "loan"

func newApp(ctx context.Context, s settings) (*app, error) {
	sealer, err := process.NewSealer(s.Key)
	if err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", "file:"+s.Database+"?_pragma=journal_mode(WAL)&_pragma=busy_timeout(10000)&_pragma=synchronous(FULL)&_txlock=immediate")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	a := &app{
		settings: s, db: db, inquiries: inquiries{db, sealer},
		access:  &client.Access{BaseURL: s.Hub, ClientID: s.ClientID, ClientSecret: s.ClientSecret},
		errands: &client.ProcessController{BaseURL: s.Hub + "/api/v1"},
		forms:   &client.WebForms{BaseURL: s.Hub},
	}
	store := processsql.New(db, processsql.SQLite)
	if err = errors.Join(store.Migrate(ctx), a.inquiries.migrate(ctx)); err == nil {
		o := process.Options{
			API: &client.DataIntelligence{BaseURL: s.Hub + "/api/v1"}, Store: store, Sealer: sealer,
			CallbackURL: s.PublicURL + "/callbacks",
			Scenarios:   map[string]process.Scenario{scenario: loan()},
			Token:       a.freshToken, Log: s.Log,
		}
		if len(s.CallbackSecrets) > 0 {
			o.Webhook = &client.Webhook{Secrets: s.CallbackSecrets}
		}
		a.processes, err = process.New(o)
	}
	if err != nil {
		db.Close()
		return nil, err
	}
	return a, nil
}

// loan checks the amount, and reports on the accounts.
func loan() process.Scenario {
	return process.ReportsAndChecks(finapi.ReportBalances, finapi.ReportIncomeAndSpending, finapi.ReportRisk)
}

func (a *app) close() { a.db.Close() }

func (a *app) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", a.home)
	mux.HandleFunc("POST /inquiries", a.ask)
	mux.HandleFunc("GET /inquiries/{id}", a.show)
	mux.HandleFunc("GET /inquiries/{id}/back", a.back)
	mux.Handle("GET /assets/", http.FileServerFS(assets))
	mux.Handle("/processes/", http.StripPrefix("/processes", a.processes.View(func(r *http.Request, p process.Process) bool { return p.User == owner(r) })))
	site := headers(http.NewCrossOriginProtection().Handler(mux))

	all := http.NewServeMux() // callbacks come from the hub, not from a browser
	a.processes.Mount(all, "/callbacks")
	all.HandleFunc("POST /callbacks/forms/{id}", a.formEnded)
	all.Handle("/", site)
	return all
}

func headers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

const cookie = "loancheck"

// owner names the browser; empty for one without a cookie, which owns nothing.
func owner(r *http.Request) string {
	c, err := r.Cookie(cookie)
	if err != nil || len(c.Value) != 26 {
		return "nobody"
	}
	sum := sha256.Sum256([]byte(c.Value))
	return hex.EncodeToString(sum[:])
}

func (a *app) home(w http.ResponseWriter, r *http.Request) {
	if owner(r) == "nobody" {
		http.SetCookie(w, &http.Cookie{ //nolint:gosec // Secure wherever the application is reached by https
			Name: cookie, Value: rand.Text(), Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: strings.HasPrefix(a.PublicURL, "https:"), MaxAge: 24 * 3600})
	}
	a.page(w, http.StatusOK, "home.html", map[string]string{"Error": ""})
}

func (a *app) page(w http.ResponseWriter, status int, name string, data any) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	if err := pages.ExecuteTemplate(w, name, data); err != nil {
		a.Log.Error("a page could not be written", "page", name, "err", err)
	}
}

func (a *app) fail(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, errUnknown) {
		a.page(w, http.StatusNotFound, "message.html", "There is no such page.")
		return
	}
	a.Log.ErrorContext(r.Context(), "a request failed", "err", err)
	a.page(w, http.StatusBadGateway, "message.html", "That did not work. Please try again in a minute.")
}

// ask begins an inquiry: a user of the hub for this errand alone, and a web form
// on which the customer connects a bank.
func (a *app) ask(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 4096)
	i := inquiry{ID: uuid.NewString(), Owner: owner(r), Amount: strings.ReplaceAll(strings.TrimSpace(r.PostFormValue("amount")), ",", ".")}
	if i.Owner == "nobody" {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	if process.CheckAmount(map[string]string{"amount": i.Amount}) != nil {
		a.page(w, http.StatusUnprocessableEntity, "home.html", map[string]string{"Error": "Please enter an amount such as 250.00."})
		return
	}
	err := a.begin(r.Context(), &i)
	if err == nil {
		err = a.inquiries.add(r.Context(), i)
	}
	if err != nil {
		a.fail(w, r, err)
		return
	}
	http.Redirect(w, r, "/inquiries/"+i.ID, http.StatusSeeOther)
}

func (a *app) begin(ctx context.Context, i *inquiry) error {
	own, err := a.ownToken(ctx)
	if err != nil {
		return err
	}
	if i.Errand, err = a.errands.Create(ctx, own); err != nil {
		return err
	}
	user, err := a.errands.Exchange(ctx, own, i.Errand, false)
	if err != nil {
		return err
	}
	form, err := a.forms.ConnectBank(ctx, user.AccessToken, client.FormRequest{
		RedirectURL: a.PublicURL + "/inquiries/" + i.ID + "/back",
		Callbacks:   client.FormCallbacks{Finalised: a.PublicURL + "/callbacks/forms/" + i.ID},
	})
	i.Token, i.Form, i.URL = user.AccessToken, form.ID, bankfeed.Secret(form.URL)
	return err
}

// ownToken is the client's token, kept until shortly before it ends.
func (a *app) ownToken(ctx context.Context) (bankfeed.Secret, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.token.AccessToken != "" && (a.token.ExpiresIn == 0 || time.Since(a.tokenAt) < a.token.ExpiresIn-time.Minute) {
		return a.token.AccessToken, nil
	}
	at := time.Now()
	t, err := a.access.ClientToken(ctx)
	if err == nil {
		a.token, a.tokenAt = t, at
	}
	return t.AccessToken, err
}

// freshToken is what the process service asks for when a token has expired: the
// errand's token is exchanged for another one of its user.
func (a *app) freshToken(ctx context.Context, p process.Process) (bankfeed.Secret, error) {
	i, err := a.inquiries.get(ctx, p.ID)
	if err != nil {
		return "", err
	}
	token, err := a.exchange(ctx, i)
	var refused *client.Error
	if err != nil && !errors.As(err, &refused) {
		return "", process.ErrLater // the hub did not answer
	}
	return token, err
}

func (a *app) exchange(ctx context.Context, i inquiry) (bankfeed.Secret, error) {
	own, err := a.ownToken(ctx)
	if err != nil {
		return "", err
	}
	t, err := a.errands.Exchange(ctx, own, i.Errand, false)
	return t.AccessToken, err
}

// proceed starts the process once the customer is done on the web form. It may be
// called any number of times, by the customer's browser and by the hub.
func (a *app) proceed(ctx context.Context, i inquiry) (client.WebForm, error) {
	form, err := a.forms.WebForm(ctx, i.Token, i.Form)
	if client.Expired(err) {
		if i.Token, err = a.exchange(ctx, i); err == nil {
			form, err = a.forms.WebForm(ctx, i.Token, i.Form)
		}
	}
	if err != nil || form.Status != finapi.FormCompleted {
		return form, err
	}
	_, err = a.processes.Start(ctx, process.Order{ID: i.ID, Scenario: scenario, User: i.Owner, Token: i.Token, Params: map[string]string{"amount": i.Amount}})
	return form, err
}

// formEnded is the hub's callback about a web form. It is a hint like any other.
func (a *app) formEnded(w http.ResponseWriter, r *http.Request) {
	i, err := a.inquiries.get(r.Context(), r.PathValue("id"))
	if err == nil {
		if _, err = a.processes.Get(r.Context(), i.ID); errors.Is(err, process.ErrNotFound) {
			_, err = a.proceed(r.Context(), i)
		}
	}
	switch {
	case errors.Is(err, errUnknown):
		http.Error(w, "unknown", http.StatusNotFound)
	case err != nil:
		a.Log.WarnContext(r.Context(), "the callback of a web form could not be handled", "err", err)
		http.Error(w, "try again later", http.StatusServiceUnavailable)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

// own reads the inquiry of a request's browser.
func (a *app) own(r *http.Request) (inquiry, error) {
	i, err := a.inquiries.get(r.Context(), r.PathValue("id"))
	if err == nil && i.Owner != owner(r) {
		err = errUnknown
	}
	return i, err
}

// back is where the web form sends the customer.
func (a *app) back(w http.ResponseWriter, r *http.Request) {
	i, err := a.own(r)
	if err == nil {
		if _, err = a.processes.Get(r.Context(), i.ID); errors.Is(err, process.ErrNotFound) {
			_, err = a.proceed(r.Context(), i)
		}
	}
	if err != nil {
		a.fail(w, r, err)
		return
	}
	http.Redirect(w, r, "/inquiries/"+i.ID, http.StatusSeeOther)
}

// show is the page of an inquiry: the way to the bank, or the process live.
func (a *app) show(w http.ResponseWriter, r *http.Request) {
	i, err := a.own(r)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	data := struct{ ID, Amount, URL, Over string }{ID: i.ID, Amount: i.Amount}
	switch _, err := a.processes.Get(r.Context(), i.ID); {
	case errors.Is(err, process.ErrNotFound):
		form, err := a.proceed(r.Context(), i)
		if err != nil {
			a.fail(w, r, err)
			return
		}
		switch {
		case form.Status == finapi.FormCompleted: // the process has just been started
		case form.Ended():
			data.Over = fmt.Sprintf("Your bank was not connected (%s).", strings.ToLower(strings.ReplaceAll(string(form.Status), "_", " ")))
		default:
			data.URL = string(i.URL)
		}
	case err != nil:
		a.fail(w, r, err)
		return
	}
	a.page(w, http.StatusOK, "inquiry.html", data)
}
