package native

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/bankfeed/bankfeed"
	wire "github.com/bankfeed/bankfeed/wire/native"
)

// ConsentReader reads a user's consents; connection 0 means those of all.
type ConsentReader interface {
	Consents(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, connection bankfeed.ConnectionID) ([]bankfeed.Consent, error)
	Consent(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id bankfeed.ConsentID) (bankfeed.Consent, error)
}

// ConsentList is all consents of a user or connection.
type ConsentList struct {
	Items []wire.Consent `json:"items" nullable:"false"`
}

func (a *API) routeConsents() {
	register(a, huma.Operation{
		OperationID: "listConsents", Method: http.MethodGet, Path: "/v1/consents", Tags: []string{tagConsents},
		Summary: "List consents", Description: "Newest first.",
	}, func(ctx context.Context, c *call, in *struct {
		Scope
		OfConnection
	}) (*struct{ Body ConsentList }, error) {
		user, err := a.user(ctx, c, in.User)
		if err != nil {
			return nil, err
		}
		connection, err := a.ofConnection(ctx, c, user, in.OfConnection)
		if err != nil {
			return nil, err
		}
		list, err := a.Reader.Consents(ctx, c.Client.Tenant, user, connection)
		if err != nil {
			return nil, err
		}
		return &struct{ Body ConsentList }{ConsentList{wire.Each(list, a.renderer(c).Consent)}}, nil
	})

	register(a, huma.Operation{
		OperationID: "getConsent", Method: http.MethodGet, Path: "/v1/consents/{id}", Tags: []string{tagConsents}, Summary: "Get a consent",
	}, func(ctx context.Context, c *call, in *struct{ PathScoped }) (*struct{ Body wire.Consent }, error) {
		consent, err := a.consent(ctx, c, in.PathScoped)
		if err != nil {
			return nil, err
		}
		return &struct{ Body wire.Consent }{a.renderer(c).Consent(consent)}, nil
	})

	register(a, huma.Operation{
		OperationID: "deleteConsent", Method: http.MethodDelete, Path: "/v1/consents/{id}", Tags: []string{tagConsents},
		Summary:       "Delete a consent",
		Description:   "Ends it at the bank and removes the data that only it reached, in the background; consent.deleted follows in the event log.",
		DefaultStatus: http.StatusAccepted,
	}, func(ctx context.Context, c *call, in *struct{ PathScoped }) (*struct{}, error) {
		consent, err := a.consent(ctx, c, in.PathScoped)
		if err != nil {
			return nil, err
		}
		return nil, a.Remover.DeleteConsent(ctx, c.Client.Tenant, consent.User, consent.ID)
	})
}

func (a *API) consent(ctx context.Context, c *call, in PathScoped) (bankfeed.Consent, error) {
	user, err := a.user(ctx, c, in.User)
	if err != nil {
		return bankfeed.Consent{}, err
	}
	return a.Reader.Consent(ctx, c.Client.Tenant, user, number[bankfeed.ConsentID](a, c, bankfeed.KindConsent, in.ID))
}
