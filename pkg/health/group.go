package health

import "sync"

// Group is receivers that are watched from here at the same time. When half of
// them or more, and at least two, fall under suspicion together, the fault is
// probably ours: a starved process, or our own network. While that lasts, their
// detectors wait three times as long before they call anyone dead. It is Local
// Health Awareness as in "Lifeguard: SWIM-ing with Situational Awareness"
// (arXiv:1707.00788). The zero value is an empty group; methods are safe for
// concurrent use and on a nil group, which suspects nothing.
type Group struct {
	mu     sync.Mutex
	states map[string]State
}

// SelfSuspect reports whether we suspect ourselves.
func (g *Group) SelfSuspect() bool {
	if g == nil {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	suspects, members := 0, 0
	for _, s := range g.states {
		if s == Suspect {
			suspects++
		}
		if s != Dead { // the dead tell nothing about us
			members++
		}
	}
	return suspects >= 2 && 2*suspects >= members
}

// Remove takes a receiver out of the group.
func (g *Group) Remove(id string) {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.states, id)
}

func (g *Group) set(id string, s State) {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.states == nil {
		g.states = make(map[string]State)
	}
	g.states[id] = s
}
