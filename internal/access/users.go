package access

import (
	"context"
	"errors"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/bankfeed/bankfeed"
)

// NewUser is what a client says about a user it creates. All may be empty;
// without a password the user cannot log in, and the client acts for it.
type NewUser struct {
	ExternalID      string // unique in the tenant
	Email           string // unique in the tenant, whatever its case
	Password        bankfeed.Secret
	BusinessContext bankfeed.BusinessContext
	// AnyCase: the external id names the user in any case, and is unique so.
	AnyCase    bool
	Contact    bankfeed.Contact
	NoAutoSync bool
}

// User is a user as it is stored.
type User struct {
	bankfeed.User
	FoldedID     string // the external id in lower case, if it names the user in any case
	Sandbox      bool
	PasswordHash string // argon2id in its usual text form; empty without a password
}

// UserKey names a user in one of four ways; exactly one field is set.
type UserKey struct {
	ID         bankfeed.UserID
	ExternalID string
	FoldedID   string
	Email      string // in any case
}

// UserStore keeps users.
type UserStore interface {
	// CreateUser numbers and stores a user. It returns a Conflict that names
	// external_id or email if that is taken in the tenant.
	CreateUser(ctx context.Context, tenant bankfeed.TenantID, u User) (bankfeed.UserID, error)
	// FindUser returns bankfeed.ErrNotFound for an erased user too.
	FindUser(ctx context.Context, tenant bankfeed.TenantID, key UserKey) (User, error)
	// ListUsers returns users with numbers above after, in order.
	ListUsers(ctx context.Context, tenant bankfeed.TenantID, sandbox bool, after bankfeed.UserID, limit int) ([]User, error)
	// EraseUser ends a user: nobody finds it, its login and tokens are gone, its
	// external id is free. The row stays. Doing it twice changes nothing.
	EraseUser(ctx context.Context, tenant bankfeed.TenantID, id bankfeed.UserID, now time.Time) error
}

// Bounds of what a user is made of.
const (
	maxExternalID = 255 // bytes
	maxEmail      = 320 // bytes
	minPassword   = 6   // characters; finAPI's bound
	maxPassword   = 512 // bytes
)

// CreateUser makes a user of the caller's tenant, in the sandbox if the client
// is. It returns Invalid or Conflict naming the field (external_id, email,
// password, business_context), and Forbidden to a user token.
func (s *Service) CreateUser(ctx context.Context, caller bankfeed.Caller, n NewUser) (bankfeed.User, error) {
	if caller.User != 0 {
		return bankfeed.User{}, errClientToken
	}
	if n.ExternalID != "" {
		if err := checkText("external_id", n.ExternalID, maxExternalID); err != nil {
			return bankfeed.User{}, err
		}
	}
	if n.Email != "" {
		if err := checkEmail(n.Email); err != nil {
			return bankfeed.User{}, err
		}
	}
	bc, ok := bankfeed.ParseBusinessContext(string(n.BusinessContext))
	if !ok {
		return bankfeed.User{}, bankfeed.InvalidField("business_context", "must be individual or business")
	}
	u := User{
		User: bankfeed.User{ExternalID: n.ExternalID, Email: n.Email, BusinessContext: bc, CreatedAt: s.now().UTC().Truncate(time.Microsecond),
			Contact: n.Contact, NoAutoSync: n.NoAutoSync},
		Sandbox: caller.Client.Sandbox,
	}
	if n.AnyCase {
		u.FoldedID = strings.ToLower(n.ExternalID)
	}
	if text := string(n.Password); text != "" {
		if utf8.RuneCountInString(text) < minPassword || len(text) > maxPassword {
			return bankfeed.User{}, bankfeed.InvalidField("password", "must have at least %d characters and at most %d bytes", minPassword, maxPassword)
		}
		var err error
		if u.PasswordHash, err = s.passwords.hash(ctx, text); err != nil {
			return bankfeed.User{}, err
		}
	}
	var err error
	u.ID, err = s.store.CreateUser(ctx, caller.Client.Tenant, u)
	if err != nil {
		return bankfeed.User{}, err
	}
	return u.User, nil
}

// errClientToken answers a user token where only the client may act.
var errClientToken = &bankfeed.Error{Kind: bankfeed.Forbidden, Text: "this needs a client token"}

// User returns a user that the caller may act for; any other is
// bankfeed.ErrNotFound.
func (s *Service) User(ctx context.Context, caller bankfeed.Caller, id bankfeed.UserID) (bankfeed.User, error) {
	return s.find(ctx, caller, UserKey{ID: id})
}

// UserByExternalID is User by the client's own id.
func (s *Service) UserByExternalID(ctx context.Context, caller bankfeed.Caller, externalID string) (bankfeed.User, error) {
	return s.find(ctx, caller, UserKey{ExternalID: externalID})
}

func (s *Service) find(ctx context.Context, caller bankfeed.Caller, key UserKey) (bankfeed.User, error) {
	u, err := s.findUser(ctx, caller.Client, key)
	if err != nil {
		return bankfeed.User{}, err
	}
	if caller.User != 0 && caller.User != u.ID {
		return bankfeed.User{}, bankfeed.ErrNotFound
	}
	return u.User, nil
}

// findUser keeps tenants apart, and sandbox from live.
func (s *Service) findUser(ctx context.Context, client bankfeed.Client, key UserKey) (User, error) {
	text := key.ExternalID + key.FoldedID + key.Email
	if key == (UserKey{}) || text != "" && checkText("", text, maxEmail) != nil {
		return User{}, bankfeed.ErrNotFound // no such user can have been made, and a database refuses some texts
	}
	u, err := s.store.FindUser(ctx, client.Tenant, key)
	if err != nil {
		return User{}, err
	}
	if u.Sandbox != client.Sandbox {
		return User{}, bankfeed.ErrNotFound
	}
	return u, nil
}

// Subject is the user that a request is about: the caller's own with a user
// token, the named one with a client token. named is 0 if the request names
// nobody, which is Invalid for a client token. A user that the caller may not
// act for is bankfeed.ErrNotFound.
func (s *Service) Subject(ctx context.Context, caller bankfeed.Caller, named bankfeed.UserID) (bankfeed.User, error) {
	if named == 0 {
		named = caller.User
	}
	if named == 0 {
		return bankfeed.User{}, bankfeed.InvalidField("user_id", "a client token must name the user")
	}
	return s.User(ctx, caller, named)
}

// Users lists the client's users with numbers above after, at most limit of
// them (1 to 500); Forbidden to a user token.
func (s *Service) Users(ctx context.Context, caller bankfeed.Caller, after bankfeed.UserID, limit int) ([]bankfeed.User, error) {
	if caller.User != 0 {
		return nil, errClientToken
	}
	rows, err := s.store.ListUsers(ctx, caller.Client.Tenant, caller.Client.Sandbox, after, min(max(limit, 1), 500))
	if err != nil {
		return nil, err
	}
	users := make([]bankfeed.User, len(rows))
	for i, u := range rows {
		users[i] = u.User
	}
	return users, nil
}

// MarkErased ends a user: its tokens are gone, nobody finds it, its external
// id and email are free again. The row stays as a stub. It may be repeated;
// bankfeed.ErrNotFound if there never was such a user.
func (s *Service) MarkErased(ctx context.Context, tenant bankfeed.TenantID, id bankfeed.UserID) error {
	return s.store.EraseUser(ctx, tenant, id, s.now())
}

// login finds the user that a name stands for: an external id, in any case if
// the user was made so, an email address, or the UUID that finAPI clients use for
// a user without an external id. The first of these wins.
func (s *Service) login(ctx context.Context, client bankfeed.Client, name string) (User, error) {
	keys := []UserKey{{ExternalID: name}, {FoldedID: strings.ToLower(name)}, {Email: name}}
	if id, err := bankfeed.ParseUUID(name); err == nil {
		if n, ok := s.in.Number(id, bankfeed.KindUser, client.Tenant); ok {
			keys = append(keys, UserKey{ID: bankfeed.UserID(n)})
		}
	}
	for _, k := range keys {
		u, err := s.findUser(ctx, client, k)
		if !errors.Is(err, bankfeed.ErrNotFound) {
			return u, err
		}
	}
	return User{}, bankfeed.ErrNotFound
}

// checkText refuses what is empty, longer than limit bytes, not UTF-8, or
// holds control characters.
func checkText(field, s string, limit int) error {
	switch {
	case s == "":
		return bankfeed.InvalidField(field, "must not be empty")
	case len(s) > limit:
		return bankfeed.InvalidField(field, "must have at most %d bytes", limit)
	case !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl):
		return bankfeed.InvalidField(field, "holds characters that are not allowed")
	}
	return nil
}

// checkEmail refuses what can be no address. It does not say that the address
// exists.
func checkEmail(s string) error {
	if err := checkText("email", s, maxEmail); err != nil {
		return err
	}
	if i := strings.LastIndexByte(s, '@'); i < 1 || i == len(s)-1 || strings.ContainsFunc(s, unicode.IsSpace) {
		return bankfeed.InvalidField("email", "is not an email address")
	}
	return nil
}
