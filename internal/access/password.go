package access

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/alexedwards/argon2id"

	"github.com/bankfeed/bankfeed"
)

// passwordParams are the second choice of OWASP's password storage cheat sheet:
// 19 MiB, two passes, one thread; about 40 ms.
var passwordParams = &argon2id.Params{Memory: 19 * 1024, Iterations: 2, Parallelism: 1, SaltLength: 16, KeyLength: 32}

// passwords hashes, with a bound on how much CPU and memory that takes at once.
type passwords struct {
	slots chan struct{}
	dummy func() (string, error) // a hash to compare with where there is none
}

func newPasswords(parallel int) *passwords {
	return &passwords{
		slots: make(chan struct{}, parallel),
		dummy: sync.OnceValues(func() (string, error) { return argon2id.CreateHash("", passwordParams) }),
	}
}

// slot waits until there is room for one more hash.
func (p *passwords) slot(ctx context.Context) (release func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case p.slots <- struct{}{}:
		return func() { <-p.slots }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *passwords) hash(ctx context.Context, password string) (string, error) {
	release, err := p.slot(ctx)
	if err != nil {
		return "", err
	}
	defer release()
	return argon2id.CreateHash(password, passwordParams)
}

// matches compares; an empty hash costs as much as any other and never
// matches. The caller holds a slot.
func (p *passwords) matches(password, hash string) (bool, error) {
	none := hash == ""
	if none {
		var err error
		if hash, err = p.dummy(); err != nil {
			return false, err
		}
	}
	ok, err := argon2id.ComparePasswordAndHash(password, hash)
	if err != nil {
		return false, fmt.Errorf("comparing a password: %w", err)
	}
	return ok && !none, nil
}

// Failed logins: freeFailures are free; each further one closes the login for
// twice as long as the one before, up to maxLock. An hour without a failure
// forgets them all.
const (
	freeFailures   = 5
	firstLock      = time.Second
	maxLock        = 15 * time.Minute
	forgetFailures = time.Hour
	maxLogins      = 20_000 // remembered at once
)

// loginKey is whom somebody tries to be: the user where there is one, so that
// a second name for it gives no more tries, else the name.
type loginKey struct {
	tenant bankfeed.TenantID
	user   bankfeed.UserID
	name   string
}

// failures counts failed logins. Each node counts for itself.
type failures struct {
	mu  sync.Mutex
	log *lru[loginKey, failed]
}

type failed struct {
	n    int
	last time.Time
	lock time.Time // closed until then
}

func newFailures() *failures { return &failures{log: newLRU[loginKey, failed](maxLogins)} }

// locked returns how long the login stays closed.
func (f *failures) locked(k loginKey, now time.Time) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	e, _ := f.log.get(k)
	return max(0, e.lock.Sub(now))
}

func (f *failures) add(k loginKey, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	e, _ := f.log.get(k)
	if now.Sub(e.last) > forgetFailures {
		e = failed{}
	}
	e.n++
	e.last = now
	if over := e.n - freeFailures; over >= 0 {
		e.lock = now.Add(min(maxLock, firstLock<<min(over, 20)))
	}
	f.log.put(k, e)
}

func (f *failures) forget(k loginKey) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.log.remove(k)
}

// checkPassword is one try at a login: nil, ErrGrant, or RateLimited while the
// login is closed.
func (s *Service) checkPassword(ctx context.Context, k loginKey, password, hash string) error {
	release, err := s.passwords.slot(ctx)
	if err != nil {
		return err
	}
	defer release()
	// Asked with the slot in hand: of many guesses at once only those that hold a slot can slip past.
	if wait := s.failures.locked(k, s.now()); wait > 0 {
		return &bankfeed.Error{Kind: bankfeed.RateLimited, Text: "too many failed logins", RetryAfter: wait}
	}
	ok, err := s.passwords.matches(password, hash)
	if err != nil {
		return err
	}
	if !ok {
		s.failures.add(k, s.now())
		return ErrGrant
	}
	s.failures.forget(k)
	return nil
}
