package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// bench is one run of this program: what it made, and what it found.
type bench struct {
	*options
	sizes   sizing
	log     io.Writer
	self    string
	memDir  string // in memory
	diskDir string // on disk; made when needed
	works   map[string]*work
	results results
}

func newBench(ctx context.Context, o *options, log io.Writer) (*bench, error) {
	b := &bench{options: o, sizes: fullSizing(), log: log, works: make(map[string]*work)}
	if o.quick {
		b.sizes = quickSizing()
	}
	b.results.rounds, b.results.quick = o.rounds, o.quick
	for _, name := range []string{"sender", "receiver"} {
		if _, err := os.Stat(filepath.Join(o.bin, name)); err != nil {
			return nil, fmt.Errorf("find the built programs: %w; run make build, or give their directory by -bin", err)
		}
	}
	var err error
	if o.bin, err = filepath.Abs(o.bin); err != nil {
		return nil, err
	}
	if b.self, err = os.Executable(); err != nil {
		return nil, err
	}
	if o.profile != "" {
		if o.profile, err = filepath.Abs(o.profile); err != nil {
			return nil, err
		}
		if err := os.MkdirAll(o.profile, 0o755); err != nil {
			return nil, err
		}
	}
	if b.memDir, err = os.MkdirTemp(o.memory, "sluice-bench-"); err != nil {
		return nil, err
	}
	b.results.machine = machine(ctx, o)
	return b, nil
}

// close removes everything.
func (b *bench) close() error {
	err := os.RemoveAll(b.memDir)
	if b.diskDir != "" {
		err = errors.Join(err, os.RemoveAll(b.diskDir))
	}
	return err
}

func (b *bench) sayf(format string, args ...any) { fmt.Fprintf(b.log, format+"\n", args...) }

// skip notes what is not measured.
func (b *bench) skip(what string, why error) {
	// What a killed program had said comes after its error, and belongs to the terminal.
	first, _, _ := strings.Cut(why.Error(), "\n")
	b.results.left = append(b.results.left, what+": "+first)
	b.sayf("%s is left out: %v", what, why)
}

// measure runs every case that was chosen, place by place.
func (b *bench) measure(ctx context.Context) error {
	// Links last: they take longest and depend least on what else the machine does.
	for _, part := range []func(context.Context) error{b.inMemory, b.onDisk, b.tls, b.growth, b.services, b.pings, b.overLink} {
		if err := part(ctx); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return nil
}

// scenario is a work and those who move it.
type scenario struct {
	work       string
	contenders []contender
}

// chosen are the scenarios at a place that -only matches.
func (b *bench) chosen(place string, all []scenario) []scenario {
	return slices.DeleteFunc(all, func(s scenario) bool { return !b.only.MatchString(place + "/" + s.work) })
}

func (b *bench) inMemory(ctx context.Context) error {
	ours := []contender{sluice("none"), sluice("xxh3"), sluice("blake3")}
	trees := slices.Concat(ours, []contender{rsyncDaemon(), pipe(), nginxPut(), scp()})
	if !b.quick { // rclone takes a quarter of a minute for 500 files
		trees = append(trees, rclone())
	}
	p := tmpfsPlace(b.memDir)
	return b.at(ctx, p, b.chosen(p.name, []scenario{
		{b.sizes.bigName(), slices.Concat([]contender{bare(1)}, ours, []contender{rsyncDaemon(), pipe(), nginxPut(), scp(), rclone(), iperf3(1)})},
		{b.sizes.smallName(), trees},
		{goTree, trees},
	}))
}

func (b *bench) onDisk(ctx context.Context) error {
	contenders := []contender{sluice("xxh3"), sluice("blake3"), rsyncDaemon(), pipe()}
	scenarios := b.chosen("ext4", []scenario{
		{b.sizes.bigName(), slices.Concat([]contender{bare(1)}, contenders)},
		{goTree, contenders},
		{b.sizes.durableName(), contenders},
	})
	if len(scenarios) == 0 {
		return nil
	}
	var err error
	if b.ext4 != "" {
		if b.diskDir, err = os.MkdirTemp(b.ext4, "sluice-bench-"); err != nil {
			return err
		}
		p := &place{name: "ext4", says: "source in memory, over loopback to " + filesystem(b.ext4) + ", on stable storage at the end", dir: b.diskDir, host: "127.0.0.1", lanes: 1, durable: true}
		return b.at(ctx, p, scenarios)
	}
	if os.Getuid() != 0 {
		b.skip("ext4", errors.New("mounting an image needs root; or give a directory by -ext4-dir"))
		return nil
	}
	if b.diskDir, err = os.MkdirTemp(b.disk, "sluice-bench-"); err != nil {
		return err
	}
	if left, err := free(b.diskDir); err != nil || left < b.sizes.ext4 {
		b.skip("ext4", errors.Join(err, fmt.Errorf("%s has less than %s free; give another directory by -disk", b.disk, amount(b.sizes.ext4))))
		return nil
	}
	p, remove, err := ext4Place(ctx, b.diskDir, b.sizes.ext4)
	if err != nil {
		return err
	}
	return errors.Join(b.at(ctx, p, scenarios), remove())
}

func (b *bench) overLink(ctx context.Context) error {
	for _, loss := range []float64{0, 0.01} {
		w := wan{rate: 400, rtt: 80 * time.Millisecond, mtu: 9000, loss: loss}
		var all []scenario
		for _, size := range b.sizes.wan {
			all = append(all, scenario{amountName(size), []contender{bare(4), sluice("blake3"), rsyncDaemon(), iperf3(1), iperf3(4)}})
		}
		if all = b.chosen(w.name(), all); len(all) == 0 {
			continue
		}
		if os.Getuid() != 0 {
			b.skip(w.name(), errors.New("namespaces need root"))
			continue
		}
		link := filepath.Join(b.memDir, "wanlink")
		if err := command(ctx, "go", "-C", filepath.Join(b.repo, "tools", "wanlink"), "build", "-o", link, "."); err != nil {
			return err
		}
		p, remove, err := wanPlace(ctx, link, b.memDir, w)
		if err != nil {
			return err
		}
		if err := errors.Join(b.at(ctx, p, all), remove()); err != nil {
			return err
		}
	}
	return nil
}

// at measures scenarios at a place.
func (b *bench) at(ctx context.Context, p *place, scenarios []scenario) error {
	for _, s := range scenarios {
		w, err := b.make(ctx, s.work)
		if err != nil {
			return err
		}
		if err := b.rounds(ctx, p, w, s.contenders); err != nil {
			return err
		}
	}
	return nil
}

const goTree = "go-src"

// make makes the work of that name, once.
func (b *bench) make(ctx context.Context, name string) (*work, error) {
	if w := b.works[name]; w != nil {
		return w, nil
	}
	w := &work{name: name, path: filepath.Join(b.memDir, "source-"+name)}
	var err error
	switch name {
	case goTree:
		root := output(ctx, "go", "env", "GOROOT")
		w.tree, err = true, copyTree(ctx, w.path, filepath.Join(root, filepath.FromSlash(b.sizes.goSource)))
	case b.sizes.smallName():
		w.tree, err = true, manyFiles(ctx, w.path, b.sizes.small, smallFile)
	case b.sizes.durableName():
		w.tree, err = true, manyFiles(ctx, w.path, b.sizes.durable, smallFile)
	default:
		for _, size := range append([]int64{b.sizes.big}, b.sizes.wan...) {
			if amountName(size) == name {
				err = randomFile(w.path, size)
			}
		}
	}
	if err = errors.Join(err, w.count()); err != nil {
		return nil, fmt.Errorf("make %s: %w", name, err)
	}
	b.works[name] = w
	return w, nil
}

// rounds measures the contenders in turn.
func (b *bench) rounds(ctx context.Context, p *place, w *work, contenders []contender) error {
	r := &report{name: p.name + "/" + w.name, place: p.says, size: w.size(), bytes: w.bytes, tree: w.tree}
	var present []contender
	for _, c := range contenders {
		if !b.who.MatchString(c.name) {
			continue
		}
		if none := c.missing(); len(none) > 0 {
			for _, t := range none {
				if !slices.Contains(b.results.missing, t) {
					b.results.missing = append(b.results.missing, t)
					b.sayf("%s is not installed, so %s is left out: apt-get install %s", t.program, c.name, t.debian)
				}
			}
			continue
		}
		present = append(present, c)
		r.rows = append(r.rows, &row{name: c.name, empty: c.empty})
	}
	b.results.reports = append(b.results.reports, r)
	b.sayf("%s: %s, %s", r.name, r.size, r.place)
	for round := range b.options.rounds {
		for i := range present {
			i = (i + round) % len(present)
			if r.rows[i].failed != "" {
				continue
			}
			s, err := b.once(ctx, p, w, present[i], round)
			switch {
			case ctx.Err() != nil:
				return context.Cause(ctx)
			case err != nil:
				r.rows[i].failed = strings.TrimSpace(err.Error())
				b.sayf("  %s: %v", r.rows[i].name, err)
			default:
				r.rows[i].samples = append(r.rows[i].samples, s)
				b.sayf("  %s: %v", r.rows[i].name, s.took.Round(time.Millisecond))
			}
		}
	}
	return nil
}

// once runs one contender and looks at what arrived, in the first round at the
// contents too.
func (b *bench) once(ctx context.Context, p *place, w *work, c contender, round int) (s sample, err error) {
	t := &trial{place: p, work: w, bin: b.bin, self: b.self, out: filepath.Join(p.dir, "out"), tmp: filepath.Join(b.memDir, "tmp")}
	t.state = filepath.Join(t.tmp, "state")
	if b.profile != "" && round == b.options.rounds-1 {
		t.profile = filepath.Join(b.profile, strings.NewReplacer("/", "-", " ", "-", "%", "").Replace(p.name+"-"+w.name+"-"+c.name))
	}
	defer func() { err = errors.Join(err, os.RemoveAll(t.out), os.RemoveAll(t.tmp), p.settle()) }()
	if err := errors.Join(os.Mkdir(t.out, 0o755), os.Mkdir(t.tmp, 0o755), warm(w.bytes)); err != nil {
		return s, err
	}
	limit := b.limit
	if round == notFirst {
		limit *= 5 // a million files
	}
	limited, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("stopped after %v", limit))
	defer cancel()
	if s, err = c.run(limited, t); err != nil || c.empty {
		if err != nil && limited.Err() != nil {
			err = context.Cause(limited)
		}
		return s, err
	}
	if err := compare(ctx, t.arrived(), w.path, round == 0); err != nil {
		return s, fmt.Errorf("what %s delivered is wrong: %w", c.name, err)
	}
	return s, nil
}
