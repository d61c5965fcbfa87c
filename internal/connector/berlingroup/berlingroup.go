// Package berlingroup speaks to banks that follow the Berlin Group's
// NextGenPSD2 XS2A framework, version 1.3.x: account information with consent
// by redirect or by embedded SCA. It reads what banks really send, which is
// rarely quite what the standard says, and sends what the standard says.
//
// Statements in camt or MT940 form, OAuth2 SCA, signed requests and encrypted
// passwords are not spoken here; a bank that insists on one of the first two
// gets an error of its own kind (bankfeed.FailFormat).
package berlingroup

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/connector"
)

// Connector fulfils connector.Connector. It is safe for concurrent use.
type Connector struct {
	client *http.Client
	// Now tells the time.
	Now func() time.Time
	// Logger gets a line for each call, with the id under which the call is
	// recorded, and never what was said.
	Logger *slog.Logger
}

var (
	_ connector.Connector = (*Connector)(nil)
	_ connector.Details   = (*Connector)(nil)
)

// New makes a connector that calls banks through client's transport, which
// decides on addresses, certificates and connection pools. The client's
// timeout, cookies and redirects are not used: each exchange is bounded by the
// profile, and no bank is followed anywhere with a PSU's credentials.
func New(client *http.Client) *Connector {
	return &Connector{
		client: &http.Client{
			Transport:     client.Transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		Now:    time.Now,
		Logger: slog.New(slog.DiscardHandler),
	}
}

// Accounts implements connector.Bank.
func (c *Connector) Accounts(ctx context.Context, a connector.Access, cursor string) (page connector.AccountPage, err error) {
	base, err := endpoint(a)
	if err != nil {
		return page, err
	}
	// With balances, of banks that send them along: clients expect that the first
	// they hear of an account is complete.
	from := base.String() + "/v1/accounts?withBalance=true"
	if cursor != "" {
		if from, err = resolve(base, base.String(), cursor); err != nil {
			return page, unreadable(0, err)
		}
	}
	q := dataCall(bankfeed.CallGetAccounts, phaseList, from, a)
	err = c.exchange(ctx, a, base, q, func(ans answer) error {
		if ans.status == http.StatusNoContent {
			return nil
		}
		if err := ans.jsonOnly(false); err != nil {
			return err
		}
		list, next, err := decodeAccounts(ans.body)
		if err != nil {
			return unreadable(ans.status, err)
		}
		for i := range list {
			fetched(list[i].Balances, c.Now())
		}
		page.Accounts = list
		page.Next, page.More, err = following(base, from, next)
		return err
	})
	if err != nil {
		return connector.AccountPage{}, err
	}
	return page, nil
}

// Account implements connector.Details.
func (c *Connector) Account(ctx context.Context, a connector.Access, acc connector.AccountRef) (account connector.Account, err error) {
	base, err := endpoint(a)
	if err != nil {
		return account, err
	}
	q := dataCall(bankfeed.CallGetAccount, phaseAccount, accountURL(base, acc), a)
	err = c.exchange(ctx, a, base, q, func(ans answer) error {
		if err := ans.jsonOnly(false); err != nil {
			return err
		}
		if account, err = decodeAccount(ans.body); err != nil {
			return unreadable(ans.status, err)
		}
		if account.Currency == "" {
			account.Currency = acc.Currency
		}
		fetched(account.Balances, c.Now())
		return nil
	})
	if err != nil {
		return connector.Account{}, err
	}
	return account, nil
}

// Balances implements connector.Bank.
func (c *Connector) Balances(ctx context.Context, a connector.Access, acc connector.AccountRef) (list []bankfeed.Balance, err error) {
	base, err := endpoint(a)
	if err != nil {
		return nil, err
	}
	q := dataCall(bankfeed.CallGetBalances, phaseAccount, accountURL(base, acc)+"/balances", a)
	err = c.exchange(ctx, a, base, q, func(ans answer) error {
		if ans.status == http.StatusNoContent {
			return nil
		}
		if err := ans.jsonOnly(false); err != nil {
			return err
		}
		if list, err = decodeBalances(ans.body, acc.Currency); err != nil {
			return unreadable(ans.status, err)
		}
		fetched(list, c.Now())
		return nil
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// Transactions implements connector.Bank. A cursor is the bank's own link to
// the next page.
func (c *Connector) Transactions(ctx context.Context, a connector.Access, acc connector.AccountRef, q connector.TransactionQuery) (connector.TransactionPage, error) {
	base, err := endpoint(a)
	if err != nil {
		return connector.TransactionPage{}, err
	}
	if q.Cursor != "" {
		from, err := resolve(base, base.String(), q.Cursor)
		if err != nil {
			return connector.TransactionPage{}, unreadable(0, err)
		}
		return c.listing(ctx, a, base, acc, from)
	}
	status := "both"
	if a.Profile.BookedOnly {
		status = "booked"
	}
	page, err := c.listing(ctx, a, base, acc, listingURL(base, a, acc, q.From, status))
	if status == "both" && onlyBooked(err) {
		page, err = c.listing(ctx, a, base, acc, listingURL(base, a, acc, q.From, "booked"))
	}
	return page, err
}

// onlyBooked reports whether a bank refused to list pending items: it must
// support bookingStatus=booked and nothing else.
func onlyBooked(err error) bool {
	var e *connector.Error
	return errors.As(err, &e) && e.Status == http.StatusBadRequest && e.Code == "PARAMETER_NOT_SUPPORTED"
}

func (c *Connector) listing(ctx context.Context, a connector.Access, base *url.URL, acc connector.AccountRef, from string) (page connector.TransactionPage, err error) {
	err = c.exchange(ctx, a, base, dataCall(bankfeed.CallGetTransactions, phaseAccount, from, a), func(ans answer) error {
		if ans.status == http.StatusNoContent {
			return nil
		}
		if err := ans.jsonOnly(true); err != nil {
			return err
		}
		rep, err := decodeReport(ans.body, acc.Currency)
		if err != nil {
			return unreadable(ans.status, err)
		}
		if rep.download && !rep.listed {
			err := errors.New("the bank offers the transactions as a file to download only")
			return &connector.Error{Reason: bankfeed.FailFormat, Status: ans.status, Text: err.Error(), Err: err}
		}
		if !rep.listed && !rep.null {
			return unreadable(ans.status, errors.New("the answer has no list of transactions"))
		}
		fetched(rep.balances, c.Now())
		page.Transactions, page.Balances = rep.transactions, rep.balances
		if page.Next, page.More, err = following(base, from, rep.next); err != nil || rep.first == "" {
			return err
		}
		if first, err := resolve(base, from, rep.first); err == nil && first != from {
			page.First = first // a link that leads elsewhere is no link
		}
		return nil
	})
	if err != nil {
		return connector.TransactionPage{}, err
	}
	if u, err := url.Parse(from); err == nil {
		page.BookedOnly = u.Query().Get("bookingStatus") == "booked"
	}
	page.BookedOnly = page.BookedOnly || a.Profile.BookedOnly
	return page, nil
}

func dataCall(context bankfeed.CallContext, ph phase, from string, a connector.Access) *call {
	return &call{context: context, phase: ph, method: http.MethodGet, url: from, limit: maxDataBody,
		header: http.Header{"Consent-Id": {string(a.Grant.ConsentID)}}}
}

func accountURL(base *url.URL, acc connector.AccountRef) string {
	return base.String() + "/v1/accounts/" + url.PathEscape(acc.ResourceID)
}

func listingURL(base *url.URL, a connector.Access, acc connector.AccountRef, from bankfeed.Date, status string) string {
	v := url.Values{"bookingStatus": {status}}
	if from != "" {
		v.Set("dateFrom", string(from))
	}
	if n := a.Profile.PageSize; n > 0 {
		v.Set("itemsPerPage", strconv.Itoa(n)) // not in the standard, but in wide use
	}
	return accountURL(base, acc) + "/transactions?" + v.Encode()
}

// following turns the link to the next page into a cursor.
func following(base *url.URL, from, next string) (cursor string, more bool, err error) {
	if next == "" {
		return "", false, nil
	}
	cursor, err = resolve(base, from, next)
	if err != nil {
		return "", false, unreadable(http.StatusOK, err)
	}
	return cursor, true, nil
}

func fetched(list []bankfeed.Balance, at time.Time) {
	for i := range list {
		list[i].FetchedAt = at
	}
}
