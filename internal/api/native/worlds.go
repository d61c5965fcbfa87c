package native

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/bankfeed/bankfeed"
)

// Worlds tells in which world a user lives, also one that was erased. Sandbox
// and live users of one tenant share its log; a client sees those of its own
// world.
type Worlds interface {
	// SandboxUser returns bankfeed.ErrNotFound for a user who never was.
	SandboxUser(ctx context.Context, tenant bankfeed.TenantID, user bankfeed.UserID) (bool, error)
}

// worlds remembers the answers, which never change.
type worlds struct {
	ask Worlds

	mu    sync.Mutex
	known map[userKey]bool
}

type userKey struct {
	tenant bankfeed.TenantID
	user   bankfeed.UserID
}

// maxKnown bounds the memory: about 3 MB.
const maxKnown = 1 << 16

func (w *worlds) sandbox(ctx context.Context, k userKey) (bool, error) {
	w.mu.Lock()
	sandbox, ok := w.known[k]
	w.mu.Unlock()
	if ok {
		return sandbox, nil
	}
	sandbox, err := w.ask.SandboxUser(ctx, k.tenant, k.user)
	if err != nil {
		return false, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.known) >= maxKnown || w.known == nil {
		w.known = map[userKey]bool{}
	}
	w.known[k] = sandbox
	return sandbox, nil
}

// visible keeps the events of a client's own world.
func (w *worlds) visible(ctx context.Context, client bankfeed.Client, events []bankfeed.Event) ([]bankfeed.Event, error) {
	var failed error
	kept := slices.DeleteFunc(events, func(e bankfeed.Event) bool {
		sandbox, err := w.sandbox(ctx, userKey{client.Tenant, e.User})
		if err != nil && !errors.Is(err, bankfeed.ErrNotFound) {
			failed = err
		}
		return err != nil || sandbox != client.Sandbox
	})
	return kept, failed
}
