package finapi

import (
	"github.com/bankfeed/bankfeed"
)

// User is a user of Access.
type User struct {
	ID                  string  `json:"id" doc:"Your own id of the user, else the hub's."`
	Password            string  `json:"password" doc:"In clear in the answer that created the user, XXXXX in any other."`
	Email               *string `json:"email" nullable:"true"`
	Phone               *string `json:"phone" nullable:"true"`
	IsAutoUpdateEnabled bool    `json:"isAutoUpdateEnabled" doc:"Whether the hub reads new bank connections of the user every day by itself."`
}

// HiddenPassword stands for every password but a new user's.
const HiddenPassword = "XXXXX"

// User draws a user. password is the one that was just set, else empty.
func (r Renderer) User(tenant bankfeed.TenantID, u bankfeed.User, password bankfeed.Secret) User {
	w := User{ID: u.ExternalID, Password: string(password), Email: orNil(u.Contact.Email), Phone: orNil(u.Contact.Phone), IsAutoUpdateEnabled: !u.NoAutoSync}
	if w.ID == "" {
		w.ID = r.Installation.UUID(bankfeed.KindUser, tenant, int64(u.ID)).String()
	}
	if w.Password == "" {
		w.Password = HiddenPassword
	}
	if w.Email == nil {
		w.Email = orNil(u.Email)
	}
	return w
}

// DeletionStarted is the answer to the erasure of a user's data.
type DeletionStarted struct {
	DeletionID bankfeed.UUID `json:"deletionId" format:"uuid"`
}

// Deletion is how far it has come.
type Deletion struct {
	DeletionID   bankfeed.UUID    `json:"deletionId" format:"uuid"`
	Status       DeletionStatus   `json:"status" doc:"SUCCESSFUL when every copy is gone."`
	CreationDate Time             `json:"creationDate"`
	Modules      []DeletionModule `json:"modules" nullable:"false"`
}

// DeletionModule is one kind of data in it.
type DeletionModule struct {
	Module string         `json:"module" doc:"What kind of data; the list may grow." example:"TRANSACTIONS"`
	Status DeletionStatus `json:"status"`
}

// DeletionStatus says whether data is gone.
type DeletionStatus string

// Statuses of a deletion. It is tried until it is done, so there is no third.
const (
	DeletionInProgress DeletionStatus = "IN_PROGRESS"
	DeletionSuccessful DeletionStatus = "SUCCESSFUL"
)

// DeletionStatuses lists them.
var DeletionStatuses = []DeletionStatus{DeletionInProgress, DeletionSuccessful}

// DeletionStatusOf is the status of what is done or not.
func DeletionStatusOf(done bool) DeletionStatus {
	if done {
		return DeletionSuccessful
	}
	return DeletionInProgress
}

// Process is an errand with a user of its own.
type Process struct {
	ProcessToken   string `json:"processToken" doc:"Exchange it for a user token. It is shown here only."`
	CreationDate   Time   `json:"creationDate"`
	ExpirationDate Time   `json:"expirationDate" doc:"When the token ends, and the user and its data are erased."`
	ExchangesLeft  int    `json:"exchangesLeft"`
}

// ProcessUser is the answer to an exchange: a token of the process's user, in
// the shape of the token endpoint.
type ProcessUser struct {
	AccessToken    string `json:"access_token"`
	TokenType      string `json:"token_type" example:"bearer"`
	ExpiresIn      int64  `json:"expires_in" doc:"In seconds."`
	Scope          string `json:"scope" example:"all"`
	ExpirationDate Time   `json:"expirationDate" doc:"Of the process."`
	ExchangesLeft  int    `json:"exchangesLeft" doc:"0 once the process's token was invalidated."`
}
