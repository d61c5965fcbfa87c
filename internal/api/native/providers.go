package native

import (
	"context"
	"net/http"

	wire "github.com/bankfeed/bankfeed/wire/native"
	"github.com/danielgtaylor/huma/v2"
)

// ProviderList is the banks that a client can see.
type ProviderList struct {
	Items []wire.Provider `json:"items" nullable:"false"`
}

func (a *API) routeProviders() {
	register(a, huma.Operation{
		OperationID: "listProviders", Method: http.MethodGet, Path: "/v1/providers", Tags: []string{tagProviders},
		Summary: "List banks", Description: "A sandbox client sees sandbox banks only, a live one none of them.",
	}, func(_ context.Context, c *call, _ *struct{}) (*struct{ Body ProviderList }, error) {
		return &struct{ Body ProviderList }{ProviderList{wire.Each(a.Catalogue.Providers(c.Client.Sandbox), wire.ProviderOf)}}, nil
	})

	register(a, huma.Operation{
		OperationID: "getProvider", Method: http.MethodGet, Path: "/v1/providers/{id}", Tags: []string{tagProviders}, Summary: "Get a bank",
	}, func(_ context.Context, c *call, in *struct {
		ID string `path:"id"`
	}) (*struct{ Body wire.Provider }, error) {
		p, err := a.Catalogue.Provider(in.ID, c.Client.Sandbox)
		if err != nil {
			return nil, err
		}
		return &struct{ Body wire.Provider }{wire.ProviderOf(p)}, nil
	})
}
