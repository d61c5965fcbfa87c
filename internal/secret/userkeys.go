package secret

import (
	"bytes"
	"container/list"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/bankfeed/bankfeed"
)

// UserRef names a user across tenants.
type UserRef struct {
	Tenant bankfeed.TenantID
	User   bankfeed.UserID
}

// WrappedKey is a user's key as it is stored.
type WrappedKey struct {
	UserRef
	Wrapped []byte
}

// UserKeyStore holds the users' keys, wrapped, apart from the data and from its
// backups. Of a destroyed key a tombstone stays, so that "destroyed" can be told
// from "never made", and no key is ever made for that user again.
type UserKeyStore interface {
	// Get returns nil if the user has no key yet, ErrErased if it was destroyed.
	Get(ctx context.Context, user UserRef) ([]byte, error)
	// Put stores the user's first key and returns what is stored afterwards: its
	// own, or the key that was there before. ErrErased as for Get.
	Put(ctx context.Context, user UserRef, wrapped []byte) (stored []byte, err error)
	// Replace replaces old by new in one step, or returns ErrChanged.
	Replace(ctx context.Context, user UserRef, old, new []byte) error
	// Destroy overwrites the key by a tombstone, also where there was none yet.
	// It is durable when it returns; doing it again keeps the first time.
	Destroy(ctx context.Context, user UserRef, at time.Time) error
	// List returns up to limit keys after the given user, ordered by tenant and
	// user, without tombstones.
	List(ctx context.Context, after UserRef, limit int) ([]WrappedKey, error)
}

// UserKeysOptions has a usable zero value.
type UserKeysOptions struct {
	// Size is how many keys stay in memory: 10,000 by default, about 1 kB each.
	Size int
	// MaxAge is how long they do, and so how long an erasure by another node may
	// go unnoticed: a minute by default.
	MaxAge time.Duration
	Now    func() time.Time
}

// UserKeys gives each user a key of its own. Safe for concurrent use, and by
// several nodes on one store.
type UserKeys struct {
	keyring *Keyring
	store   UserKeyStore
	opts    UserKeysOptions

	mu      sync.Mutex
	entries map[UserRef]*list.Element
	order   list.List // of *cached, the most recently used first
	forgets int       // how often Forget was called
}

type cached struct {
	user   UserRef
	sealer *Sealer
	read   time.Time
}

// NewUserKeys returns the user keys in store, which keyring wraps.
func NewUserKeys(keyring *Keyring, store UserKeyStore, o UserKeysOptions) *UserKeys {
	if o.Size <= 0 {
		o.Size = 10_000
	}
	if o.MaxAge <= 0 {
		o.MaxAge = time.Minute
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &UserKeys{keyring: keyring, store: store, opts: o, entries: make(map[UserRef]*list.Element)}
}

// Sealer returns the sealer of a user and makes the user's key at first use. It
// returns ErrErased once the key was destroyed.
//
// It may read and write the key store. Call it before a transaction on the data
// begins, lest the two wait for each other's connection.
func (u *UserKeys) Sealer(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID) (*Sealer, error) {
	ref, now := UserRef{tenant, user}, u.opts.Now()
	s, forgets := u.lookup(ref, now)
	if s != nil {
		return s, nil
	}
	wrapped, err := u.store.Get(ctx, ref)
	if err == nil && wrapped == nil {
		wrapped, err = u.create(ctx, ref)
	}
	if err != nil {
		return nil, ref.wrap(err)
	}
	key, err := u.keyring.Open(ctx, wrapped, ref.aad())
	if err != nil {
		return nil, ref.wrap(err)
	}
	defer clear(key)
	if s, err = newSealer(key); err != nil {
		return nil, ref.wrap(err)
	}
	u.remember(&cached{ref, s, now}, forgets)
	return s, nil
}

// create makes the user's key, unless another node is faster; it returns the
// one that counts.
func (u *UserKeys) create(ctx context.Context, ref UserRef) ([]byte, error) {
	key := make([]byte, keySize)
	rand.Read(key)
	defer clear(key)
	wrapped, err := u.keyring.Seal(key, ref.aad())
	if err != nil {
		return nil, err
	}
	return u.store.Put(ctx, ref, wrapped)
}

// Destroy destroys the user's key for good: nothing sealed with it opens any
// more, on this node from now on, on others within MaxAge or after Forget.
func (u *UserKeys) Destroy(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID) error {
	ref := UserRef{tenant, user}
	err := u.store.Destroy(ctx, ref, u.opts.Now())
	u.Forget(tenant, user) // also after an error: it may have happened all the same
	if err != nil {
		return ref.wrap(err)
	}
	return nil
}

// Forget drops a key from memory, because another node destroyed it.
func (u *UserKeys) Forget(tenant bankfeed.TenantID, user bankfeed.UserID) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.forgets++
	if e := u.entries[UserRef{tenant, user}]; e != nil {
		u.drop(e)
	}
}

// Rewrap brings every user key under the keyring's primary key and returns how
// many it changed. progress, unless nil, gets the number looked at so far. Keys
// that do not open are left alone and reported at the end. It can be stopped
// and started again at any time.
func (u *UserKeys) Rewrap(ctx context.Context, progress func(seen int)) (changed int, err error) {
	const page = 500
	var after UserRef
	var seen, damaged int
	var first error
	for {
		keys, err := u.store.List(ctx, after, page)
		if err != nil {
			return changed, fmt.Errorf("secret: list user keys: %w", err)
		}
		for _, k := range keys {
			after = k.UserRef
			wrapped, err := u.keyring.Reseal(ctx, k.Wrapped, k.aad())
			if errors.Is(err, ErrOpen) || errors.Is(err, ErrUnknownKey) {
				if damaged++; first == nil {
					first = k.wrap(err)
				}
				continue
			}
			if err == nil && !bytes.Equal(wrapped, k.Wrapped) {
				if err = u.store.Replace(ctx, k.UserRef, k.Wrapped, wrapped); err == nil {
					changed++
				}
			}
			// Destroyed or re-wrapped by someone else meanwhile: nothing to do.
			if err != nil && !errors.Is(err, ErrChanged) && !errors.Is(err, ErrErased) {
				return changed, k.wrap(err)
			}
		}
		seen += len(keys)
		if progress != nil {
			progress(seen)
		}
		if len(keys) < page {
			break
		}
	}
	if damaged > 0 {
		return changed, fmt.Errorf("secret: %d user keys do not open, the first: %w", damaged, first)
	}
	return changed, nil
}

func (u *UserKeys) lookup(ref UserRef, now time.Time) (*Sealer, int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	e := u.entries[ref]
	if e == nil {
		return nil, u.forgets
	}
	c := e.Value.(*cached)
	if age := now.Sub(c.read); age < 0 || age >= u.opts.MaxAge {
		u.drop(e)
		return nil, u.forgets
	}
	u.order.MoveToFront(e)
	return c.sealer, u.forgets
}

// remember keeps c, unless a key was forgotten since c's caller began to read
// the store: it may be this one.
func (u *UserKeys) remember(c *cached, forgets int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.forgets != forgets {
		return
	}
	if e := u.entries[c.user]; e != nil {
		u.drop(e)
	}
	u.entries[c.user] = u.order.PushFront(c)
	if u.order.Len() > u.opts.Size {
		u.drop(u.order.Back())
	}
}

func (u *UserKeys) drop(e *list.Element) {
	delete(u.entries, u.order.Remove(e).(*cached).user)
}

func (r UserRef) aad() []byte { return AAD("user key", int64(r.Tenant), int64(r.User)) }

func (r UserRef) wrap(err error) error {
	return fmt.Errorf("key of user %d of tenant %d: %w", r.User, r.Tenant, err)
}
