package access

import (
	"container/list"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Limiter is a token bucket per key. It remembers a bounded number of keys and
// forgets the one that was quiet longest, whose bucket is the fullest. Each
// node counts for itself. A nil Limiter allows everything.
type Limiter[K comparable] struct {
	rate  rate.Limit
	burst int
	now   func() time.Time

	mu   sync.Mutex
	keys *lru[K, *rate.Limiter]
}

// NewLimiter allows perSecond requests a second per key and burst at once, for
// at most keys keys; perSecond 0 means no limit. now may be nil.
func NewLimiter[K comparable](perSecond, burst, keys int, now func() time.Time) *Limiter[K] {
	if perSecond <= 0 {
		return nil
	}
	if now == nil {
		now = time.Now
	}
	return &Limiter[K]{rate: rate.Limit(perSecond), burst: max(burst, 1), now: now, keys: newLRU[K, *rate.Limiter](keys)}
}

// Allow counts a request. 0 lets it pass; else it did not count and would pass
// after that time.
func (l *Limiter[K]) Allow(key K) (retryAfter time.Duration) {
	if l == nil {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b, ok := l.keys.get(key)
	if !ok {
		b = rate.NewLimiter(l.rate, l.burst)
		l.keys.put(key, b)
	}
	now := l.now()
	r := b.ReserveN(now, 1)
	if wait := r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
		return wait
	}
	return 0
}

// Middleware limits requests by the key that key finds; without one a request
// passes. refuse writes the answer in its dialect's shape: status 429 with
// RetryAfter(wait).
func (l *Limiter[K]) Middleware(key func(*http.Request) (K, bool), refuse func(w http.ResponseWriter, r *http.Request, wait time.Duration)) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if k, ok := key(r); ok {
				if wait := l.Allow(k); wait > 0 {
					refuse(w, r, wait)
					return
				}
			}
			next.ServeHTTP(w, r)
		})
	}
}

// RetryAfter is the value of that header: whole seconds, at least one.
func RetryAfter(wait time.Duration) string {
	return strconv.FormatInt(max(1, int64((wait+time.Second-1)/time.Second)), 10)
}

// lru is a map that forgets its least recently used key beyond a number of
// them. Not safe for concurrent use.
type lru[K comparable, V any] struct {
	max   int
	order *list.List // of entry[K, V], the latest first
	at    map[K]*list.Element
}

type entry[K comparable, V any] struct {
	key   K
	value V
}

func newLRU[K comparable, V any](most int) *lru[K, V] {
	return &lru[K, V]{max: max(most, 1), order: list.New(), at: map[K]*list.Element{}}
}

func (c *lru[K, V]) get(k K) (v V, ok bool) {
	e, ok := c.at[k]
	if !ok {
		return v, false
	}
	c.order.MoveToFront(e)
	return e.Value.(entry[K, V]).value, true
}

func (c *lru[K, V]) put(k K, v V) {
	if e, ok := c.at[k]; ok {
		e.Value = entry[K, V]{k, v}
		c.order.MoveToFront(e)
		return
	}
	c.at[k] = c.order.PushFront(entry[K, V]{k, v})
	if c.order.Len() > c.max {
		last := c.order.Back()
		delete(c.at, last.Value.(entry[K, V]).key)
		c.order.Remove(last)
	}
}

func (c *lru[K, V]) remove(k K) {
	if e, ok := c.at[k]; ok {
		delete(c.at, k)
		c.order.Remove(e)
	}
}
