package finapi

import (
	"encoding/json"
	"time"

	"github.com/bankfeed/bankfeed"
)

// WebForm is a page of the hub on which a user connects a bank, or renews the
// access to one (Web Form 2.0).
type WebForm struct {
	ID        bankfeed.UUID  `json:"id" format:"uuid"`
	URL       string         `json:"url" doc:"Send the user's browser there. redirectUrl, errorRedirectUrl, abortRedirectUrl and customerSupportUrl may be added to its query."`
	CreatedAt FormTime       `json:"createdAt"`
	ExpiresAt FormTime       `json:"expiresAt"`
	Type      WebFormType    `json:"type"`
	Status    WebFormStatus  `json:"status"`
	Payload   WebFormPayload `json:"payload"`
}

// WebFormPayload is what a form came to.
type WebFormPayload struct {
	BankConnectionID *int64       `json:"bankConnectionId" nullable:"true" doc:"Set once the form is COMPLETED: externalId of the data source."`
	ErrorCode        *FormFailure `json:"errorCode" nullable:"true"`
	ErrorMessage     *string      `json:"errorMessage" nullable:"true" doc:"For the developer."`
}

// Task is an update of a bank connection in the background.
type Task struct {
	ID        bankfeed.UUID `json:"id" format:"uuid"`
	CreatedAt FormTime      `json:"createdAt"`
	Type      TaskType      `json:"type"`
	Status    TaskStatus    `json:"status"`
	Payload   TaskPayload   `json:"payload"`
}

// TaskPayload is what a task works on, and what it came to.
type TaskPayload struct {
	BankConnectionID int64        `json:"bankConnectionId"`
	WebForm          *WebFormInfo `json:"webForm,omitempty" doc:"The form that the user is needed for, or was."`
	ErrorCode        *FormFailure `json:"errorCode" nullable:"true"`
	ErrorMessage     *string      `json:"errorMessage" nullable:"true" doc:"For the developer."`
}

// WebFormInfo is a form in a task.
type WebFormInfo struct {
	ID     bankfeed.UUID `json:"id" format:"uuid"`
	URL    string        `json:"url,omitempty" doc:"Send the user's browser there. A callback leaves it out, since it holds a secret: read the task."`
	Status WebFormStatus `json:"status"`
}

// WebForms and Tasks are pages of lists.
type (
	WebForms struct {
		Items  []WebForm `json:"items" nullable:"false"`
		Paging Paging    `json:"paging"`
	}
	Tasks struct {
		Items  []Task `json:"items" nullable:"false"`
		Paging Paging `json:"paging"`
	}
)

// Paging says which page of a list it is.
type Paging struct {
	Page       int `json:"page"`
	PerPage    int `json:"perPage"`
	PageCount  int `json:"pageCount"`
	TotalCount int `json:"totalCount"`
}

// WebFormType says what a form is for.
type WebFormType string

// WebFormTypes lists the types of forms.
var WebFormTypes = []WebFormType{"BANK_CONNECTION_IMPORT", "BANK_CONNECTION_UPDATE"}

// WebFormStatus is the state of a form.
type WebFormStatus string

// Statuses of a form. The last four are final.
const (
	FormNotYetOpened       WebFormStatus = "NOT_YET_OPENED"
	FormInProgress         WebFormStatus = "IN_PROGRESS"
	FormCompleted          WebFormStatus = "COMPLETED"
	FormCompletedWithError WebFormStatus = "COMPLETED_WITH_ERROR"
	FormExpired            WebFormStatus = "EXPIRED"
	FormAborted            WebFormStatus = "ABORTED"
)

// WebFormStatuses lists them.
var WebFormStatuses = []WebFormStatus{FormNotYetOpened, FormInProgress, FormCompleted, FormCompletedWithError, FormExpired, FormAborted}

// TaskType says what a task does.
type TaskType string

// TaskUpdate is the only one.
const TaskUpdate TaskType = "BANK_CONNECTION_UPDATE"

// TaskStatus is the state of a task.
type TaskStatus string

// Statuses of a task. The last two are final.
const (
	TaskNotYetStarted      TaskStatus = "NOT_YET_STARTED"
	TaskInProgress         TaskStatus = "IN_PROGRESS"
	TaskWebFormRequired    TaskStatus = "WEB_FORM_REQUIRED"
	TaskCompleted          TaskStatus = "COMPLETED"
	TaskCompletedWithError TaskStatus = "COMPLETED_WITH_ERROR"
)

// TaskStatuses lists them.
var TaskStatuses = []TaskStatus{TaskNotYetStarted, TaskInProgress, TaskWebFormRequired, TaskCompleted, TaskCompletedWithError}

// FormFailure says why a form or a task did not succeed.
type FormFailure string

// FormFailures are those that the hub writes; the vendor knows more.
var FormFailures = []FormFailure{"ENTITY_EXISTS", "BANK_SERVER_REJECTION", "INTERRUPTED", "MANDATOR_MISCONFIGURATION", "UNEXPECTED_ACCESS_RESPONSE",
	"UNSUPPORTED_FEATURE", "INTERNAL_ERROR"}

// Interface is how a bank is reached, as the vendor's clients choose it.
type Interface string

// Interfaces. To the hub the last two are one: credentials go through it.
const (
	XS2A        Interface = "XS2A"
	FinTSServer Interface = "FINTS_SERVER"
	WebScraper  Interface = "WEB_SCRAPER"
)

// Interfaces lists them.
var Interfaces = []Interface{XS2A, FinTSServer, WebScraper}

// Modes are the ways of the hub that a client's choice of interfaces allows; no
// choice is every way.
func Modes(chosen []Interface) (modes []bankfeed.Mode) {
	var redirect, embedded bool
	for _, i := range chosen {
		redirect = redirect || i == XS2A
		embedded = embedded || i != XS2A
	}
	if redirect {
		modes = append(modes, bankfeed.Redirect)
	}
	if embedded {
		modes = append(modes, bankfeed.Embedded)
	}
	return modes
}

// FormTime writes a moment as Web Form 2.0 does.
func (r Renderer) FormTime(t time.Time) FormTime { return FormTimeOf(t, r.Zone) }

// WebFormCallback tells of the end of a form.
type WebFormCallback struct {
	WebFormID bankfeed.UUID `json:"webFormId"`
	Status    WebFormStatus `json:"status"`
}

// TaskCallback tells that a task needs its user, or of its end.
type TaskCallback struct {
	TaskID  bankfeed.UUID `json:"taskId"`
	Status  TaskStatus    `json:"status"`
	WebForm *WebFormInfo  `json:"webForm,omitempty"`
}

func webFormCallback(r *bankfeed.RequestRef) ([]byte, error) {
	return json.Marshal(WebFormCallback{WebFormID: r.UUID, Status: WebFormStatus(r.Status)})
}

func taskCallback(r *bankfeed.RequestRef) ([]byte, error) {
	c := TaskCallback{TaskID: r.UUID, Status: TaskStatus(r.Status)}
	if p := r.Page; p != nil {
		c.WebForm = &WebFormInfo{ID: p.UUID, Status: WebFormStatus(p.Status)}
	}
	return json.Marshal(c)
}

// Codes of errors that Web Form 2.0 names otherwise than Access does.
const (
	CodeUnauthorized        ErrorCode = "UNAUTHORIZED"
	CodeNotFound            ErrorCode = "NOT_FOUND"
	CodeInternalServerError ErrorCode = "INTERNAL_SERVER_ERROR"
	CodeBankNotSupported    ErrorCode = "BANK_NOT_SUPPORTED"
)

// FormErrorCodes lists every code of an error of Web Form 2.0.
var FormErrorCodes = []ErrorCode{
	CodeBadRequest, CodeUnauthorized, CodeForbidden, CodeNotFound, CodeMethodNotAllowed, CodeUnsupportedMediaType, CodeIllegalEntityState, CodeLocked,
	CodeBankNotSupported, CodeTooManyRequests, CodeBankServerRejection, CodeInternalServerError,
}
