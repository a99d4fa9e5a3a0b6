package main

import "fmt"

// goal is a ratio, or an amount, that is to be reached. The source is the
// project's list of goals for two cores; a goal with a star is the bench's own.
type goal struct {
	says   string
	value  float64 // 0: not measured
	want   float64
	atMost bool // value is to be at most want, else at least
	format string
}

// verdict says whether it was reached.
func (g *goal) verdict() string {
	switch {
	case g.value == 0:
		return "not measured"
	case g.atMost == (g.value <= g.want) || g.value == g.want:
		return "reached"
	default:
		return "**not reached**"
	}
}

// show formats an amount of the goal.
func (g *goal) show(v float64) string {
	if v == 0 {
		return "–"
	}
	return fmt.Sprintf(g.format, v)
}

const (
	blake3, xxh3, none = "sluice blake3", "sluice xxh3", "sluice none"
	rsyncName, tarName = "rsync", "tar over a socket"
	bareOne, bareFour  = "bare loop", "bare loop, 4 lanes"
)

// goals holds the results against what is to be reached. Names of cases are
// those of this run's sizes.
func (r *results) goals(s sizing) []goal {
	big, small, durable := "tmpfs/"+s.bigName(), "tmpfs/"+s.smallName(), "ext4/"+s.durableName()
	var all []goal
	speed := func(name, mine, other string, want float64, says string) {
		g := goal{says: says, want: want, format: "%.2f ×"}
		if c := r.report(name); c != nil {
			g.value = c.find(mine).faster(c.find(other))
		}
		all = append(all, g)
	}
	speed(big, none, bareOne, 0.9, "one big file, `none`, against the bare loop")
	speed(big, none, rsyncName, 1.8, "one big file, `none`, against rsync")
	speed(big, xxh3, rsyncName, 1.5, "one big file, `xxh3`, against rsync")
	speed(big, blake3, rsyncName, 1.2, "one big file, `blake3`, against rsync")
	cpu := goal{says: "one big file, CPU seconds per GB, `xxh3` against rsync", want: 1, atMost: true, format: "%.2f ×"}
	if c := r.report(big); c != nil {
		if mine, other := c.find(xxh3), c.find(rsyncName); mine != nil && other != nil && other.cpu().median > 0 {
			cpu.value = float64(mine.cpu().median) / float64(other.cpu().median)
		}
	}
	all = append(all, cpu)
	speed(small, blake3, rsyncName, 2, "many small files, `blake3`, against rsync")
	speed(small, blake3, tarName, 1, "many small files, `blake3`, against tar over a socket")
	speed(durable, blake3, tarName, 0.5, "many small files durable on ext4, `blake3`, against tar and a sync")
	for _, loss := range []float64{0, 0.01} {
		place := wan{loss: loss}.name()
		overRsync := 1.4
		if loss > 0 {
			overRsync = 2
		}
		for i, size := range s.wan {
			overBare := []float64{0.85, 0.95}[min(i, 1)]
			name, says := place+"/"+amountName(size), fmt.Sprintf("link with %g %% loss, %s, `blake3`, against ", loss*100, amount(size))
			speed(name, blake3, bareFour, overBare, says+"the bare loop with four lanes")
			speed(name, blake3, rsyncName, overRsync, says+"rsync")
		}
	}
	const mib = 1 << 20
	for _, kind := range []struct {
		tree bool
		says string
		want float64 // MiB
	}{{false, "peak memory of one process, any size of file", 64}, {true, "peak memory of one process, any number of files", 200}} {
		g := goal{says: kind.says, want: kind.want, atMost: true, format: "%.0f MiB"}
		upTo := ""
		for _, m := range r.growth {
			if m.tree == kind.tree && m.failed == "" {
				g.value, upTo = max(g.value, float64(max(m.send, m.recv))/mib), m.name
			}
		}
		if upTo != "" {
			g.says += " (measured up to " + upTo + ")"
		}
		all = append(all, g)
	}
	return append(all, r.serviceGoals(s)...)
}
