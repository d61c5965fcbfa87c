package native

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/delivery/callback"
	wire "github.com/bankfeed/bankfeed/wire/native"
)

// CallbackSecrets keeps what a tenant's callbacks are signed with.
type CallbackSecrets interface {
	// First makes the first secret; empty if there is a live one already.
	First(ctx context.Context, tenant bankfeed.TenantID) (bankfeed.Secret, error)
	List(ctx context.Context, tenant bankfeed.TenantID) ([]callback.SecretInfo, error)
	Create(ctx context.Context, tenant bankfeed.TenantID, until time.Time) (bankfeed.Secret, callback.SecretInfo, error)
	Retire(ctx context.Context, tenant bankfeed.TenantID, id int64) error
}

// CallbackSecretRequest asks for a secret.
type CallbackSecretRequest struct {
	RetireOthersAt *time.Time `json:"retire_others_at,omitempty" doc:"The secret before this one signs until then. Without it, until it is retired."`
}

func (a *API) routeCallbackSecrets() {
	register(a, huma.Operation{
		OperationID: "listCallbackSecrets", Method: http.MethodGet, Path: "/v1/callbacks/secrets", Tags: []string{tagCallbacks},
		Summary: "List secrets", Description: "What the company's callbacks are signed with, newest first, without showing it. One secret serves all callbacks, those of requests too." + needsClient,
	}, func(ctx context.Context, c *call, _ *struct{}) (*struct{ Body CallbackSecretList }, error) {
		if err := ofClient(c); err != nil {
			return nil, err
		}
		list, err := a.CallbackSecrets.List(ctx, c.Client.Tenant)
		if err != nil {
			return nil, err
		}
		return &struct{ Body CallbackSecretList }{CallbackSecretList{wire.Each(list, callbackSecret)}}, nil
	})

	register(a, huma.Operation{
		OperationID: "createCallbackSecret", Method: http.MethodPost, Path: "/v1/callbacks/secrets", Tags: []string{tagCallbacks},
		Summary: "Create a secret",
		Description: "It is shown in this answer and never again. Within 5 seconds all callbacks carry its signature beside that of the secret before, so that receivers can change over one by one. " +
			"409 if there are two live ones already.",
		DefaultStatus: http.StatusCreated,
	}, func(ctx context.Context, c *call, in *struct{ Body *CallbackSecretRequest }) (*struct{ Body CallbackSecret }, error) {
		if err := ofClient(c); err != nil {
			return nil, err
		}
		var until time.Time
		if in.Body != nil && in.Body.RetireOthersAt != nil {
			until = *in.Body.RetireOthersAt
		}
		secret, info, err := a.CallbackSecrets.Create(ctx, c.Client.Tenant, until)
		if err != nil {
			return nil, err
		}
		v := callbackSecret(info)
		v.Secret = string(secret)
		return &struct{ Body CallbackSecret }{v}, nil
	})

	register(a, huma.Operation{
		OperationID: "retireCallbackSecret", Method: http.MethodDelete, Path: "/v1/callbacks/secrets/{id}", Tags: []string{tagCallbacks},
		Summary: "Retire a secret", Description: "Within 5 seconds nothing is signed with it any more. 409 for the only one: create another first.",
	}, func(ctx context.Context, c *call, in *struct {
		ID string `path:"id" maxLength:"64" doc:"Number of the secret."`
	}) (*struct{}, error) {
		if err := ofClient(c); err != nil {
			return nil, err
		}
		id, ok := bankfeed.ParseNumber(in.ID)
		if !ok {
			return nil, bankfeed.ErrNotFound
		}
		return nil, a.CallbackSecrets.Retire(ctx, c.Client.Tenant, id)
	})
}
