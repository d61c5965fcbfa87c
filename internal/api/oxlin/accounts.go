package oxlin

import (
	"cmp"
	"net/http"
	"slices"
	"strings"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/oxlin"
)

var (
	accountType   = param{name: "type", doc: "Only accounts of this type.", schema: oneOf(oxlin.AccountTypes)}
	accountQuery  = param{name: "q", doc: "Only accounts whose name, number or IBAN holds this text, in any case.", schema: text(100)}
	accountStatus = param{name: "status", doc: "Only accounts of this status.", schema: oneOf(oxlin.AccountStatuses)}
	connectionID  = param{name: "connection_id", doc: "Only accounts of this connection.", schema: text(64)}
	accountUsage  = param{name: "usage", doc: "Only accounts of this usage.", schema: oneOf(oxlin.Usages)}
	accountSort   = param{name: "sort", doc: "The order; with a minus from the end. Without it the order in which they were found.",
		schema: oneOf([]string{"id", "-id", "name", "-name", "type", "-type", "creation_date", "-creation_date"})}

	accountParams = []param{userID, connectionID, accountType, accountStatus, accountUsage, accountQuery, accountSort, page, limit}
)

func (a *API) listAccounts(c *call) error {
	user, err := a.user(c)
	if err != nil {
		return err
	}
	match, err := a.accountFilter(c)
	if err != nil {
		return err
	}
	order, err := c.text(accountSort)
	if err != nil {
		return err
	}
	offset, most, err := c.page()
	if err != nil {
		return err
	}
	connections, err := a.connections(c, user)
	if err != nil {
		return err
	}
	filter := bankfeed.AccountFilter{Removed: true}
	if filter.Connection, err = c.knownConnection(connections); err != nil {
		return err
	}
	accounts, err := a.Reader.Accounts(c.ctx(), c.tenant(), user, filter)
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
	return c.write(http.StatusOK, list[:min(most, len(list))])
}

// connections are the user's, by number.
func (a *API) connections(c *call, user bankfeed.UserID) (map[bankfeed.ConnectionID]bankfeed.Connection, error) {
	list, err := a.Reader.Connections(c.ctx(), c.tenant(), user)
	of := make(map[bankfeed.ConnectionID]bankfeed.Connection, len(list))
	for _, conn := range list {
		of[conn.ID] = conn
	}
	return of, err
}

// knownConnection reads the filter; a connection that is not the user's is
// unknown.
func (c *call) knownConnection(connections map[bankfeed.ConnectionID]bankfeed.Connection) (bankfeed.ConnectionID, error) {
	s, err := c.text(connectionID)
	if s == "" || err != nil {
		return 0, err
	}
	n, _ := bankfeed.ParseNumber(s)
	if _, ok := connections[bankfeed.ConnectionID(n)]; !ok {
		return 0, bankfeed.ErrNotFound
	}
	return bankfeed.ConnectionID(n), nil
}

func (a *API) accountFilter(c *call) (func(oxlin.Account) bool, error) {
	var values [4]string
	for i, p := range [...]param{accountType, accountStatus, accountUsage, accountQuery} {
		var err error
		if values[i], err = c.text(p); err != nil {
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

// page reads which part of a list is asked for.
func (c *call) page() (offset, most int, err error) {
	number, err := c.integer(page)
	if err != nil {
		return 0, 0, err
	}
	most, err = c.integer(limit)
	return (number - 1) * most, most, err
}

func (a *API) getAccount(c *call) error {
	user, err := a.user(c)
	if err != nil {
		return err
	}
	id, err := pathID[bankfeed.AccountID](c)
	if err != nil {
		return err
	}
	acc, err := a.Reader.Account(c.ctx(), c.tenant(), user, id)
	if err != nil {
		return err
	}
	conn, err := a.Reader.Connection(c.ctx(), c.tenant(), user, acc.Connection)
	if err != nil {
		return err
	}
	return c.write(http.StatusOK, oxlin.RenderAccount(acc, conn))
}
