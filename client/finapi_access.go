package client

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/finapi"
)

// Access calls the tokens and users of finAPI Access.
type Access struct {
	// BaseURL has no base path: https://hub.example.
	BaseURL                string
	ClientID, ClientSecret bankfeed.Secret
	HTTP                   *http.Client // nil is a client with a timeout of 15 s
}

func (a *Access) do(ctx context.Context, k call, out any) error {
	return caller{a.BaseURL, a.HTTP}.do(ctx, k, out)
}

// Token is what a token endpoint answers.
type Token struct {
	AccessToken  bankfeed.Secret
	RefreshToken bankfeed.Secret // of the password grant only
	// ExpiresIn is how long the token is valid; 0 is for good.
	ExpiresIn time.Duration
}

// UnmarshalJSON reads a token as it is on the wire.
func (t *Token) UnmarshalJSON(b []byte) error {
	var w struct {
		Access    string      `json:"access_token"`
		Refresh   string      `json:"refresh_token"`
		ExpiresIn json.Number `json:"expires_in"`
	}
	if err := json.Unmarshal(b, &w); err != nil {
		return errors.New("it is not a token") // the reason may show part of one
	}
	if w.Access == "" {
		return errors.New("it has no access_token")
	}
	seconds, _ := w.ExpiresIn.Int64()
	*t = Token{bankfeed.Secret(w.Access), bankfeed.Secret(w.Refresh), time.Duration(seconds) * time.Second}
	return nil
}

// ClientToken gets a token of the client itself.
func (a *Access) ClientToken(ctx context.Context) (Token, error) {
	return a.grant(ctx, url.Values{"grant_type": {"client_credentials"}})
}

// UserToken gets a token of a user.
func (a *Access) UserToken(ctx context.Context, user string, password bankfeed.Secret) (Token, error) {
	return a.grant(ctx, url.Values{"grant_type": {"password"}, "username": {user}, "password": {string(password)}})
}

// Refresh gets a new token of a user for an older one.
func (a *Access) Refresh(ctx context.Context, refresh bankfeed.Secret) (Token, error) {
	return a.grant(ctx, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {string(refresh)}})
}

func (a *Access) grant(ctx context.Context, form url.Values) (out Token, err error) {
	form.Set("client_id", string(a.ClientID))
	form.Set("client_secret", string(a.ClientSecret))
	err = a.do(ctx, call{method: http.MethodPost, path: "/oauth/token", form: form}, &out)
	return out, err
}

// Revoke ends a token, with the client's own.
func (a *Access) Revoke(ctx context.Context, client, token bankfeed.Secret) error {
	return a.do(ctx, call{method: http.MethodPost, path: "/oauth/revoke", token: client, form: url.Values{"token": {string(token)}}}, nil)
}

// NewUser is a user to be. All of it is optional: id and password are made up
// where they are missing.
type NewUser struct {
	ID                  string
	Password            bankfeed.Secret
	Email, Phone        string
	IsAutoUpdateEnabled bool
}

// CreateUser makes a user, with the client's token. The answer is the only one
// that shows the password.
func (a *Access) CreateUser(ctx context.Context, client bankfeed.Secret, u NewUser) (finapi.User, error) {
	body := struct {
		ID                  string `json:"id,omitempty"`
		Password            string `json:"password,omitempty"`
		Email               string `json:"email,omitempty"`
		Phone               string `json:"phone,omitempty"`
		IsAutoUpdateEnabled bool   `json:"isAutoUpdateEnabled"`
	}{u.ID, string(u.Password), u.Email, u.Phone, u.IsAutoUpdateEnabled}
	var out finapi.User
	err := a.do(ctx, call{method: http.MethodPost, path: "/api/v1/users", token: client, body: body}, &out)
	return out, err
}

// User reads the token's user.
func (a *Access) User(ctx context.Context, token bankfeed.Secret) (finapi.User, error) {
	var out finapi.User
	err := a.do(ctx, call{method: http.MethodGet, path: "/api/v1/users", token: token}, &out)
	return out, err
}

// DeleteUser removes the token's user with all data.
func (a *Access) DeleteUser(ctx context.Context, token bankfeed.Secret) error {
	return a.do(ctx, call{method: http.MethodDelete, path: "/api/v1/users", token: token}, nil)
}

// Deletion is how far the deletion of a user's data has come.
type Deletion struct {
	ID      string                `json:"deletionId"`
	Status  finapi.DeletionStatus `json:"status"`
	Modules []struct {
		Module string                `json:"module"`
		Status finapi.DeletionStatus `json:"status"`
	} `json:"modules"`
}

// DeleteUserData removes all data of the token's user, who stays. The answer has
// the id only.
func (d *DataIntelligence) DeleteUserData(ctx context.Context, token bankfeed.Secret) (Deletion, error) {
	var out Deletion
	err := d.do(ctx, call{method: http.MethodDelete, path: "/user", token: token}, &out)
	return out, err
}

// UserDataDeletion asks how far that has come.
func (d *DataIntelligence) UserDataDeletion(ctx context.Context, token bankfeed.Secret, id string) (Deletion, error) {
	var out Deletion
	err := d.do(ctx, call{method: http.MethodGet, path: "/user/status/delete/" + url.PathEscape(id), token: token}, &out)
	return out, err
}

// ProcessController makes users that last for one errand.
type ProcessController struct {
	// BaseURL includes the base path: https://hub.example/api/v1.
	BaseURL string
	HTTP    *http.Client // nil is a client with a timeout of 15 s
}

// Create begins an errand, with the client's token, and returns its own token.
func (p *ProcessController) Create(ctx context.Context, client bankfeed.Secret) (bankfeed.Secret, error) {
	var out struct {
		Token string `json:"processToken"`
	}
	err := caller{p.BaseURL, p.HTTP}.do(ctx, call{method: http.MethodPost, path: "/processes", token: client}, &out)
	if err == nil && out.Token == "" {
		err = errors.New("POST /processes: the answer has no processToken")
	}
	return bankfeed.Secret(out.Token), err
}

// Exchange gets a token of the errand's user. last forbids further exchanges,
// which is recommended unless the user may come back later.
func (p *ProcessController) Exchange(ctx context.Context, client, process bankfeed.Secret, last bool) (Token, error) {
	var out Token
	err := caller{p.BaseURL, p.HTTP}.do(ctx, call{method: http.MethodGet, path: "/processes/" + url.PathEscape(string(process)), shown: "/processes/***",
		query: url.Values{"invalidate": {strconv.FormatBool(last)}}, token: client}, &out)
	return out, err
}
