package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/finapi"
)

// WebForms calls Web Form 2.0: pages on which users connect banks, and tasks
// that bring bank connections up to date.
type WebForms struct {
	// BaseURL has no base path: https://hub.example.
	BaseURL string
	HTTP    *http.Client // nil is a client with a timeout of 15 s
}

func (f *WebForms) do(ctx context.Context, k call, out any) error {
	return caller{f.BaseURL, f.HTTP}.do(ctx, k, out)
}

// WebForm is a page to send the user's browser to.
type WebForm struct {
	ID string `json:"id"`
	// URL holds a secret.
	URL     string               `json:"url"`
	Type    finapi.WebFormType   `json:"type"`
	Status  finapi.WebFormStatus `json:"status"`
	Payload FormPayload          `json:"payload"`
}

// Task is an update of a bank connection.
type Task struct {
	ID      string            `json:"id"`
	Type    finapi.TaskType   `json:"type"`
	Status  finapi.TaskStatus `json:"status"`
	Payload FormPayload       `json:"payload"`
}

// FormPayload is what a form or a task came to.
type FormPayload struct {
	BankConnectionID json.Number `json:"bankConnectionId"` // empty as long as there is none
	ErrorCode        string      `json:"errorCode"`
	ErrorMessage     string      `json:"errorMessage"`
	// WebForm is what a task needs its user for.
	WebForm *WebForm `json:"webForm"`
}

// Ended reports whether the form's status is final. What its words do not tell is not.
func (f WebForm) Ended() bool {
	switch f.Status {
	case finapi.FormCompleted, finapi.FormCompletedWithError, finapi.FormExpired, finapi.FormAborted:
		return true
	default:
		return false
	}
}

// Ended reports whether the task's status is final.
func (t Task) Ended() bool {
	return t.Status == finapi.TaskCompleted || t.Status == finapi.TaskCompletedWithError
}

// FormRequest asks for a form. All of it is optional.
type FormRequest struct {
	Bank              *FormBank          `json:"bank,omitempty"`
	AllowedInterfaces []finapi.Interface `json:"allowedInterfaces,omitempty"`
	Callbacks         FormCallbacks      `json:"callbacks,omitzero"`
	// RedirectURL is where the user goes once the form is COMPLETED.
	RedirectURL string `json:"redirectUrl,omitempty"`
}

// FormBank chooses a bank by number, or begins the list with a search.
type FormBank struct {
	ID     int64  `json:"id,omitempty"`
	Search string `json:"search,omitempty"`
}

// FormCallbacks are URLs that are told.
type FormCallbacks struct {
	Finalised       string `json:"finalised,omitempty"`
	WebFormRequired string `json:"webFormRequired,omitempty"` // of tasks
}

// ConnectBank makes a form on which the user connects a bank.
func (f *WebForms) ConnectBank(ctx context.Context, token bankfeed.Secret, r FormRequest) (WebForm, error) {
	var out WebForm
	err := f.do(ctx, call{method: http.MethodPost, path: "/api/webForms/bankConnectionImport", token: token, body: r}, &out)
	return out, err
}

// WebForm reads a form. There should be a second at least between two such
// questions.
func (f *WebForms) WebForm(ctx context.Context, token bankfeed.Secret, id string) (WebForm, error) {
	var out WebForm
	err := f.do(ctx, call{method: http.MethodGet, path: "/api/webForms/" + url.PathEscape(id), token: token}, &out)
	return out, err
}

// UpdateRequest asks for an update.
type UpdateRequest struct {
	BankConnectionID  json.Number        `json:"bankConnectionId"`
	AllowedInterfaces []finapi.Interface `json:"allowedInterfaces,omitempty"`
	Callbacks         FormCallbacks      `json:"callbacks,omitzero"`
	RedirectURL       string             `json:"redirectUrl,omitempty"`
}

// Update brings a bank connection up to date in the background. This is what to
// do about a data source with the code UPDATE_REQUIRED, before it is synchronized again.
func (f *WebForms) Update(ctx context.Context, token bankfeed.Secret, r UpdateRequest) (Task, error) {
	var out Task
	err := f.do(ctx, call{method: http.MethodPost, path: "/api/tasks/backgroundUpdate", token: token, body: r}, &out)
	return out, err
}

// Task reads a task. There should be a second at least between two such
// questions.
func (f *WebForms) Task(ctx context.Context, token bankfeed.Secret, id string) (Task, error) {
	var out Task
	err := f.do(ctx, call{method: http.MethodGet, path: "/api/tasks/" + url.PathEscape(id), token: token}, &out)
	return out, err
}
