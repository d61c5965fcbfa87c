package oxlin

import (
	"cmp"
	"net/http"
	"slices"
	"strings"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/api/dialect"
	"github.com/bankfeed/bankfeed/wire/oxlin"
)

var (
	accountType   = dialect.Param{Name: "type", Doc: "Only accounts of this type.", Schema: dialect.OneOf(oxlin.AccountTypes)}
	accountQuery  = dialect.Param{Name: "q", Doc: "Only accounts whose name, number or IBAN holds this text, in any case.", Schema: dialect.Text(100)}
	accountStatus = dialect.Param{Name: "status", Doc: "Only accounts of this status.", Schema: dialect.OneOf(oxlin.AccountStatuses)}
	connectionID  = dialect.Param{Name: "connection_id", Doc: "Only accounts of this connection.", Schema: dialect.Text(64)}
	accountUsage  = dialect.Param{Name: "usage", Doc: "Only accounts of this usage.", Schema: dialect.OneOf(oxlin.Usages)}
	accountSort   = dialect.Param{Name: "sort", Doc: "The order; with a minus from the end. Without it the order in which they were found.",
		Schema: dialect.OneOf([]string{"id", "-id", "name", "-name", "type", "-type", "creation_date", "-creation_date"})}

	accountParams = []dialect.Param{userID, connectionID, accountType, accountStatus, accountUsage, accountQuery, accountSort, page, limit}
)

func (a *API) listAccounts(c *dialect.Call) error {
	user, err := a.user(c)
	if err != nil {
		return err
	}
	match, err := a.accountFilter(c)
	if err != nil {
		return err
	}
	order, err := c.Text(accountSort)
	if err != nil {
		return err
	}
	offset, most, err := readPage(c)
	if err != nil {
		return err
	}
	connections, err := a.connections(c, user)
	if err != nil {
		return err
	}
	filter := bankfeed.AccountFilter{Removed: true}
	if filter.Connection, err = knownConnection(c, connections); err != nil {
		return err
	}
	accounts, err := a.Reader.Accounts(c.Context(), c.Tenant(), user, filter)
	if err != nil {
		return err
	}
	list := []oxlin.Account{}
	sortAccounts(accounts, order)
	for _, acc := range accounts {
		conn, ok := connections[acc.Connection]
		if !ok {
			continue // linked between the two reads
		}
		if w := oxlin.RenderAccount(acc, conn); match(w) {
			list = append(list, w)
		}
	}
	list = list[min(offset, len(list)):]
	return c.Write(http.StatusOK, list[:min(most, len(list))])
}

// connections are the user's, by number.
func (a *API) connections(c *dialect.Call, user bankfeed.UserID) (map[bankfeed.ConnectionID]bankfeed.Connection, error) {
	list, err := a.Reader.Connections(c.Context(), c.Tenant(), user)
	of := make(map[bankfeed.ConnectionID]bankfeed.Connection, len(list))
	for _, conn := range list {
		of[conn.ID] = conn
	}
	return of, err
}

// knownConnection reads the filter; a connection that is not the user's is
// unknown.
func knownConnection(c *dialect.Call, connections map[bankfeed.ConnectionID]bankfeed.Connection) (bankfeed.ConnectionID, error) {
	s, err := c.Text(connectionID)
	if s == "" || err != nil {
		return 0, err
	}
	n, _ := bankfeed.ParseNumber(s)
	if _, ok := connections[bankfeed.ConnectionID(n)]; !ok {
		return 0, bankfeed.ErrNotFound
	}
	return bankfeed.ConnectionID(n), nil
}

func (a *API) accountFilter(c *dialect.Call) (func(oxlin.Account) bool, error) {
	var values [4]string
	for i, p := range [...]dialect.Param{accountType, accountStatus, accountUsage, accountQuery} {
		var err error
		if values[i], err = c.Text(p); err != nil {
			return nil, err
		}
	}
	kind, status, usage, query := values[0], values[1], values[2], strings.ToLower(values[3])
	return func(w oxlin.Account) bool {
		return (kind == "" || kind == string(w.Type)) && (status == "" || status == string(w.Status)) && (usage == "" || usage == string(w.Usage)) &&
			(query == "" || slices.ContainsFunc([]string{w.Name, w.AccountNumber, w.IBAN}, func(s string) bool {
				return strings.Contains(strings.ToLower(s), query)
			}))
	}, nil
}

// sortAccounts keeps the order in which they were found among equals.
func sortAccounts(accounts []bankfeed.Account, order string) {
	field, reversed := strings.CutPrefix(order, "-")
	slices.SortStableFunc(accounts, func(a, b bankfeed.Account) int {
		if reversed {
			a, b = b, a
		}
		switch field {
		case "name":
			return strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name))
		case "type":
			return strings.Compare(string(a.Type), string(b.Type))
		case "creation_date":
			return a.CreatedAt.Compare(b.CreatedAt)
		}
		return cmp.Compare(a.ID, b.ID)
	})
}

// readPage reads which part of a list is asked for.
func readPage(c *dialect.Call) (offset, most int, err error) {
	number, err := c.Integer(page)
	if err != nil {
		return 0, 0, err
	}
	most, err = c.Integer(limit)
	return (number - 1) * most, most, err
}

func (a *API) getAccount(c *dialect.Call) error {
	user, err := a.user(c)
	if err != nil {
		return err
	}
	id, err := pathID[bankfeed.AccountID](c)
	if err != nil {
		return err
	}
	acc, err := a.Reader.Account(c.Context(), c.Tenant(), user, id)
	if err != nil {
		return err
	}
	conn, err := a.Reader.Connection(c.Context(), c.Tenant(), user, acc.Connection)
	if err != nil {
		return err
	}
	return c.Write(http.StatusOK, oxlin.RenderAccount(acc, conn))
}
