package jobs

// Counts tells how many jobs wait and run.
func (q *Queue) Counts() (waiting, running int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.pending), len(q.running)
}

// Depth tells how many unfinished jobs are in each state.
func (q *Queue) Depth() map[State]int {
	q.mu.Lock()
	defer q.mu.Unlock()
	d := map[State]int{Queued: 0, Waiting: 0, Running: len(q.running)}
	for _, p := range q.pending {
		if p.at.IsZero() {
			d[Queued]++
		} else {
			d[Waiting]++
		}
	}
	return d
}
