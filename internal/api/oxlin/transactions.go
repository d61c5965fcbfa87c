package oxlin

import (
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/oxlin"
)

const dayDoc = " Seconds since 1970, or YYYY-MM-DD."

var (
	accountID         = param{name: "account_id", doc: "Only transactions of this account.", schema: text(64)}
	ofAccountType     = param{name: "account_type", doc: "Only transactions of accounts of this type.", schema: oneOf(oxlin.AccountTypes)}
	includedStatuses  = param{name: "included_statuses", doc: "Only these, separated by commas.", schema: listOf(oxlin.TransactionStatuses)}
	excludedStatuses  = param{name: "excluded_statuses", doc: "None of these, separated by commas.", schema: listOf(oxlin.TransactionStatuses)}
	transactionOrigin = param{name: "origin", doc: "Only transactions of this origin.", schema: oneOf(oxlin.Origins)}
	minAmount         = param{name: "min_amount", doc: "At least this much; debits are negative.", schema: text(40)}
	maxAmount         = param{name: "max_amount", doc: "At most this much.", schema: text(40)}
	exactAmount       = param{name: "amount", doc: "Exactly this much.", schema: text(40)}
	startDate         = param{name: "start_date", doc: "Listed under this day or a later one." + dayDoc, schema: text(20)}
	endDate           = param{name: "end_date", doc: "Listed under this day or an earlier one." + dayDoc, schema: text(20)}
	startImportDate   = param{name: "start_import_date", doc: "First stored at this time or later." + dayDoc, schema: text(20)}
	categoryID        = param{name: "category_id", doc: "The hub gives no categories, so nothing matches.", schema: text(20)}

	transactionParams = []param{
		userID, accountID, ofAccountType, includedStatuses, excludedStatuses, transactionOrigin, minAmount, maxAmount, exactAmount,
		startDate, endDate, startImportDate, categoryID, page, limit,
	}
)

func (a *API) listTransactions(c *call) error {
	user, err := a.user(c)
	if err != nil {
		return err
	}
	f, some, err := c.transactionFilter()
	if err != nil {
		return err
	}
	if some, err = a.narrowAccounts(c, user, &f, some); err != nil {
		return err
	}
	list := []oxlin.Transaction{}
	if !some {
		return c.write(http.StatusOK, list)
	}
	transactions, err := a.Reader.Transactions(c.ctx(), c.tenant(), user, f)
	if err != nil {
		return err
	}
	for _, t := range transactions {
		list = append(list, oxlin.RenderTransaction(t))
	}
	return c.write(http.StatusOK, list)
}

// transactionFilter reads the filters but those by account. some is false if
// nothing can match: empty parts of a filter would match everything.
func (c *call) transactionFilter() (f bankfeed.TransactionFilter, some bool, err error) {
	if f.Offset, f.Limit, err = c.page(); err != nil {
		return f, false, err
	}
	if f.From, err = c.day(startDate); err != nil {
		return f, false, err
	}
	if f.To, err = c.day(endDate); err != nil {
		return f, false, err
	}
	if f.CreatedAt, err = c.time(startImportDate); err != nil {
		return f, false, err
	}
	if f.Min, f.Max, err = c.amounts(); err != nil {
		return f, false, err
	}
	if f.Statuses, err = c.statuses(); err != nil {
		return f, false, err
	}
	category, err := c.text(categoryID)
	some = category == "" && len(f.Statuses) > 0
	if len(f.Statuses) == len(allStatuses) {
		f.Statuses = nil
	}
	return f, some, err
}

var allStatuses = func() (all []bankfeed.TransactionStatus) {
	for _, s := range oxlin.TransactionStatuses {
		all = append(all, s.HubStatuses()...)
	}
	return all
}()

// statuses are those of the hub that pass all three filters.
func (c *call) statuses() ([]bankfeed.TransactionStatus, error) {
	included, err := c.list(includedStatuses)
	if err != nil {
		return nil, err
	}
	excluded, err := c.list(excludedStatuses)
	if err != nil {
		return nil, err
	}
	origin, err := c.text(transactionOrigin)
	if err != nil {
		return nil, err
	}
	var pass []bankfeed.TransactionStatus
	for _, wire := range oxlin.TransactionStatuses {
		if len(included) > 0 && !slices.Contains(included, string(wire)) || slices.Contains(excluded, string(wire)) {
			continue
		}
		for _, hub := range wire.HubStatuses() {
			if origin == "" || origin == string(oxlin.OriginOf(hub)) {
				pass = append(pass, hub)
			}
		}
	}
	return pass, nil
}

func (c *call) amounts() (least, most *bankfeed.Amount, err error) {
	if least, err = c.amount(minAmount); err != nil {
		return nil, nil, err
	}
	if most, err = c.amount(maxAmount); err != nil {
		return nil, nil, err
	}
	exact, err := c.amount(exactAmount)
	if exact == nil || err != nil {
		return least, most, err
	}
	if least == nil || least.Cmp(*exact) < 0 {
		least = exact
	}
	if most == nil || most.Cmp(*exact) > 0 {
		most = exact
	}
	return least, most, nil
}

func (c *call) amount(p param) (*bankfeed.Amount, error) {
	s, err := c.text(p)
	if s == "" || err != nil {
		return nil, err
	}
	n, err := bankfeed.ParseAmount(s)
	if err != nil {
		return nil, bankfeed.InvalidField(p.name, "must be a decimal number")
	}
	return &n, nil
}

// time reads a moment as the vendor writes it, or a day as people do, which is
// its midnight UTC.
func (c *call) time(p param) (time.Time, error) {
	s, err := c.text(p)
	if s == "" || err != nil {
		return time.Time{}, err
	}
	const year9999 = 253402300799
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && n >= 0 && n <= year9999 {
		return oxlin.Seconds(n).Time(), nil
	}
	if t, err := time.Parse(time.DateOnly, s); err == nil {
		return t, nil
	}
	return time.Time{}, bankfeed.InvalidField(p.name, "must be seconds since 1970 or a date of the form YYYY-MM-DD")
}

func (c *call) day(p param) (bankfeed.Date, error) {
	t, err := c.time(p)
	if t.IsZero() || err != nil {
		return "", err
	}
	return bankfeed.DateOf(t), nil
}

// narrowAccounts adds the filters by account. An account that is not the
// user's is unknown.
func (a *API) narrowAccounts(c *call, user bankfeed.UserID, f *bankfeed.TransactionFilter, some bool) (bool, error) {
	one, err := c.text(accountID)
	if err != nil {
		return false, err
	}
	kind, err := c.text(ofAccountType)
	if err != nil || one == "" && kind == "" {
		return some, err
	}
	accounts, err := a.Reader.Accounts(c.ctx(), c.tenant(), user, bankfeed.AccountFilter{Removed: true})
	if err != nil {
		return false, err
	}
	if one != "" {
		n, _ := bankfeed.ParseNumber(one)
		i := slices.IndexFunc(accounts, func(acc bankfeed.Account) bool { return acc.ID == bankfeed.AccountID(n) })
		if i < 0 {
			return false, bankfeed.ErrNotFound
		}
		accounts = accounts[i : i+1]
	}
	for _, acc := range accounts {
		if kind == "" || kind == string(oxlin.AccountTypeOf(acc.Type)) {
			f.Accounts = append(f.Accounts, acc.ID)
		}
	}
	return some && len(f.Accounts) > 0, nil
}

func (a *API) getTransaction(c *call) error {
	user, err := a.user(c)
	if err != nil {
		return err
	}
	id, err := pathID[bankfeed.TransactionID](c)
	if err != nil {
		return err
	}
	t, err := a.Reader.Transaction(c.ctx(), c.tenant(), user, id)
	if err != nil {
		return err
	}
	return c.write(http.StatusOK, oxlin.RenderTransaction(t))
}
