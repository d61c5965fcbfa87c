package pollqueue

import (
	"context"
	"sync"
	"time"
)

// answering knows the queues of which this node is writing an answer, so that a
// client that polls again before the hub has noticed that its answer arrived
// does not get it twice. Nothing but time is lost with it.
type answering struct {
	patience time.Duration

	mu   sync.Mutex
	open map[string]*answer
}

type answer struct {
	n     int // pollers of one queue can be answered at the same time
	ended chan struct{}
}

func (s *answering) begin(id string) *answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.open[id]
	if a == nil {
		a = &answer{ended: make(chan struct{})}
		s.open[id] = a
	}
	a.n++
	return a
}

func (s *answering) end(id string, a *answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.n--; a.n == 0 {
		s.forget(id, a)
		close(a.ended)
	}
}

func (s *answering) forget(id string, a *answer) {
	if s.open[id] == a {
		delete(s.open, id)
	}
}

// previous waits for the end of the answers that are being written. After
// patience it goes on, and those that come later do not wait: a client that
// reads slowly, or is gone, must not keep another from its events.
func (s *answering) previous(ctx context.Context, id string) error {
	s.mu.Lock()
	a := s.open[id]
	s.mu.Unlock()
	if a == nil {
		return nil
	}
	t := time.NewTimer(s.patience)
	defer t.Stop()
	select {
	case <-a.ended:
	case <-t.C:
		s.mu.Lock()
		s.forget(id, a)
		s.mu.Unlock()
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}
