package pollqueue

import "time"

// SetPatience sets how long a poll waits for the end of the answer before it.
func (s *Queues) SetPatience(d time.Duration) { s.patience = d }

// Waiting is how many answers wait for the next transaction.
func (s *Queues) Waiting() int {
	s.commits.mu.Lock()
	defer s.commits.mu.Unlock()
	return len(s.waiting)
}
