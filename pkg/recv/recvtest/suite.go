package recvtest

import (
	"context"
	"strings"
	"testing"
)

// never marks a cell that cannot occur.
const never = "–"

// Run runs the suite. Doc is the path of docs/protocol.md; start makes a receiver
// with the given gate.
func Run(t *testing.T, doc string, start func(t *testing.T, gate *Gate) *Fixture) {
	t.Run("states", func(t *testing.T) { states(t, doc, start) })
	for _, c := range []struct {
		name string
		run  func(*testing.T, *Fixture)
	}{
		{"sizes", sizes}, {"trees", trees}, {"streams", streams}, {"faults", faults}, {"resume", resume}, {"aborted", aborted}, {"same name", sameName},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, start(t, &Gate{})) })
	}
}

// states tries every cell of the state table.
func states(t *testing.T, doc string, start func(t *testing.T, gate *Gate) *Fixture) {
	tab := readTable(t, doc)
	all, unwritten := calls()
	for _, r := range tab.rows {
		if all[r.call] == nil {
			t.Errorf("the table has the call %q, which nothing here tries", r.call)
		}
	}
	if len(tab.rows) != len(all) || len(tab.states) != 8 {
		t.Fatalf("the table has %d calls in %d states, want %d in 8", len(tab.rows), len(tab.states), len(all))
	}
	for _, state := range tab.states {
		t.Run(state, func(t *testing.T) {
			t.Parallel() // mostly waits for the disk
			ctx, cancel := context.WithTimeout(t.Context(), 4*Patience)
			defer cancel()
			gate := &Gate{}
			fx := start(t, gate)
			scenes := map[string]*scene{}
			if state == "parked" { // all at once, so that one restart will do
				for _, r := range tab.rows {
					scenes[r.call] = newScene(ctx, t, fx, gate, state, unwritten[r.call])
				}
				fx.Restart(t)
			}
			for _, r := range tab.rows {
				want := r.cells[state]
				if want == never {
					continue
				}
				t.Run(r.call, func(t *testing.T) {
					s := scenes[r.call]
					if s == nil {
						s = newScene(ctx, t, fx, gate, state, unwritten[r.call])
					} else {
						s.t, s.me, s.other = t, fx.As(owner), fx.As(stranger)
					}
					defer s.end()
					s.try(ctx, all[r.call], want)
				})
			}
		})
	}
}

// try makes the call and compares result and state with the cell.
func (s *scene) try(ctx context.Context, f call, cell string) {
	s.t.Helper()
	want, after, moves := strings.Cut(cell, " → ")
	if !moves {
		after = s.state
	}
	var got string
	switch {
	case strings.HasPrefix(want, "joins "):
		want = strings.TrimPrefix(want, "joins ")
		result := make(chan string, 1)
		go func() { result <- f(ctx, s) }()
		s.gate.release(s.id)
		got, after = <-result, "committed"
	default:
		want = strings.TrimPrefix(want, "cancels ")
		got = f(ctx, s)
	}
	if got != want {
		s.t.Errorf("%s, want %s", got, want)
	}
	if after == "parked" {
		after = "offering"
	}
	now := "unknown"
	if i, err := s.me.Get(ctx, s.id); err == nil {
		now = i.State.String()
	}
	if now != after {
		s.t.Errorf("then the state is %s, want %s", now, after)
	}
}
