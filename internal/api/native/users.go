package native

import (
	"context"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/access"
	wire "github.com/bankfeed/bankfeed/wire/native"
)

// Users are the users that a caller may act for.
type Users interface {
	CreateUser(ctx context.Context, caller bankfeed.Caller, n access.NewUser) (bankfeed.User, error)
	User(ctx context.Context, caller bankfeed.Caller, id bankfeed.UserID) (bankfeed.User, error)
	UserByExternalID(ctx context.Context, caller bankfeed.Caller, externalID string) (bankfeed.User, error)
	// Users lists users with numbers above after.
	Users(ctx context.Context, caller bankfeed.Caller, after bankfeed.UserID, limit int) ([]bankfeed.User, error)
}

// Eraser begins the erasure of a user, who is unknown from then on; what is
// left to do happens in the background.
type Eraser interface {
	EraseUser(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID) error
}

// UserRequest is what a client says about a new user.
type UserRequest struct {
	ExternalID      string          `json:"external_id,omitempty" maxLength:"255" doc:"Your own id of the user, unique." example:"customer-4711"`
	Email           string          `json:"email,omitempty" maxLength:"320" doc:"A name to log in with, unique."`
	Password        bankfeed.Secret `json:"password,omitempty" maxLength:"512" doc:"At least 6 characters. Without one the user cannot log in; a client's token acts for it."`
	BusinessContext string          `json:"business_context,omitempty" enum:"individual,business" default:"individual" doc:"In which capacity the user holds accounts; picks the bank's pages and products where there are two."`
}

type userBody struct {
	Body wire.User
}

type createdUser struct {
	Location string `header:"Location"`
	Body     wire.User
}

// UserList is a page of users.
type UserList struct {
	Items []wire.User `json:"items" nullable:"false"`
	Next  string      `json:"next,omitempty" doc:"Send it as after for the next page; absent on the last one."`
}

type userList struct {
	Body UserList
}

func (a *API) routeUsers() {
	register(a, huma.Operation{
		OperationID: "createUser", Method: http.MethodPost, Path: "/v1/users", Tags: []string{tagUsers},
		Summary: "Create a user", Description: "Needs a client's token.", DefaultStatus: http.StatusCreated,
	}, func(ctx context.Context, c *call, in *struct{ Body UserRequest }) (*createdUser, error) {
		u, err := a.Users.CreateUser(ctx, c.Caller, access.NewUser{
			ExternalID: in.Body.ExternalID, Email: in.Body.Email, Password: in.Body.Password,
			BusinessContext: bankfeed.BusinessContext(in.Body.BusinessContext),
		})
		if err != nil {
			return nil, err
		}
		return &createdUser{Location: "/v1/users/" + wire.Decimal(u.ID), Body: a.renderer(c).User(u)}, nil
	})

	register(a, huma.Operation{
		OperationID: "listUsers", Method: http.MethodGet, Path: "/v1/users", Tags: []string{tagUsers},
		Summary: "List users", Description: "In the order in which they were created. A user's token sees that user only.",
	}, a.listUsers)

	register(a, huma.Operation{
		OperationID: "getUser", Method: http.MethodGet, Path: "/v1/users/{id}", Tags: []string{tagUsers}, Summary: "Get a user",
	}, func(ctx context.Context, c *call, in *pathID) (*userBody, error) {
		u, err := a.Users.User(ctx, c.Caller, number[bankfeed.UserID](a, c, bankfeed.KindUser, in.ID))
		if err != nil {
			return nil, err
		}
		return &userBody{a.renderer(c).User(u)}, nil
	})

	register(a, huma.Operation{
		OperationID: "eraseUser", Method: http.MethodDelete, Path: "/v1/users/{id}", Tags: []string{tagUsers},
		Summary:       "Erase a user",
		Description:   "Ends the user's consents at the banks and erases every copy of the data, in the background. The user is unknown at once; user.erased follows in the event log.",
		DefaultStatus: http.StatusAccepted,
	}, func(ctx context.Context, c *call, in *pathID) (*struct{}, error) {
		u, err := a.Users.User(ctx, c.Caller, number[bankfeed.UserID](a, c, bankfeed.KindUser, in.ID))
		if err != nil {
			return nil, err
		}
		return nil, a.Eraser.EraseUser(ctx, c.Client.Tenant, u.ID)
	})
}

func (a *API) listUsers(ctx context.Context, c *call, in *struct {
	After      string `query:"after" maxLength:"64" doc:"next of the page before."`
	Limit      int    `query:"limit" minimum:"1" maximum:"500" default:"100"`
	ExternalID string `query:"external_id" maxLength:"255" doc:"Only the user with this external id."`
}) (*userList, error) {
	r := a.renderer(c)
	if c.User != 0 || in.ExternalID != "" {
		u, err := a.oneUser(ctx, c, in.ExternalID)
		if errors.Is(err, bankfeed.ErrNotFound) {
			return &userList{UserList{Items: []wire.User{}}}, nil
		}
		if err != nil {
			return nil, err
		}
		return &userList{UserList{Items: []wire.User{r.User(u)}}}, nil
	}
	after, err := readNumberCursor[bankfeed.UserID](in.After)
	if err != nil {
		return nil, err
	}
	users, err := a.Users.Users(ctx, c.Caller, after, in.Limit)
	if err != nil {
		return nil, err
	}
	out := &userList{UserList{Items: wire.Each(users, r.User)}}
	if len(users) == in.Limit {
		out.Body.Next = numberCursor(users[len(users)-1].ID)
	}
	return out, nil
}

func (a *API) oneUser(ctx context.Context, c *call, externalID string) (bankfeed.User, error) {
	if externalID != "" {
		return a.Users.UserByExternalID(ctx, c.Caller, externalID)
	}
	return a.Users.User(ctx, c.Caller, c.User)
}
