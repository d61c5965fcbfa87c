package bench

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/connector"
	"github.com/bankfeed/bankfeed/internal/connector/berlingroup"
	"github.com/bankfeed/bankfeed/internal/ingest"
	"github.com/bankfeed/bankfeed/internal/lease"
	"github.com/bankfeed/bankfeed/internal/store"
)

// pageSize is the number of transactions of a bank's page, and so of a commit;
// the baseline commits as many.
const pageSize = 500

// ingestBench measures how fast bank JSON becomes committed state and events.
func ingestBench(ctx context.Context, r *run) error {
	n, patience := 100_000, time.Minute
	if r.Quick {
		n, patience = 20_000, 3*time.Second
	}
	if err := r.each(ctx, func(p place) error { return r.ingestNew(ctx, p, n, patience) }); err != nil || r.Quick {
		return err
	}
	if err := r.each(ctx, func(p place) error { return r.ingestGrowth(ctx, p, 10_000, 1_000_000) }); err != nil {
		return err
	}
	return r.ingestMemory(ctx)
}

// ingestNew: the hub and the baseline take turns, each time into accounts of
// their own, in one database: three rounds, and up to five as far as patience
// goes. What is told is the round whose ratio is the middle one.
func (r *run) ingestNew(ctx context.Context, p place, n int, patience time.Duration) error {
	h, err := openHub(ctx, p)
	if err != nil {
		return err
	}
	defer h.close()
	base, err := openBaseline(ctx, p)
	if err != nil {
		return err
	}
	defer base.close()
	type round struct{ rate, baseline float64 }
	var all []round
	for begin := time.Now(); len(all) < 3 || len(all) < 5 && time.Since(begin) < patience; {
		r.Progress(fmt.Sprintf("ingest new, %s: round %d, %d transactions", p.engine, len(all)+1, n))
		hub, err := h.sync(ctx, n)
		if err != nil {
			return err
		}
		rows, err := base.capture(ctx, h.user)
		if err != nil {
			return err
		}
		raw, err := base.insert(ctx, rows)
		if err != nil {
			return err
		}
		all = append(all, round{float64(n) / hub.Seconds(), float64(n) / raw.Seconds()})
	}
	slices.SortFunc(all, func(a, b round) int { return cmp.Compare(a.rate/a.baseline, b.rate/b.baseline) })
	m := all[len(all)/2]
	return r.emit(Row{Bench: "ingest", Case: "new", Engine: string(p.engine), N: n, Rate: rounded(m.rate), BaselineRate: rounded(m.baseline), Ratio: rounded(m.rate / m.baseline)})
}

// ingestGrowth: what a transaction costs with 1,000,000 stored, beside what it
// costs with 10,000. All of them went through the hub, in one tenant, 10,000 a
// user. The two databases take turns.
func (r *run) ingestGrowth(ctx context.Context, p place, few, many int) (err error) {
	beside, err := r.place(ctx, p.engine)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, beside.drop()) }()
	large, err := openHub(ctx, p)
	if err != nil {
		return err
	}
	defer large.close()
	small, err := openHub(ctx, beside)
	if err != nil {
		return err
	}
	defer small.close()
	if _, err := small.sync(ctx, few); err != nil {
		return err
	}
	for stored := 0; stored < many; stored += few {
		r.Progress(fmt.Sprintf("ingest growth, %s: %d of %d stored", p.engine, stored, many))
		if _, err := large.sync(ctx, few); err != nil {
			return err
		}
	}
	const rounds = 5
	var rates, growth []float64
	for i := range rounds {
		r.Progress(fmt.Sprintf("ingest growth, %s: round %d of %d", p.engine, i+1, rounds))
		before, err := small.sync(ctx, few)
		if err != nil {
			return err
		}
		after, err := large.sync(ctx, few)
		if err != nil {
			return err
		}
		rates = append(rates, float64(few)/after.Seconds())
		growth = append(growth, after.Seconds()/before.Seconds())
	}
	return r.emit(Row{Bench: "ingest", Case: "growth", Engine: string(p.engine), N: many, Rate: rounded(median(rates)), Growth: rounded(median(growth))})
}

// hub is an engine on a database, with a bank that answers from memory.
type hub struct {
	store  *store.Store
	engine *ingest.Engine
	bank   *cannedBank
	tenant bankfeed.TenantID
	user   bankfeed.UserID // of the last sync
	now    time.Time
}

func openHub(ctx context.Context, p place) (_ *hub, err error) {
	s, err := openStore(ctx, p)
	if err != nil {
		return nil, err
	}
	h := &hub{store: s, bank: &cannedBank{}, now: time.Now().UTC()}
	banks, err := connector.NewRegistry(map[string]connector.Connector{"berlin-group": berlingroup.New(&http.Client{Transport: h.bank})},
		connector.Profile{Provider: bankfeed.Provider{ID: "200", Name: "Canned Bank", BIC: "CANNDEFFXXX", Sandbox: true,
			Channels: []bankfeed.ChannelDefinition{{Mode: bankfeed.Redirect}}}, Standard: "berlin-group",
			Endpoints: []connector.Endpoint{{Mode: bankfeed.Redirect, BaseURL: "http://bank.invalid"}}})
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	h.engine = ingest.New(ingest.Config{Store: s, Banks: banks, Installation: s.Installation(), Build: "20260101.1", Node: "0123456789ab"})
	h.tenant, _, err = s.Access().EnsureTenant(ctx, "bench", h.now)
	return h, err
}

func (h *hub) close() { _ = h.store.Close() } // the database is dropped next

// sync links a new user's account of n transactions and measures its first
// session, from the first call of the bank to the last commit.
func (h *hub) sync(ctx context.Context, n int) (time.Duration, error) {
	order, err := h.link(ctx)
	if err != nil {
		return 0, err
	}
	h.bank.prepare(n, bankfeed.DateOf(h.now))
	session, _, err := h.engine.Synchronize(ctx, order)
	if err != nil {
		return 0, err
	}
	claims, err := h.store.ClaimWork(ctx, lease.Request{Kind: bankfeed.WorkSession, Owner: "bench", Now: time.Now(), Until: time.Now().Add(time.Hour), Limit: 1,
		Cap: func(string) int { return 1 }})
	if err != nil {
		return 0, err
	}
	if len(claims) != 1 {
		return 0, errors.New("the session could not be claimed")
	}
	begin := time.Now()
	if err := h.engine.Run(ctx, claims[0].Fence); err != nil {
		return 0, err
	}
	took := time.Since(begin)
	done, err := h.store.Session(ctx, h.tenant, h.user, session.ID)
	if err == nil && done.Status != bankfeed.SessionFinished {
		err = fmt.Errorf("the session ended %s: %+v", done.Status, done.Failure)
	}
	return took, err
}

// link makes a user with a confirmed consent.
func (h *hub) link(ctx context.Context) (o bankfeed.SyncOrder, err error) {
	if h.user, err = newUser(ctx, h.store, h.tenant, h.now); err != nil {
		return o, err
	}
	connection, err := h.store.NextID(ctx, h.tenant, bankfeed.KindConnection)
	if err != nil {
		return o, err
	}
	consent, err := h.store.NextID(ctx, h.tenant, bankfeed.KindConsent)
	if err != nil {
		return o, err
	}
	_, err = h.store.Apply(ctx, &bankfeed.Change{Tenant: h.tenant, User: h.user,
		NewConnection: &bankfeed.Connection{ID: bankfeed.ConnectionID(connection), User: h.user, ProviderID: "200", ProviderName: "Canned Bank", BIC: "CANNDEFFXXX",
			Status: bankfeed.ConnectionNone, CreatedAt: h.now, Channels: []bankfeed.Channel{{Mode: bankfeed.Redirect, Status: bankfeed.ChannelEmpty}}},
		Consents: []bankfeed.Consent{{ID: bankfeed.ConsentID(consent), Mode: bankfeed.Redirect, Status: bankfeed.ConsentConfirmed, CreatedAt: h.now,
			Connection: bankfeed.ConnectionID(connection), User: h.user, FrequencyPerDay: 4, ValidUntil: bankfeed.DateOf(h.now).AddDays(180),
			FreshUntil: h.now.Add(time.Hour), Grant: bankfeed.Grant{ConsentID: "canned"}}}})
	return bankfeed.SyncOrder{Tenant: h.tenant, User: h.user, Connection: bankfeed.ConnectionID(connection), PSU: &bankfeed.PSU{IP: "203.0.113.7"}}, err
}

// cannedBank answers an XS2A client from memory, so that nothing but the hub is
// measured. The pages hold what banks usually send, no two entries alike.
type cannedBank struct {
	pages   [][]byte
	account string
	serial  int
}

func (b *cannedBank) prepare(n int, last bankfeed.Date) {
	b.serial++
	b.account = fmt.Sprintf("DE%020d", b.serial)
	b.pages = nil
	for from := 0; from < n; from += pageSize {
		var w strings.Builder
		fmt.Fprintf(&w, `{"account":{"iban":%q,"currency":"EUR"},"transactions":{"booked":[`, b.account)
		for i := from; i < min(n, from+pageSize); i++ {
			if i > from {
				w.WriteByte(',')
			}
			day := last.AddDays(-i / 500)
			fmt.Fprintf(&w, `{"transactionId":"TX-%d-%08d","endToEndId":"E2E-%d","mandateId":"MND-%d","creditorId":"DE98ZZZ09999999999",`+
				`"bookingDate":%q,"valueDate":%q,"transactionAmount":{"currency":"EUR","amount":"-%d.%02d"},"creditorName":"Händler Nr. %d GmbH",`+
				`"creditorAccount":{"iban":"DE%020d","currency":"EUR"},"remittanceInformationUnstructured":"Rechnung %d, Kundennummer %d",`+
				`"bankTransactionCode":"PMNT-RDDT-ESDD","proprietaryBankTransactionCode":"NDDT+105+931"}`,
				b.serial, i, i, i%40, day, day, i%5000, i%100, i%900, i%900, i, i*7)
		}
		w.WriteString(`],"_links":{"account":{"href":"/v1/accounts/r1"},"first":{"href":"/v1/accounts/r1/transactions?page=0"}`)
		if from+pageSize < n {
			fmt.Fprintf(&w, `,"next":{"href":"/v1/accounts/r1/transactions?page=%d"}`, from/pageSize+1)
		}
		w.WriteString(`}}}`)
		b.pages = append(b.pages, []byte(w.String()))
	}
}

// RoundTrip implements http.RoundTripper.
func (b *cannedBank) RoundTrip(req *http.Request) (*http.Response, error) {
	var body []byte
	switch path := req.URL.Path; {
	case strings.HasSuffix(path, "/transactions"):
		page, _ := strconv.Atoi(req.URL.Query().Get("page"))
		body = b.pages[page]
	case strings.HasSuffix(path, "/balances"):
		body = []byte(`{"balances":[{"balanceAmount":{"currency":"EUR","amount":"1234.56"},"balanceType":"closingBooked"}]}`)
	case strings.HasSuffix(path, "/accounts"):
		body = fmt.Appendf(nil, `{"accounts":[{"resourceId":"r1","iban":%q,"currency":"EUR","cashAccountType":"CACC","ownerName":"Max Mustermann"}]}`, b.account)
	default:
		return nil, fmt.Errorf("the canned bank has no %s", path)
	}
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(body)),
		ContentLength: int64(len(body)), Request: req}, nil
}
