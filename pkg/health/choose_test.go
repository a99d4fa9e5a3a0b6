package health

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/e27efefb/sluice/pkg/stamp"
)

func candidate(id string, srtt time.Duration, load uint8) Candidate {
	return Candidate{
		ID: id, State: Alive, Path: Path{SRTT: srtt, Samples: 1},
		Status: &stamp.Status{Serving: stamp.ServingYes, FreeSlots: 1, Load: load},
	}
}

// script returns the numbers one after the other.
func script(t *testing.T, numbers ...int) func(int) int {
	t.Helper()
	return func(n int) int {
		if len(numbers) == 0 || numbers[0] >= n {
			t.Fatalf("asked for a number below %d, have %v", n, numbers)
		}
		v := numbers[0]
		numbers = numbers[1:]
		return v
	}
}

func TestChoose(t *testing.T) {
	const ms = time.Millisecond
	a, b, c := candidate("a", 10*ms, 0), candidate("b", 20*ms, 0), candidate("c", 9*ms, 50)
	full, draining, notServing := candidate("full", ms, 0), candidate("draining", ms, 0), candidate("no", ms, 0)
	full.Status.FreeSlots, draining.Status.Flags, notServing.Status.Serving = 0, stamp.Draining, stamp.ServingNo
	dead, suspect, blocked, fresh := candidate("dead", ms, 0), candidate("suspect", ms, 0), candidate("blocked", ms, 0), Candidate{ID: "fresh"}
	dead.State, suspect.State, blocked.State = Dead, Suspect, UDPBlocked
	shaky := candidate("shaky", 5*ms, 0)
	shaky.Path.RTTVAR = 2 * ms // cost 13
	for _, tc := range []struct {
		name    string
		from    []Candidate
		current string
		random  []int
		want    string
	}{
		{"the cheaper of two", []Candidate{a, b}, "", []int{0, 0}, "a"},
		{"whichever comes first", []Candidate{a, b}, "", []int{1, 0}, "a"},
		{"only the two that were drawn", []Candidate{a, b, c}, "", []int{1, 1}, "c"},
		{"load counts", []Candidate{a, c}, "", []int{0, 0}, "a"}, // 10 against 9 * 1.5
		{"deviation counts", []Candidate{a, shaky}, "", []int{0, 0}, "a"},
		{"one alone", []Candidate{b}, "", []int{0}, "b"},
		{"leaves for 26 %", []Candidate{a, c}, "c", []int{0, 0}, "a"}, // 10 against 13.5
		{"stays", []Candidate{a, candidate("d", 12*ms, 0)}, "d", []int{0, 0}, "d"},
		{"leaves", []Candidate{a, candidate("d", 13*ms, 0)}, "d", []int{0, 0}, "a"},
		{"leaves what is gone", []Candidate{b, dead}, "dead", []int{0}, "b"},
		{"leaves what is full", []Candidate{b, full}, "full", []int{0}, "b"},
		{"passes over", []Candidate{full, draining, notServing, dead, suspect, blocked, fresh, b}, "", []int{0}, "b"},
		{"takes what does not say", []Candidate{full, draining, dead, suspect, fresh}, "", []int{0}, "fresh"},
		{"takes what is blocked", []Candidate{notServing, blocked}, "", []int{0}, "blocked"},
		{"none", []Candidate{full, draining, notServing, dead, suspect}, "", nil, ""},
		{"nobody", nil, "", nil, ""},
	} {
		i, ok := Choose(tc.from, tc.current, script(t, tc.random...))
		if ok {
			got := tc.from[i].ID
			if got != tc.want {
				t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
			}
		} else if tc.want != "" {
			t.Errorf("%s: none, want %s", tc.name, tc.want)
		}
	}
}

// TestChooseSpreads: of equals, all are taken; the worst of many never is.
func TestChooseSpreads(t *testing.T) {
	var from []Candidate
	for _, id := range []string{"a", "b", "c", "d"} {
		from = append(from, candidate(id, time.Millisecond, 0))
	}
	from = append(from, candidate("far", time.Second, 0))
	rnd := rand.New(rand.NewPCG(3, 4))
	count := make([]int, len(from))
	for range 10_000 {
		i, _ := Choose(from, "", rnd.IntN)
		count[i]++
	}
	for i, n := range count[:4] {
		if n < 2000 || n > 3000 {
			t.Errorf("%s was taken %d times of 10,000", from[i].ID, n)
		}
	}
	if count[4] != 0 {
		t.Errorf("the worst was taken %d times", count[4])
	}
}
