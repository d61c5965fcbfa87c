package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/finapi"
)

// DataIntelligence calls the data sources, cases, reports and checks of finAPI
// Data Intelligence, or of any server that speaks the same interface. Fields
// and values that it does not know are no error. A token is the user's.
type DataIntelligence struct {
	// BaseURL includes the base path: https://hub.example/api/v1.
	BaseURL string
	// HTTP is what calls are made with; nil is a client with a timeout of 15 s.
	HTTP *http.Client
}

func (d *DataIntelligence) do(ctx context.Context, k call, out any) error {
	return caller{d.BaseURL, d.HTTP}.do(ctx, k, out)
}

// SyncRequest asks for a synchronization. All of it is optional; empty, it
// covers all bank connections of the user.
type SyncRequest struct {
	CallbackURL    string `json:"callbackUrl,omitempty"`
	CallbackHandle string `json:"callbackHandle,omitempty"`
	// DataSourceIDs or BankConnectionIDs narrow it.
	DataSourceIDs     []string `json:"dataSourceIds,omitempty"`
	BankConnectionIDs []int64  `json:"bankConnectionIds,omitempty"`
}

// SyncResult is what a synchronization covers.
type SyncResult struct {
	BankConnections []DataSource `json:"bankConnections"` // may be null
}

// DataSource is a bank connection as a source of data. Its ids are whatever text
// the server uses.
type DataSource struct {
	DataSourceID   string              `json:"dataSourceId"`
	CreationDate   finapi.Time         `json:"creationDate"`
	LastUpdate     finapi.Time         `json:"lastUpdate"`
	ExternalID     json.Number         `json:"externalId"`
	BIC            string              `json:"bic"`
	BankName       string              `json:"bankName"`
	BankStatus     SourceStatus        `json:"bankStatus"`
	UpdateRequired bool                `json:"updateRequired"`
	Accounts       []DataSourceAccount `json:"accounts"`
}

// DataSourceAccount is an account of a data source.
type DataSourceAccount struct {
	AccountID    string               `json:"accountId"`
	CreationDate finapi.Time          `json:"creationDate"`
	LastUpdate   finapi.Time          `json:"lastUpdate"`
	ExternalID   json.Number          `json:"externalId"`
	IBAN         string               `json:"iban"` // empty where there is none
	AccountType  finapi.AccountType   `json:"accountType"`
	Status       finapi.AccountStatus `json:"status"`
}

// SourceStatus is the state of a data source. A server may know more words than
// these; such a data source is neither successful nor failed yet.
type SourceStatus string

// Words of SourceStatus.
const (
	SourceInProgress = SourceStatus(finapi.InProgress)
	SourceSuccessful = SourceStatus(finapi.Successful)
	SourceFailed     = SourceStatus(finapi.Failed)
	SourceError      = SourceStatus(finapi.Errored) // servers use either word for a failure
)

// Successful reports whether there is data to go on with.
func (s SourceStatus) Successful() bool { return s == SourceSuccessful }

// Failed reports whether there is none, and waiting does not help.
func (s SourceStatus) Failed() bool { return s == SourceFailed || s == SourceError }

// StatusResult is the answer about one data source.
type StatusResult struct {
	Status SourceStatus `json:"status"`
	// Code says more, for example UPDATE_REQUIRED: its user must act.
	Code string `json:"code"`
}

// Synchronize brings the user's data sources up to date. It answers at once;
// what comes of it is told to the callback and by Status.
func (d *DataIntelligence) Synchronize(ctx context.Context, token bankfeed.Secret, r SyncRequest) (SyncResult, error) {
	var out SyncResult
	err := d.do(ctx, call{method: http.MethodPost, path: "/dataSources/bankConnections/synchronization", token: token, body: r}, &out)
	return out, err
}

// Status asks for the state of one data source. There should be 200 ms at least
// between two such questions.
func (d *DataIntelligence) Status(ctx context.Context, token bankfeed.Secret, dataSource string) (StatusResult, error) {
	var out StatusResult
	err := d.do(ctx, call{method: http.MethodGet, path: "/dataSources/" + url.PathEscape(dataSource) + "/status", token: token}, &out)
	return out, err
}

// DataSources lists the user's data sources, those that were imported included.
func (d *DataIntelligence) DataSources(ctx context.Context, token bankfeed.Secret) ([]DataSource, error) {
	var out looseList[DataSource]
	err := d.do(ctx, call{method: http.MethodGet, path: "/dataSources", token: token}, &out)
	return out, err
}

// DataSource reads one data source.
func (d *DataIntelligence) DataSource(ctx context.Context, token bankfeed.Secret, id string) (DataSource, error) {
	var out DataSource
	err := d.do(ctx, call{method: http.MethodGet, path: "/dataSources/" + url.PathEscape(id), token: token}, &out)
	return out, err
}

// DeleteDataSource removes a data source with its data.
func (d *DataIntelligence) DeleteDataSource(ctx context.Context, token bankfeed.Secret, id string) error {
	return d.do(ctx, call{method: http.MethodDelete, path: "/dataSources/" + url.PathEscape(id), token: token}, nil)
}

// looseList is a list, or an object with one list among its members: servers
// differ in the name that they give it.
type looseList[T any] []T

func (l *looseList[T]) UnmarshalJSON(b []byte) error {
	if b = []byte(strings.TrimSpace(string(b))); len(b) == 0 || b[0] != '{' {
		return json.Unmarshal(b, (*[]T)(l))
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(b, &members); err != nil {
		return err
	}
	names := make([]string, 0, len(members))
	for name, v := range members {
		if len(v) > 0 && v[0] == '[' {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		var part []T
		if err := json.Unmarshal(members[name], &part); err != nil {
			return err
		}
		*l = append(*l, part...)
	}
	return nil
}
