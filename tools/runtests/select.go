package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// selection names the tests that a build tag adds.
type selection struct {
	packages []string // import paths
	tests    []string // names of the test functions, sorted, each once
}

// runPattern is the argument of `go test -run` for exactly these tests.
func (s selection) runPattern() string {
	return "^(" + strings.Join(s.tests, "|") + ")$"
}

// listed is what is read of `go list -json`.
type listed struct {
	ImportPath   string
	Dir          string
	TestGoFiles  []string
	XTestGoFiles []string
}

// selectTagged compares the test files of patterns with and without tag. It
// fails when the tag adds no test: a target that tests nothing is a mistake.
func selectTagged(ctx context.Context, dir, tag string, patterns []string) (selection, error) {
	plain, err := list(ctx, dir, "", patterns)
	if err != nil {
		return selection{}, err
	}
	tagged, err := list(ctx, dir, tag, patterns)
	if err != nil {
		return selection{}, err
	}
	known := map[string]bool{}
	for _, p := range plain {
		for _, f := range p.testFiles() {
			known[f] = true
		}
	}
	var s selection
	for _, p := range tagged {
		var names []string
		for _, f := range p.testFiles() {
			if known[f] {
				continue
			}
			found, err := testNames(f)
			if err != nil {
				return selection{}, err
			}
			names = append(names, found...)
		}
		if len(names) > 0 {
			s.packages = append(s.packages, p.ImportPath)
			s.tests = append(s.tests, names...)
		}
	}
	if len(s.tests) == 0 {
		return s, fmt.Errorf("no test has the build tag %q: write `//go:build %s` above the tests that need it", tag, tag)
	}
	slices.Sort(s.tests)
	s.tests = slices.Compact(s.tests)
	return s, nil
}

func (p listed) testFiles() []string {
	var files []string
	for _, name := range slices.Concat(p.TestGoFiles, p.XTestGoFiles) {
		files = append(files, filepath.Join(p.Dir, name))
	}
	return files
}

func list(ctx context.Context, dir, tag string, patterns []string) ([]listed, error) {
	args := append([]string{"list", "-json=ImportPath,Dir,TestGoFiles,XTestGoFiles", "-tags", tag}, patterns...)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}
	var packages []listed
	decoder := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p listed
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return packages, nil
		} else if err != nil {
			return nil, fmt.Errorf("read the output of go list: %w", err)
		}
		packages = append(packages, p)
	}
}

// testNames returns the test functions of one file, TestMain excepted.
func testNames(file string) ([]string, error) {
	tree, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		return nil, fmt.Errorf("parse %s: %w", file, err)
	}
	var names []string
	for _, d := range tree.Decls {
		f, ok := d.(*ast.FuncDecl)
		if ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Test") && f.Name.Name != "TestMain" {
			names = append(names, f.Name.Name)
		}
	}
	return names, nil
}
