package oxlin

import (
	"net/http"
	"strconv"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/access"
	"github.com/bankfeed/bankfeed/wire/oxlin"
)

type newUser struct {
	Email           string                   `json:"email" minLength:"3" maxLength:"320" doc:"The user's login."`
	Password        bankfeed.Secret          `json:"password" minLength:"6" maxLength:"512"`
	ExternalID      string                   `json:"external_id,omitempty" maxLength:"255" doc:"Your own id of the user."`
	BusinessContext bankfeed.BusinessContext `json:"business_context,omitempty" enum:"individual,business" doc:"Without it individual."`
}

func (a *API) createUser(c *call) error {
	if c.caller.User != 0 {
		return bankfeed.Errorf(bankfeed.Forbidden, "this needs a client token")
	}
	var body newUser
	if err := c.body(&body); err != nil {
		return err
	}
	u, err := a.Access.CreateUser(c.ctx(), c.caller, access.NewUser{
		ExternalID: body.ExternalID, Email: body.Email, Password: body.Password, BusinessContext: body.BusinessContext,
	})
	if err != nil {
		return err
	}
	c.w.Header().Set("Location", "/users/"+strconv.FormatInt(int64(u.ID), 10))
	return c.write(http.StatusCreated, nil)
}

// pathUser reads the id of the path, or me.
func (a *API) pathUser(c *call) (bankfeed.UserID, error) {
	if name := c.r.PathValue("user_id"); name != "me" {
		return a.named(c, name)
	}
	return a.user(c)
}

func (a *API) getUser(c *call) error {
	id, err := a.pathUser(c)
	if err != nil {
		return err
	}
	u, err := a.Access.User(c.ctx(), c.caller, id)
	if err != nil {
		return err
	}
	return c.write(http.StatusOK, oxlin.RenderUser(u))
}

func (a *API) deleteUser(c *call) error {
	id, err := a.pathUser(c)
	if err != nil {
		return err
	}
	if err := a.Eraser.EraseUser(c.ctx(), c.tenant(), id); err != nil {
		return err
	}
	return c.write(http.StatusNoContent, nil)
}
