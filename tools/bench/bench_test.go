package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestSpread(t *testing.T) {
	w := row{name: "a"}
	for _, s := range []int{5, 1, 4, 2} {
		w.samples = append(w.samples, sample{took: time.Duration(s) * time.Second, sendMem: int64(s), recvMem: int64(10 - s), bound: map[bool]string{true: "network", false: "hashing"}[s > 1]})
	}
	if got, want := w.took(), (spread[time.Duration]{2 * time.Second, time.Second, 5 * time.Second}); got != want {
		t.Errorf("spread %v, want %v", got, want)
	}
	if send, recv := w.memory(); send != 5 || recv != 9 {
		t.Errorf("memory %d and %d, want the largest of all runs", send, recv)
	}
	if w.bound() != "network" {
		t.Errorf("bound %q, want what bounded most runs", w.bound())
	}
	slow := row{samples: []sample{{took: 4 * time.Second}}}
	if got := w.faster(&slow); got != 2 {
		t.Errorf("faster %v, want 2", got)
	}
	if (&row{}).faster(&slow) != 0 || w.faster(nil) != 0 || (*row)(nil).faster(&w) != 0 {
		t.Error("a ratio with what was not measured is not 0")
	}
}

func TestGoals(t *testing.T) {
	took := func(name string, d time.Duration, cpu time.Duration) *row {
		return &row{name: name, samples: []sample{{took: d, sendCPU: cpu}}}
	}
	s := fullSizing()
	r := results{
		reports: []*report{
			{name: "tmpfs/2GB", rows: []*row{took(bareOne, 9, 0), took(none, 10, 0), took(rsyncName, 18, 10), took(xxh3, 13, 11), took(blake3, 14, 0)}},
			{name: "tmpfs/20000x4KiB", rows: []*row{took(rsyncName, 30, 0), took(blake3, 16, 0), took(tarName, 16, 0)}},
			{name: "ext4/100000x4KiB", rows: []*row{took(blake3, 20, 0), took(tarName, 10, 0)}},
			{name: "wan/loss1%/800MB", rows: []*row{took(blake3, 100, 0), took(bareFour, 94, 0)}},
		},
		growth: []growth{{name: "4 GB", send: 60 << 20, recv: 65 << 20}, {name: "10 files", tree: true, send: 1}},
	}
	want := map[string]string{
		"one big file, `none`, against the bare loop":                                 "reached",
		"one big file, `none`, against rsync":                                         "reached",
		"one big file, `xxh3`, against rsync":                                         "**not reached**",
		"one big file, `blake3`, against rsync":                                       "reached",
		"one big file, CPU seconds per GB, `xxh3` against rsync":                      "**not reached**",
		"many small files, `blake3`, against rsync":                                   "**not reached**",
		"many small files, `blake3`, against tar over a socket":                       "reached",
		"many small files durable on ext4, `blake3`, against tar and a sync":          "reached",
		"link with 1 % loss, 800 MB, `blake3`, against the bare loop with four lanes": "**not reached**",
		"link with 1 % loss, 800 MB, `blake3`, against rsync":                         "not measured",
		"peak memory of one process, any size of file (measured up to 4 GB)":          "**not reached**",
		"peak memory of one process, any number of files (measured up to 10 files)":   "reached",
	}
	seen := 0
	for _, g := range r.goals(s) {
		if verdict, ok := want[g.says]; ok {
			seen++
			if g.verdict() != verdict {
				t.Errorf("%s: %s with %v, want %s", g.says, g.verdict(), g.value, verdict)
			}
		} else if g.verdict() != "not measured" {
			t.Errorf("%s: %s, want not measured", g.says, g.verdict())
		}
	}
	if seen != len(want) {
		t.Errorf("%d of %d goals are listed", seen, len(want))
	}
}

// TestBroken: with -quick only our own programs have to work.
func TestBroken(t *testing.T) {
	r := results{
		missing: []tool{{"sshd", "openssh-server"}},
		reports: []*report{{name: "tmpfs/50MB", rows: []*row{{name: "scp", failed: "no sshd"}, {name: xxh3}}}},
		growth:  []growth{{name: "1 GB"}},
		left:    []string{"ext4: needs root"},
	}
	if err := r.broken(); err != nil {
		t.Errorf("%v, want nothing of ours", err)
	}
	r.reports[0].rows[1].failed = "exit status 1"
	r.growth[0].failed = "killed"
	r.left = append(r.left, "services/pages: no answer", "pings: no reply")
	const want = "tmpfs/50MB: sluice xxh3: exit status 1\nmemory, 1 GB: killed\nservices/pages: no answer\npings: no reply"
	if err := r.broken(); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

func TestPage(t *testing.T) {
	r := results{rounds: 3, machine: []string{"a machine"}, missing: []tool{{"sshd", "openssh-server"}}, reports: []*report{{
		name: "tmpfs/2GB", place: "over loopback", size: "one file of 2 GB", bytes: 2e9,
		rows: []*row{
			{name: rsyncName, samples: []sample{{took: 4 * time.Second, sendCPU: time.Second, recvCPU: 3 * time.Second}}},
			{name: none, samples: []sample{{took: 2 * time.Second, sendMem: 20 << 20, recvMem: 30 << 20, bound: "network"}}, failed: "broke\nhere"},
			{name: "scp", failed: "stopped after 2m0s"},
		},
	}}}
	first := r.page(r.text(fullSizing()), "\nby hand\n")
	for _, want := range []string{
		"| rsync | 4.00 (4.00–4.00) | 500 | 1.00 | – | – | 0.50 + 1.50 | 1.0, 0.0 |",
		"| sluice none | 2.00 (2.00–2.00); then broke | 1000 | 2.00 | – | – | 0.00 + 0.00 | 0.0, 0.0 | 20 / 30 | network |",
		"| scp | stopped after 2m0s |", "apt-get install openssh-server", "| one big file, `none`, against rsync | 2.00 × | ≥ 1.80 × | reached |",
	} {
		if !strings.Contains(first, want) {
			t.Errorf("page lacks %q:\n%s", want, first)
		}
	}
	if got := notes(first); got != "\nby hand\n" {
		t.Errorf("notes %q are not kept", got)
	}
}

func TestParsePings(t *testing.T) {
	got := parsePings("goos: linux\nBenchmarkReplies/plain/waiting=1-2 \t 1000\t 950.0 ns/op\t 100 replies/s\nBenchmarkReplies/plain/waiting=1-2 1000 950.0 ns/op 300 replies/s\n" +
		"BenchmarkReplies/batch/waiting=1-2 1000 950.0 ns/op 150 replies/s\nPASS\n")
	if len(got) != 2 || got[0] != (ping{"plain/waiting=1", 100}) || got[1] != (ping{"batch/waiting=1", 150}) {
		t.Errorf("parsed %v", got)
	}
}

func TestCompare(t *testing.T) {
	want, got := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
	for _, dir := range []string{want, got} {
		if err := manyFiles(t.Context(), dir, 201, 3); err != nil {
			t.Fatal(err)
		}
	}
	if err := compare(t.Context(), got, want, true); err != nil {
		t.Errorf("equal trees: %v", err)
	}
	victim := filepath.Join(got, "d0001", "f0000200")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(victim, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("xyz")
	if err := compare(t.Context(), got, want, true); err == nil {
		t.Error("a changed file was not noticed")
	}
	write("xyzu")
	if err := compare(t.Context(), got, want, false); err == nil {
		t.Error("a longer file was not noticed")
	}
	if err := os.Remove(victim); err != nil {
		t.Fatal(err)
	}
	if err := compare(t.Context(), got, want, false); err == nil {
		t.Error("a missing file was not noticed")
	}
}

func TestAmounts(t *testing.T) {
	for n, want := range map[int64]string{2e9: "2 GB", 2.5e9: "2.5 GB", 100e6: "100 MB", 4096: "4 kB", 7: "7 octets"} {
		if got := amount(n); got != want {
			t.Errorf("amount(%d) = %q, want %q", n, got, want)
		}
	}
	if got := thousands(1_020_003); got != "1,020,003" {
		t.Errorf("thousands: %s", got)
	}
}
