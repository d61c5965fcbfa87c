package oxlin

import (
	"net/http"
	"strconv"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/access"
	"github.com/bankfeed/bankfeed/internal/api/dialect"
	"github.com/bankfeed/bankfeed/wire/oxlin"
)

type newUser struct {
	Email           string                   `json:"email" minLength:"3" maxLength:"320" doc:"The user's login."`
	Password        bankfeed.Secret          `json:"password" minLength:"6" maxLength:"512"`
	ExternalID      string                   `json:"external_id,omitempty" maxLength:"255" doc:"Your own id of the user."`
	BusinessContext bankfeed.BusinessContext `json:"business_context,omitempty" enum:"individual,business" doc:"Without it individual."`
}

func (a *API) createUser(c *dialect.Call) error {
	if c.Caller.User != 0 {
		return bankfeed.Errorf(bankfeed.Forbidden, "this needs a client token")
	}
	var body newUser
	if err := c.Body(&body); err != nil {
		return err
	}
	u, err := a.Access.CreateUser(c.Context(), c.Caller, access.NewUser{
		ExternalID: body.ExternalID, Email: body.Email, Password: body.Password, BusinessContext: body.BusinessContext,
	})
	if err != nil {
		return err
	}
	c.W.Header().Set("Location", "/users/"+strconv.FormatInt(int64(u.ID), 10))
	return c.Write(http.StatusCreated, nil)
}

// pathUser reads the id of the path, or me.
func (a *API) pathUser(c *dialect.Call) (bankfeed.UserID, error) {
	if name := c.R.PathValue("user_id"); name != "me" {
		return a.named(c, name)
	}
	return a.user(c)
}

func (a *API) getUser(c *dialect.Call) error {
	id, err := a.pathUser(c)
	if err != nil {
		return err
	}
	u, err := a.Access.User(c.Context(), c.Caller, id)
	if err != nil {
		return err
	}
	return c.Write(http.StatusOK, oxlin.RenderUser(u))
}

func (a *API) deleteUser(c *dialect.Call) error {
	id, err := a.pathUser(c)
	if err != nil {
		return err
	}
	if err := a.Eraser.EraseUser(c.Context(), c.Tenant(), id); err != nil {
		return err
	}
	return c.Write(http.StatusNoContent, nil)
}
