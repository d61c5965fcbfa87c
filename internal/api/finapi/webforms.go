package finapi

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/api/dialect"
	"github.com/bankfeed/bankfeed/internal/webform"
	"github.com/bankfeed/bankfeed/wire/finapi"
)

// Forms makes web forms and tasks: webform.Service.
type Forms interface {
	Import(ctx context.Context, o webform.Order) (webform.Form, error)
	Form(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id bankfeed.RequestID) (webform.Form, error)
	Forms(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID) ([]webform.Form, error)
	Abort(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id bankfeed.RequestID) error
	Update(ctx context.Context, o webform.UpdateOrder) (webform.Task, error)
	Task(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID, id bankfeed.RequestID) (webform.Task, error)
	Tasks(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID) ([]webform.Task, error)
}

func (a *API) webFormOperations() []*dialect.Operation {
	const formID, taskID = webForms + "/{id}", tasks + "/{id}"
	return []*dialect.Operation{
		{
			Method: "POST", Paths: []string{webForms + "/bankConnectionImport"}, ID: "createForBankConnectionImport", Tag: "webForms", Token: dialect.UserToken,
			Summary: "Make a web form on which the user connects a bank", Body: typeOf[formRequest](), Optional: true, Status: http.StatusCreated, Answer: typeOf[finapi.WebForm](),
			Also: []int{http.StatusUnprocessableEntity, http.StatusUnsupportedMediaType}, Handle: a.importForm,
			About: "Send the user's browser to the url of the answer within 20 minutes. callbacks.finalised is called when the form has ended, in whichever way; " +
				"a COMPLETED form names the bank connection, whose data was read by then.",
		},
		{
			Method: "GET", Paths: []string{webForms}, ID: "getWebForms", Tag: "webForms", Token: dialect.UserToken, Summary: "List the user's web forms",
			Params: pagingParams, Status: http.StatusOK, Answer: typeOf[finapi.WebForms](), Handle: a.listForms,
			About: "The newest " + strconv.Itoa(webform.MaxListed) + " at most.",
		},
		{
			Method: "GET", Paths: []string{formID}, ID: "getWebForm", Tag: "webForms", Token: dialect.UserToken, Summary: "Read a web form",
			Status: http.StatusOK, Answer: typeOf[finapi.WebForm](), Handle: a.getForm, About: "Poll it once a second at most; a callback is better.",
		},
		{
			Method: "DELETE", Paths: []string{formID}, ID: "deleteWebForm", Tag: "webForms", Token: dialect.UserToken, Summary: "Give a web form up",
			Status: http.StatusNoContent, Handle: a.abortForm,
			About: "One that has not ended is ABORTED, and what it began is removed; one that has ended stays as it is.",
		},
		{
			Method: "POST", Paths: []string{tasks + "/backgroundUpdate"}, ID: "createBankConnectionUpdateTask", Tag: "tasks", Token: dialect.UserToken,
			Summary: "Bring a bank connection up to date", Params: []dialect.Param{dialect.PSUAddress, dialect.PSUAgent}, Body: typeOf[updateRequest](),
			Status: http.StatusCreated, Answer: typeOf[finapi.Task](), Handle: a.updateTask,
			Also: []int{http.StatusNotFound, http.StatusUnprocessableEntity, http.StatusUnsupportedMediaType},
			About: "Its bank is asked at once, in the background. If the bank wants to see the user the task becomes WEB_FORM_REQUIRED, callbacks.webFormRequired is called, and the task has a " +
				"web form: it goes on when the form has ended. callbacks.finalised is called when the task has ended.",
		},
		{
			Method: "GET", Paths: []string{tasks}, ID: "getTasks", Tag: "tasks", Token: dialect.UserToken, Summary: "List the user's tasks",
			Params: pagingParams, Status: http.StatusOK, Answer: typeOf[finapi.Tasks](), Handle: a.listTasks,
			About: "The newest " + strconv.Itoa(webform.MaxListed) + " at most.",
		},
		{
			Method: "GET", Paths: []string{taskID}, ID: "getTask", Tag: "tasks", Token: dialect.UserToken, Summary: "Read a task",
			Status: http.StatusOK, Answer: typeOf[finapi.Task](), Handle: a.getTask, About: "Poll it once a second at most; a callback is better.",
		},
	}
}

type formRequest struct {
	Bank struct {
		ID     int64  `json:"id,omitempty" doc:"The only bank to choose, by its number."`
		Search string `json:"search,omitempty" maxLength:"255" doc:"What the list of banks begins with: words of a name, or a BIC. Where one bank fits it is chosen."`
	} `json:"bank,omitempty" nullable:"false"`
	AllowedInterfaces []finapi.Interface `json:"allowedInterfaces,omitempty" nullable:"false" maxItems:"3" enum:"XS2A,FINTS_SERVER,WEB_SCRAPER" doc:"XS2A is the bank's own pages, the others the login on a page of the hub."`
	Callbacks         struct {
		Finalised bankfeed.Secret `json:"finalised,omitempty" maxLength:"2048" doc:"Told when the form has ended: absolute, any port; https for live clients."`
	} `json:"callbacks,omitempty" nullable:"false"`
	RedirectURL string `json:"redirectUrl,omitempty" maxLength:"2048" doc:"Where the user goes once the form is COMPLETED; https for live clients."`
}

func (a *API) importForm(c *dialect.Call) error {
	var body formRequest
	if err := c.Body(&body); err != nil {
		return err
	}
	o := webform.Order{Tenant: c.Tenant(), User: c.Caller.User, Client: c.Caller.Client.ID, Sandbox: c.Caller.Client.Sandbox,
		Search: body.Bank.Search, Modes: finapi.Modes(body.AllowedInterfaces), RedirectURL: body.RedirectURL}
	if body.Bank.ID != 0 {
		if body.Bank.Search != "" {
			return bankfeed.InvalidField("bank.search", "cannot be given together with bank.id")
		}
		o.Bank = strconv.FormatInt(body.Bank.ID, 10)
	}
	var err error
	if o.Callbacks, err = a.callbacks(c, named{"callbacks.finalised", body.Callbacks.Finalised, bankfeed.MomentFinished}); err != nil {
		return err
	}
	f, err := a.Forms.Import(c.Context(), o)
	var e *bankfeed.Error
	if errors.As(err, &e) && e.Kind == bankfeed.NotFound && e.Field == "bank.id" {
		return &fault{http.StatusUnprocessableEntity, finapi.CodeBankNotSupported, "bank.id", e.Text}
	}
	if err != nil {
		return err
	}
	return c.Write(http.StatusCreated, a.webForm(f))
}

// named is a URL that a client wants to be called at some moment.
type named struct {
	field  string
	url    bankfeed.Secret
	moment bankfeed.CallbackMoment
}

func (a *API) callbacks(c *dialect.Call, urls ...named) (all []bankfeed.RequestCallback, err error) {
	for _, u := range urls {
		one, err := a.callback(c, u.field, u.url, u.moment)
		if err != nil {
			return nil, err
		}
		if one != nil {
			all = append(all, *one)
		}
	}
	return all, nil
}

type updateRequest struct {
	BankConnectionID  int64              `json:"bankConnectionId" minimum:"1" doc:"externalId of the data source."`
	AllowedInterfaces []finapi.Interface `json:"allowedInterfaces,omitempty" nullable:"false" maxItems:"3" enum:"XS2A,FINTS_SERVER,WEB_SCRAPER" doc:"Which of them the user may be asked for."`
	Callbacks         struct {
		Finalised       bankfeed.Secret `json:"finalised,omitempty" maxLength:"2048" doc:"Told when the task has ended."`
		WebFormRequired bankfeed.Secret `json:"webFormRequired,omitempty" maxLength:"2048" doc:"Told when the task needs its user."`
	} `json:"callbacks,omitempty" nullable:"false"`
	RedirectURL string `json:"redirectUrl,omitempty" maxLength:"2048" doc:"Where the user goes after a form, once it is COMPLETED; https for live clients."`
}

func (a *API) updateTask(c *dialect.Call) error {
	var body updateRequest
	if err := c.Body(&body); err != nil {
		return err
	}
	o := webform.UpdateOrder{Tenant: c.Tenant(), User: c.Caller.User, Client: c.Caller.Client.ID, Sandbox: c.Caller.Client.Sandbox,
		Connection: bankfeed.ConnectionID(body.BankConnectionID), Modes: finapi.Modes(body.AllowedInterfaces), RedirectURL: body.RedirectURL}
	var err error
	if o.PSU, err = c.PSU(); err != nil {
		return err
	}
	if o.Callbacks, err = a.callbacks(c, named{"callbacks.finalised", body.Callbacks.Finalised, bankfeed.MomentFinished},
		named{"callbacks.webFormRequired", body.Callbacks.WebFormRequired, bankfeed.MomentUserNeeded}); err != nil {
		return err
	}
	k, err := a.Forms.Update(c.Context(), o)
	if err != nil {
		return err
	}
	return c.Write(http.StatusCreated, a.task(k))
}

func (a *API) getForm(c *dialect.Call) error {
	id, err := pathID[bankfeed.RequestID](a, c, "id", bankfeed.KindRequest)
	if err != nil {
		return err
	}
	f, err := a.Forms.Form(c.Context(), c.Tenant(), c.Caller.User, id)
	if err != nil {
		return err
	}
	return c.Write(http.StatusOK, a.webForm(f))
}

func (a *API) abortForm(c *dialect.Call) error {
	id, err := pathID[bankfeed.RequestID](a, c, "id", bankfeed.KindRequest)
	if err != nil {
		return err
	}
	if err := a.Forms.Abort(c.Context(), c.Tenant(), c.Caller.User, id); err != nil {
		return err
	}
	return c.Write(http.StatusNoContent, nil)
}

func (a *API) getTask(c *dialect.Call) error {
	id, err := pathID[bankfeed.RequestID](a, c, "id", bankfeed.KindRequest)
	if err != nil {
		return err
	}
	k, err := a.Forms.Task(c.Context(), c.Tenant(), c.Caller.User, id)
	if err != nil {
		return err
	}
	return c.Write(http.StatusOK, a.task(k))
}

func (a *API) listForms(c *dialect.Call) error {
	forms, err := a.Forms.Forms(c.Context(), c.Tenant(), c.Caller.User)
	if err != nil {
		return err
	}
	page, paging, err := pageOf(c, forms)
	if err != nil {
		return err
	}
	drawn := finapi.WebForms{Items: []finapi.WebForm{}, Paging: paging}
	for _, f := range page {
		drawn.Items = append(drawn.Items, a.webForm(f))
	}
	return c.Write(http.StatusOK, drawn)
}

func (a *API) listTasks(c *dialect.Call) error {
	all, err := a.Forms.Tasks(c.Context(), c.Tenant(), c.Caller.User)
	if err != nil {
		return err
	}
	page, paging, err := pageOf(c, all)
	if err != nil {
		return err
	}
	drawn := finapi.Tasks{Items: []finapi.Task{}, Paging: paging}
	for _, k := range page {
		drawn.Items = append(drawn.Items, a.task(k))
	}
	return c.Write(http.StatusOK, drawn)
}

// Parameters of lists.
var (
	orderParam = dialect.Param{Name: "order", Schema: dialect.OneOf([]string{"createdAt", "createdAt,asc", "createdAt,desc"}), Doc: "Oldest first, unless it says desc."}
	pageParam  = dialect.Param{Name: "page", Schema: dialect.Integer(1, webform.MaxListed, 1)}
	sizeParam  = dialect.Param{Name: "perPage", Schema: dialect.Integer(1, 100, 20)}

	pagingParams = []dialect.Param{orderParam, pageParam, sizeParam}
)

// pageOf cuts a page out of a list that comes newest first.
func pageOf[T any](c *dialect.Call, all []T) ([]T, finapi.Paging, error) {
	order, err := c.Text(orderParam)
	if err != nil {
		return nil, finapi.Paging{}, err
	}
	page, err := c.Integer(pageParam)
	if err != nil {
		return nil, finapi.Paging{}, err
	}
	size, err := c.Integer(sizeParam)
	if err != nil {
		return nil, finapi.Paging{}, err
	}
	if order != "createdAt,desc" {
		slices.Reverse(all)
	}
	p := finapi.Paging{Page: page, PerPage: size, PageCount: (len(all) + size - 1) / size, TotalCount: len(all)}
	from := min((page-1)*size, len(all))
	return all[from:min(from+size, len(all))], p, nil
}

func (a *API) webForm(f webform.Form) finapi.WebForm {
	w := finapi.WebForm{ID: f.UUID, URL: string(f.URL), CreatedAt: a.render.FormTime(f.CreatedAt), ExpiresAt: a.render.FormTime(f.ExpiresAt),
		Type: finapi.WebFormType(f.Type), Status: finapi.WebFormStatus(f.Status)}
	if f.Connection != 0 {
		n := int64(f.Connection)
		w.Payload.BankConnectionID = &n
	}
	w.Payload.ErrorCode, w.Payload.ErrorMessage = failure(f.Code, f.Message)
	return w
}

func (a *API) task(k webform.Task) finapi.Task {
	t := finapi.Task{ID: k.UUID, CreatedAt: a.render.FormTime(k.CreatedAt), Type: finapi.TaskUpdate, Status: finapi.TaskStatus(k.Status)}
	t.Payload.BankConnectionID = int64(k.Connection)
	t.Payload.ErrorCode, t.Payload.ErrorMessage = failure(k.Code, k.Message)
	if k.Form != nil {
		t.Payload.WebForm = &finapi.WebFormInfo{ID: k.Form.UUID, URL: string(k.Form.URL), Status: finapi.WebFormStatus(k.Form.Status)}
	}
	return t
}

func failure(code webform.Code, message string) (*finapi.FormFailure, *string) {
	if code == "" {
		return nil, nil
	}
	f := finapi.FormFailure(code)
	return &f, &message
}

// formCode is the word of Web Form 2.0 for a code of Access.
func formCode(code finapi.ErrorCode) finapi.ErrorCode {
	switch code {
	case finapi.CodeUnknownEntity:
		return finapi.CodeNotFound
	case finapi.CodeUnexpectedError:
		return finapi.CodeInternalServerError
	case finapi.CodeMissingField, finapi.CodeIllegalFieldValue:
		return finapi.CodeBadRequest
	case "":
		return finapi.CodeUnauthorized
	}
	return code
}
