package pollqueue

import (
	"context"
	"sync"
)

// commits writes answers together: while one transaction is on its way, those
// that come share the next. With many pollers woken by one commit this is what
// keeps a database with one writer from queueing them up. The goroutine lives
// only while there is something to write.
type commits struct {
	store Store

	mu      sync.Mutex
	waiting []waiting
	writing bool
}

type waiting struct {
	answer Answer
	done   chan error
}

// commit returns when the answer is durable. It goes on when ctx ends: what was
// answered was answered.
func (c *commits) commit(ctx context.Context, a Answer) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	w := waiting{a, make(chan error, 1)}
	c.mu.Lock()
	c.waiting = append(c.waiting, w)
	if !c.writing {
		c.writing = true
		go c.write(context.WithoutCancel(ctx))
	}
	c.mu.Unlock()
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *commits) write(ctx context.Context) {
	for {
		c.mu.Lock()
		batch := c.waiting
		c.waiting = nil
		if len(batch) == 0 {
			c.writing = false
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		answers := make([]Answer, len(batch))
		for i, w := range batch {
			answers[i] = w.answer
		}
		once, cancel := context.WithTimeout(ctx, writeTimeout)
		err := c.store.AnswerQueues(once, answers)
		cancel()
		for _, w := range batch {
			w.done <- err
		}
	}
}
