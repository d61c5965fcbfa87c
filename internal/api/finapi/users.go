package finapi

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/access"
	"github.com/bankfeed/bankfeed/internal/api/dialect"
	"github.com/bankfeed/bankfeed/internal/consent"
	"github.com/bankfeed/bankfeed/wire/finapi"
)

// Eraser erases users, or their data alone: consent.Service.
type Eraser interface {
	EraseUser(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID) error
	EraseData(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID) (deletion int64, err error)
	DataDeletion(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id int64) (consent.DataDeletion, error)
}

func (a *API) userOperations() []*dialect.Operation {
	users, data := []string{prefix + "/users", accessV2 + "/users"}, []string{prefix + "/user"}
	return []*dialect.Operation{
		{
			Method: "POST", Paths: users, ID: "createUser", Tag: "users", Token: dialect.ClientToken, Summary: "Create a user",
			Body: typeOf[newUser](), Optional: true, Status: http.StatusCreated, Answer: typeOf[finapi.User](),
			Handle: a.createUser,
			About:  "The answer is the only one that shows the password.",
		},
		{
			Method: "GET", Paths: users, ID: "getAuthorizedUser", Tag: "users", Token: dialect.UserToken, Summary: "Read the token's user",
			Status: http.StatusOK, Answer: typeOf[finapi.User](), Handle: a.getUser,
		},
		{
			Method: "DELETE", Paths: users, ID: "deleteAuthorizedUser", Tag: "users", Token: dialect.UserToken, Summary: "Erase the token's user with all its data",
			Status: http.StatusOK, Handle: a.deleteUser, About: "The user and its tokens are unknown at once; consents end at the banks and the data goes in the background.",
		},
		{
			Method: "DELETE", Paths: data, ID: "deleteUserData", Tag: "users", Token: dialect.UserToken, Summary: "Erase the data of the token's user",
			Status: http.StatusOK, Answer: typeOf[finapi.DeletionStarted](), Handle: a.deleteData,
			About: "The user, its password and its tokens stay. Nothing of the data is to be found from now on; its copies go in the background.",
		},
		{
			Method: "GET", Paths: []string{prefix + "/user/status/delete/{deletionId}"}, ID: "getDeletionStatus", Tag: "users", Token: dialect.UserToken,
			Summary: "Ask how far the erasure of the data has come", Status: http.StatusOK, Answer: typeOf[finapi.Deletion](), Handle: a.getDeletion,
		},
	}
}

type newUser struct {
	ID                  string          `json:"id,omitempty" minLength:"1" maxLength:"36" pattern:"^[0-9A-Za-z_.+@-]+$" doc:"Your own id of the user, in any case. Without it a random one."`
	Password            bankfeed.Secret `json:"password,omitempty" minLength:"6" maxLength:"128" doc:"Without it a random one."`
	Email               string          `json:"email,omitempty" maxLength:"320"`
	Phone               string          `json:"phone,omitempty" maxLength:"50"`
	IsAutoUpdateEnabled bool            `json:"isAutoUpdateEnabled,omitempty" doc:"Whether the hub reads new bank connections of the user every day by itself. Without it false."`
}

func (a *API) createUser(c *dialect.Call) error {
	var body newUser
	if err := c.Body(&body); err != nil {
		return err
	}
	if body.ID == "" {
		body.ID = rand.Text()
	}
	if body.Password == "" {
		body.Password = bankfeed.Secret(rand.Text())
	}
	u, err := a.Access.CreateUser(c.Context(), c.Caller, access.NewUser{
		ExternalID: body.ID, AnyCase: true, Password: body.Password,
		Contact: bankfeed.Contact{Email: body.Email, Phone: body.Phone}, NoAutoSync: !body.IsAutoUpdateEnabled,
	})
	var e *bankfeed.Error
	if errors.As(err, &e) && e.Kind == bankfeed.Conflict {
		return &fault{http.StatusUnprocessableEntity, finapi.CodeEntityExists, "id", "belongs to another user"}
	}
	if err != nil {
		return err
	}
	return c.Write(http.StatusCreated, a.render.User(c.Tenant(), u, body.Password))
}

func (a *API) getUser(c *dialect.Call) error {
	u, err := a.Access.User(c.Context(), c.Caller, c.Caller.User)
	if err != nil {
		return err
	}
	return c.Write(http.StatusOK, a.render.User(c.Tenant(), u, ""))
}

func (a *API) deleteUser(c *dialect.Call) error {
	if err := a.Eraser.EraseUser(c.Context(), c.Tenant(), c.Caller.User); err != nil {
		return err
	}
	return c.Write(http.StatusOK, nil)
}

func (a *API) deleteData(c *dialect.Call) error {
	n, err := a.Eraser.EraseData(c.Context(), c.Tenant(), c.Caller.User)
	if err != nil {
		return err
	}
	return c.Write(http.StatusOK, finapi.DeletionStarted{DeletionID: a.Installation.UUID(bankfeed.KindDeletion, c.Tenant(), n)})
}

func (a *API) getDeletion(c *dialect.Call) error {
	n, err := pathID[int64](a, c, "deletionId", bankfeed.KindDeletion)
	if err != nil {
		return err
	}
	d, err := a.Eraser.DataDeletion(c.Context(), c.Tenant(), c.Caller.User, n)
	if err != nil {
		return err
	}
	w := finapi.Deletion{DeletionID: a.Installation.UUID(bankfeed.KindDeletion, c.Tenant(), d.ID), Status: finapi.DeletionStatusOf(d.Done),
		CreationDate: finapi.TimeOf(d.CreatedAt, a.Zone), Modules: []finapi.DeletionModule{}}
	for _, p := range d.Parts {
		w.Modules = append(w.Modules, finapi.DeletionModule{Module: p.Name, Status: finapi.DeletionStatusOf(p.Done)})
	}
	return c.Write(http.StatusOK, w)
}
