package bankfeed

import "time"

// BusinessContext says in which capacity a user holds accounts. It picks the
// bank's base URL, SCA page and products where a bank has two of them.
type BusinessContext string

// Business contexts; the default is Individual.
const (
	Individual BusinessContext = "individual"
	Business   BusinessContext = "business"
)

// ParseBusinessContext accepts the two words and the empty default.
func ParseBusinessContext(s string) (BusinessContext, bool) {
	switch BusinessContext(s) {
	case "", Individual:
		return Individual, true
	case Business:
		return Business, true
	}
	return "", false
}

// User is a PSU: the person or company whose accounts are read.
type User struct {
	ID              UserID
	ExternalID      string // the client's own id, if it gave one
	Email           string // the Oxlin login, if the user has one
	BusinessContext BusinessContext
	CreatedAt       time.Time
	Contact         Contact
	// NoAutoSync: its new connections are read when somebody asks for that, and
	// never by the schedule.
	NoAutoSync bool
}

// Contact is what a client noted about a user. The hub makes no use of it.
type Contact struct {
	Email, Phone string
}

// Client is one set of credentials of a tenant.
type Client struct {
	Tenant  TenantID
	ID      string // client_id
	Sandbox bool   // sees sandbox providers only; a live client sees none of them
	// CallbacksOnce: the callbacks of its requests are tried once, whatever comes
	// of it.
	CallbacksOnce bool
}

// Caller is who a request comes from: a client, and the user in whose name it
// acts. User is zero for a client token that names no user.
type Caller struct {
	Client Client
	User   UserID
	Scopes []string
}

// PSU is what the hub knows about the person in front of a screen. A nil PSU
// means that nobody is there: the access is unattended.
type PSU struct {
	IP        string // from the request's PSU-IP-Address header or the PSU's own browser; never invented
	UserAgent string
}

// Initiator says what set a piece of work in motion.
type Initiator string

// Initiators. ByUser covers API requests, link sessions and attended calls;
// ByBackground covers schedules, consent polls and token refreshes.
const (
	ByUser       Initiator = "user"
	ByBackground Initiator = "backgroundTask"
)
