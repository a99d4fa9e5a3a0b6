package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
)

// work is what is moved: a file, or a tree of small ones.
type work struct {
	name  string // for people, and for -only
	path  string // where it was made
	bytes int64
	files int
	tree  bool
}

// size says what it is.
func (w *work) size() string {
	if !w.tree {
		return fmt.Sprintf("one file of %s", amount(w.bytes))
	}
	return fmt.Sprintf("%s files, %s", thousands(w.files), amount(w.bytes))
}

// amount is a number of octets in decimal units.
func amount(n int64) string {
	switch {
	case n >= 1e9:
		return strings.TrimSuffix(fmt.Sprintf("%.1f", float64(n)/1e9), ".0") + " GB"
	case n >= 1e6:
		return fmt.Sprintf("%d MB", n/1e6)
	case n >= 1e3:
		return fmt.Sprintf("%d kB", n/1e3)
	default:
		return fmt.Sprintf("%d octets", n)
	}
}

func thousands(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", thousands(n/1000), n%1000)
}

// randomFile makes a file that cannot be compressed, the same in each run.
func randomFile(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{f}, io.LimitReader(rand.NewChaCha8([32]byte{1}), size), make([]byte, 1<<20))
	return errors.Join(err, f.Close())
}

// sparseFile makes a file of zeros that occupies nothing.
func sparseFile(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Close())
}

// manyFiles makes so many files of one size, 200 in a directory.
func manyFiles(ctx context.Context, root string, files, size int) error {
	const inDirectory = 200
	random, content := rand.NewChaCha8([32]byte{2}), make([]byte, size)
	for i := range files {
		dir := filepath.Join(root, fmt.Sprintf("d%04d", i/inDirectory))
		if i%inDirectory == 0 {
			if err := errors.Join(ctx.Err(), os.MkdirAll(dir, 0o755)); err != nil {
				return err
			}
		}
		_, _ = random.Read(content) // never fails
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("f%07d", i)), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// copyTree copies the regular files and directories of a tree.
func copyTree(ctx context.Context, to, from string) error {
	return filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err := errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		switch {
		case e.IsDir():
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		case e.Type().IsRegular():
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(to, rel), text, 0o644)
		default:
			return nil
		}
	})
}

// measureTree fills in how much a work is.
func (w *work) count() error {
	return filepath.WalkDir(w.path, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		w.files++
		w.bytes += info.Size()
		return nil
	})
}

// compare checks that got is what want is: every regular file with its size,
// its contents too when told so, and no others.
func compare(ctx context.Context, got, want string, contents bool) error {
	wanted, err := sizes(want)
	if err != nil {
		return err
	}
	arrived, err := sizes(got)
	if err != nil {
		return err
	}
	if len(wanted) != len(arrived) {
		return fmt.Errorf("%d files arrived of %d", len(arrived), len(wanted))
	}
	for name, size := range wanted {
		if err := ctx.Err(); err != nil {
			return err
		}
		if n, ok := arrived[name]; !ok || n != size {
			return fmt.Errorf("file %q has %d octets, not %d (arrived: %t)", name, n, size, ok)
		}
		if !contents {
			continue
		}
		same, err := sameContents(filepath.Join(got, name), filepath.Join(want, name))
		if err != nil {
			return err
		}
		if !same {
			return fmt.Errorf("file %q differs from what was sent", name)
		}
	}
	return nil
}

// sizes lists the regular files below root, or root itself as ".".
func sizes(root string) (map[string]int64, error) {
	found := make(map[string]int64)
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		found[rel] = info.Size()
		return err
	})
	return found, err
}

func sameContents(a, b string) (bool, error) {
	f, err := os.Open(a)
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }()
	g, err := os.Open(b)
	if err != nil {
		return false, err
	}
	defer func() { _ = g.Close() }()
	x, y := make([]byte, 256<<10), make([]byte, 256<<10)
	for {
		n, err := io.ReadFull(f, x)
		m, err2 := io.ReadFull(g, y)
		if n != m || !bytes.Equal(x[:n], y[:m]) {
			return false, nil
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return true, nil
		}
		if err := errors.Join(err, err2); err != nil {
			return false, err
		}
	}
}
