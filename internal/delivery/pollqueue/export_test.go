package pollqueue

import "time"

// SetIdle sets how often a stream without events calls idle.
func (s *Queues) SetIdle(d time.Duration) { s.idle = d }

// Waiting is how many answers wait for the next transaction.
func (s *Queues) Waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.waiting)
}
