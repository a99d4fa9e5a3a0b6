package main

import (
	"fmt"
	"strings"
)

const (
	notesBegin = "<!-- notes: kept when the page is written anew -->"
	notesEnd   = "<!-- end of notes -->"
)

// notes are what people wrote between the marks on the page of the last run.
func notes(page string) string {
	_, rest, ok := strings.Cut(page, notesBegin)
	if !ok {
		return "\n"
	}
	kept, _, _ := strings.Cut(rest, notesEnd)
	return kept
}

// page is docs/performance.md.
func (r *results) page(text, notes string) string {
	var b strings.Builder
	b.WriteString("# Performance\n\nMeasured by `make bench`, which writes this page. `tools/bench/doc.go` says how: real processes\nat both ends, all contenders in turn in each round, ratios of medians within one run. Absolute\nfigures of a virtual machine drift by a factor of two within hours; the ratios do less.\n\n`Bounded by` is what `sender send -v` says. Cores busy is CPU time over time, of both ends and\nof everything else on the machine (the kernel's own work, what emulates the link, other programs): where\nthey add up to the number of cores, the processor bounds.\n\n")
	if r.quick {
		b.WriteString("**This was a run with -quick: it shows that measuring works, nothing else.**\n\n")
	}
	b.WriteString(text)
	b.WriteString("\n" + notesBegin + notes + notesEnd + "\n")
	return b.String()
}

// text is all tables.
func (r *results) text(s sizing) string {
	var b strings.Builder
	b.WriteString("## Goals\n\n" + goalTable(r.goals(s)) + "\nA goal with a star was set by this bench so that a step back is seen; the others are the project's.\n")
	b.WriteString("\n## The machine\n\n")
	for _, line := range r.machine {
		fmt.Fprintf(&b, "- %s\n", line)
	}
	fmt.Fprintf(&b, "- %s\n", plural(r.rounds, "round"))
	for _, t := range r.missing {
		fmt.Fprintf(&b, "- not installed, so not measured: %s (Debian: `apt-get install %s`)\n", t.program, t.debian)
	}
	for _, line := range r.left {
		fmt.Fprintf(&b, "- left out: %s\n", line)
	}
	for _, c := range r.reports {
		b.WriteString("\n" + c.table())
	}
	if len(r.growth) > 0 {
		b.WriteString("\n## Memory\n\nPeak resident memory (VmHWM) of each process, blake3, in memory. Files are sparse, those of trees have\none octet each.\n\n| moved | sender, MiB | receiver, MiB | seconds |\n|---|---|---|---|\n")
		for _, g := range r.growth {
			if g.failed != "" {
				fmt.Fprintf(&b, "| %s | – | – | %s |\n", g.name, cell(g.failed))
				continue
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", g.name, mebibytes(g.send), mebibytes(g.recv), seconds(g.took))
		}
	}
	if len(r.figures) > 0 {
		b.WriteString("\n" + r.serviceTable())
	}
	if len(r.pings) > 0 {
		b.WriteString("\n## Pings\n\nReplies a second over loopback, by `BenchmarkReplies` of pkg/health: `plain` is a loop that reads and\nwrites back and does nothing else, `batch` reads and writes 32 at once, `waiting` is how many requests\nare on their way.\n\n| | replies/s | × plain |\n|---|---|---|\n")
		for _, p := range r.pings {
			fmt.Fprintf(&b, "| %s | %.0f | %s |\n", p.name, p.rate, times(p.rate/r.plainRate(p.name)))
		}
	}
	return b.String()
}

// plainRate is the rate of the plain loop with as many requests on their way.
func (r *results) plainRate(name string) float64 {
	_, waiting, _ := strings.Cut(name, "/")
	for _, p := range r.pings {
		if p.name == "plain/"+waiting {
			return p.rate
		}
	}
	return 0
}

func times(v float64) string {
	if v <= 0 || v > 1e6 {
		return "–"
	}
	return fmt.Sprintf("%.2f", v)
}

func goalTable(goals []goal) string {
	var b strings.Builder
	b.WriteString("| figure | measured | goal | |\n|---|---|---|---|\n")
	for _, g := range goals {
		sign := "≥"
		if g.atMost {
			sign = "≤"
		}
		fmt.Fprintf(&b, "| %s | %s | %s %s | %s |\n", g.says, g.show(g.value), sign, g.show(g.want), g.verdict())
	}
	return b.String()
}

// table is a section with what each contender did.
func (r *report) table() string {
	var b strings.Builder
	title := strings.ReplaceAll(r.name, "/", ", ")
	fmt.Fprintf(&b, "## %s\n\n%s, %s. Bytes: %s.\n\n", title, upper(r.size), r.place, amount(r.bytes))
	floor := r.find(bareOne)
	if four := r.find(bareFour); four != nil {
		floor = four
	}
	cpuHead := "CPU s per GB, sending + receiving"
	if r.tree {
		cpuHead = "CPU s, sending + receiving"
	}
	fmt.Fprintf(&b, "| | seconds, median (min–max) | MB/s | × rsync | × tar | × bare loop | %s | cores busy: both ends, others | peak MiB, sending / receiving | bounded by |\n|---|---|---|---|---|---|---|---|---|---|\n", cpuHead)
	for _, w := range r.rows {
		if len(w.samples) == 0 {
			fmt.Fprintf(&b, "| %s | %s | | | | | | | | |\n", w.name, cell(w.failed))
			continue
		}
		t, gb := w.took(), 1.0
		if !r.tree {
			gb = float64(r.bytes) / 1e9
		}
		send, recv := w.memory()
		fmt.Fprintf(&b, "| %s | %s (%s–%s)%s | %.0f | %s | %s | %s | %.2f + %.2f | %.1f, %.1f | %s / %s | %s |\n", w.name,
			seconds(t.median), seconds(t.min), seconds(t.max), again(w), float64(r.bytes)/1e6/t.median.Seconds(),
			times(w.faster(r.find(rsyncName))), times(w.faster(r.find(tarName))), times(w.faster(floor)),
			w.sendCPU().median.Seconds()/gb, w.recvCPU().median.Seconds()/gb, w.cpu().median.Seconds()/t.median.Seconds(), w.others().median, mebibytes(send), mebibytes(recv), w.bound())
	}
	return b.String()
}

// again notes a contender that did not finish its rounds.
func again(w *row) string {
	if w.failed == "" {
		return ""
	}
	return "; then " + cell(w.failed)
}

// cell makes text fit in a table.
func cell(s string) string {
	s, _, _ = strings.Cut(strings.ReplaceAll(s, "|", "/"), "\n")
	return strings.ToValidUTF8(s[:min(len(s), 160)], "")
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func upper(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
