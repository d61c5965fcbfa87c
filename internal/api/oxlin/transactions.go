package oxlin

import (
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/api/dialect"
	"github.com/bankfeed/bankfeed/wire/oxlin"
)

const dayDoc = " Seconds since 1970, or YYYY-MM-DD."

var (
	accountID         = dialect.Param{Name: "account_id", Doc: "Only transactions of this account.", Schema: dialect.Text(64)}
	ofAccountType     = dialect.Param{Name: "account_type", Doc: "Only transactions of accounts of this type.", Schema: dialect.OneOf(oxlin.AccountTypes)}
	includedStatuses  = dialect.Param{Name: "included_statuses", Doc: "Only these, separated by commas.", Schema: dialect.ListOf(oxlin.TransactionStatuses)}
	excludedStatuses  = dialect.Param{Name: "excluded_statuses", Doc: "None of these, separated by commas.", Schema: dialect.ListOf(oxlin.TransactionStatuses)}
	transactionOrigin = dialect.Param{Name: "origin", Doc: "Only transactions of this origin.", Schema: dialect.OneOf(oxlin.Origins)}
	minAmount         = dialect.Param{Name: "min_amount", Doc: "At least this much; debits are negative.", Schema: dialect.Text(40)}
	maxAmount         = dialect.Param{Name: "max_amount", Doc: "At most this much.", Schema: dialect.Text(40)}
	exactAmount       = dialect.Param{Name: "amount", Doc: "Exactly this much.", Schema: dialect.Text(40)}
	startDate         = dialect.Param{Name: "start_date", Doc: "Listed under this day or a later one." + dayDoc, Schema: dialect.Text(20)}
	endDate           = dialect.Param{Name: "end_date", Doc: "Listed under this day or an earlier one." + dayDoc, Schema: dialect.Text(20)}
	startImportDate   = dialect.Param{Name: "start_import_date", Doc: "First stored at this time or later." + dayDoc, Schema: dialect.Text(20)}
	categoryID        = dialect.Param{Name: "category_id", Doc: "The hub gives no categories, so nothing matches.", Schema: dialect.Text(20)}

	transactionParams = []dialect.Param{
		userID, accountID, ofAccountType, includedStatuses, excludedStatuses, transactionOrigin, minAmount, maxAmount, exactAmount,
		startDate, endDate, startImportDate, categoryID, page, limit,
	}
)

func (a *API) listTransactions(c *dialect.Call) error {
	user, err := a.user(c)
	if err != nil {
		return err
	}
	f, some, err := transactionFilter(c)
	if err != nil {
		return err
	}
	if some, err = a.narrowAccounts(c, user, &f, some); err != nil {
		return err
	}
	list := []oxlin.Transaction{}
	if !some {
		return c.Write(http.StatusOK, list)
	}
	transactions, err := a.Reader.Transactions(c.Context(), c.Tenant(), user, f)
	if err != nil {
		return err
	}
	for _, t := range transactions {
		list = append(list, oxlin.RenderTransaction(t))
	}
	return c.Write(http.StatusOK, list)
}

// transactionFilter reads the filters but those by account. some is false if
// nothing can match: empty parts of a filter would match everything.
func transactionFilter(c *dialect.Call) (f bankfeed.TransactionFilter, some bool, err error) {
	if f.Offset, f.Limit, err = readPage(c); err != nil {
		return f, false, err
	}
	if f.From, err = readDay(c, startDate); err != nil {
		return f, false, err
	}
	if f.To, err = readDay(c, endDate); err != nil {
		return f, false, err
	}
	if f.CreatedAt, err = readTime(c, startImportDate); err != nil {
		return f, false, err
	}
	if f.Min, f.Max, err = readAmounts(c); err != nil {
		return f, false, err
	}
	if f.Statuses, err = readStatuses(c); err != nil {
		return f, false, err
	}
	category, err := c.Text(categoryID)
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

// readStatuses are those of the hub that pass all three filters.
func readStatuses(c *dialect.Call) ([]bankfeed.TransactionStatus, error) {
	included, err := c.List(includedStatuses)
	if err != nil {
		return nil, err
	}
	excluded, err := c.List(excludedStatuses)
	if err != nil {
		return nil, err
	}
	origin, err := c.Text(transactionOrigin)
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

func readAmounts(c *dialect.Call) (least, most *bankfeed.Amount, err error) {
	if least, err = readAmount(c, minAmount); err != nil {
		return nil, nil, err
	}
	if most, err = readAmount(c, maxAmount); err != nil {
		return nil, nil, err
	}
	exact, err := readAmount(c, exactAmount)
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

func readAmount(c *dialect.Call, p dialect.Param) (*bankfeed.Amount, error) {
	s, err := c.Text(p)
	if s == "" || err != nil {
		return nil, err
	}
	n, err := bankfeed.ParseAmount(s)
	if err != nil {
		return nil, bankfeed.InvalidField(p.Name, "must be a decimal number")
	}
	return &n, nil
}

// readTime reads a moment as the vendor writes it, or a day as people do, which is
// its midnight UTC.
func readTime(c *dialect.Call, p dialect.Param) (time.Time, error) {
	s, err := c.Text(p)
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
	return time.Time{}, bankfeed.InvalidField(p.Name, "must be seconds since 1970 or a date of the form YYYY-MM-DD")
}

func readDay(c *dialect.Call, p dialect.Param) (bankfeed.Date, error) {
	t, err := readTime(c, p)
	if t.IsZero() || err != nil {
		return "", err
	}
	return bankfeed.DateOf(t), nil
}

// narrowAccounts adds the filters by account. An account that is not the
// user's is unknown.
func (a *API) narrowAccounts(c *dialect.Call, user bankfeed.UserID, f *bankfeed.TransactionFilter, some bool) (bool, error) {
	one, err := c.Text(accountID)
	if err != nil {
		return false, err
	}
	kind, err := c.Text(ofAccountType)
	if err != nil || one == "" && kind == "" {
		return some, err
	}
	accounts, err := a.Reader.Accounts(c.Context(), c.Tenant(), user, bankfeed.AccountFilter{Removed: true})
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

func (a *API) getTransaction(c *dialect.Call) error {
	user, err := a.user(c)
	if err != nil {
		return err
	}
	id, err := pathID[bankfeed.TransactionID](c)
	if err != nil {
		return err
	}
	t, err := a.Reader.Transaction(c.Context(), c.Tenant(), user, id)
	if err != nil {
		return err
	}
	return c.Write(http.StatusOK, oxlin.RenderTransaction(t))
}
