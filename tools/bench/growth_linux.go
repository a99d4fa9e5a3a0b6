package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// growth measures how the memory of sender and receiver grows with the size of
// a file and with the number of files. The amounts move once each.
func (b *bench) growth(ctx context.Context) error {
	for name, w := range b.works { // they occupy memory
		if err := os.RemoveAll(w.path); err != nil {
			return err
		}
		delete(b.works, name)
	}
	p := tmpfsPlace(b.memDir)
	for _, size := range b.sizes.growFiles {
		path := filepath.Join(b.memDir, "grow")
		err := b.grow(ctx, p, &work{name: amountName(size), path: path}, size, func() error { return sparseFile(path, size) })
		if err != nil {
			return err
		}
	}
	for _, files := range b.sizes.growTrees {
		path := filepath.Join(b.memDir, "grow")
		// A page and about 1.5 KiB of inode and name for each file at both ends.
		err := b.grow(ctx, p, &work{name: thousands(files) + " files", path: path, tree: true}, int64(files)*12<<10, func() error { return manyFiles(ctx, path, files, 1) })
		if err != nil {
			return err
		}
	}
	return nil
}

// notFirst is a round in which contents are not compared, nothing is profiled,
// and the limit is five times as long.
const notFirst = -1

func (b *bench) grow(ctx context.Context, p *place, w *work, need int64, make func() error) error {
	if !b.only.MatchString("memory/" + w.name) {
		return nil
	}
	// tmpfs may be larger than the memory that is left.
	if left := available(); left < need+need/4 {
		b.skip("memory/"+w.name, fmt.Errorf("needs %s of free memory, and %s are", amount(need+need/4), amount(left)))
		return nil
	}
	err := errors.Join(make(), w.count())
	if err == nil {
		b.sayf("memory: %s", w.name)
		var s sample
		s, err = b.once(ctx, p, w, sluice("blake3"), notFirst)
		g := growth{name: w.name, tree: w.tree, send: s.sendMem, recv: s.recvMem, took: s.took}
		if !w.tree {
			g.name = amount(w.bytes)
		}
		if err != nil {
			g.failed, err = err.Error(), nil
			b.sayf("  %s", g.failed)
		}
		b.results.growth = append(b.results.growth, g)
	}
	return errors.Join(err, os.RemoveAll(w.path), context.Cause(ctx))
}

// pings runs pkg/health's own benchmark.
func (b *bench) pings(ctx context.Context) error {
	if !b.only.MatchString("pings") {
		return nil
	}
	b.sayf("pings")
	ctx, cancel := context.WithTimeout(ctx, b.limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "^BenchmarkReplies$", "-benchtime", b.sizes.pingTime, "-count", fmt.Sprint(b.options.rounds), "./pkg/health")
	cmd.Dir = b.repo
	out, err := cmd.CombinedOutput()
	if err != nil {
		b.skip("pings", fmt.Errorf("%w: %.1000s", err, out))
		return nil
	}
	b.results.pings = parsePings(string(out))
	return nil
}
