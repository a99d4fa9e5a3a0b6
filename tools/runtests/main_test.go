package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// module writes a Go module of the given files and returns its directory.
func module(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	files["go.mod"] = "module example.test/m\n\ngo 1.26\n"
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const (
	passing  = "package m\n\nimport \"testing\"\n\nfunc TestGood(t *testing.T) { t.Run(\"part\", func(*testing.T) {}) }\n"
	failing  = "package m\n\nimport \"testing\"\n\nfunc TestBad(t *testing.T) { t.Fatal(\"the reason\") }\n"
	skipped  = "package m\n\nimport \"testing\"\n\nfunc TestAway(t *testing.T) { t.Skip(\"no tool\") }\n"
	crashed  = "package m\n\nimport \"testing\"\n\nfunc TestCrash(*testing.T) { panic(\"a crash\") }\n"
	subtests = "package m\n\nimport \"testing\"\n\nfunc TestHolds(t *testing.T) { t.Run(\"part\", func(t *testing.T) { t.Fail() }) }\n"
	special  = "//go:build special\n\npackage m\n\nimport \"testing\"\n\nfunc TestSpecial(*testing.T) {}\n"
)

func TestRun(t *testing.T) {
	cases := map[string]struct {
		files   map[string]string
		args    []string
		prints  []string // each must be in the output
		hides   string   // must not be in it
		wantErr string   // "" for success
	}{
		"passes and says how many": {
			files:  map[string]string{"m_test.go": passing},
			prints: []string{"ok  \texample.test/m\t", "tests: 1 run (and 1 subtests) in 1 packages: 1 passed, 0 failed, 0 skipped"},
		},
		"a failure shows its output and its name": {
			files:   map[string]string{"a_test.go": passing, "b_test.go": failing},
			prints:  []string{"the reason", "2 run (and 1 subtests) in 1 packages: 1 passed, 1 failed"},
			wantErr: "example.test/m.TestBad",
		},
		"a failed subtest is named, not what holds it": {
			files:   map[string]string{"m_test.go": subtests},
			wantErr: "1 failed:\n  example.test/m.TestHolds/part\npackages",
		},
		"a crash shows its trace": {
			files:   map[string]string{"m_test.go": crashed},
			prints:  []string{"panic: a crash"},
			wantErr: "failed",
		},
		"a build error shows": {
			files:   map[string]string{"m_test.go": "package m\n\nvar x int = \"\"\n"},
			prints:  []string{"m_test.go:3"},
			wantErr: "packages that failed",
		},
		"nothing tested is an error": {
			files:   map[string]string{"m.go": "package m\n"},
			wantErr: "no test ran",
		},
		"a skip is shown": {
			files:  map[string]string{"a_test.go": passing, "b_test.go": skipped},
			prints: []string{"no tool", "1 passed, 0 failed, 1 skipped"},
		},
		"a skip fails with -no-skip": {
			files:   map[string]string{"a_test.go": passing, "b_test.go": skipped},
			args:    []string{"-no-skip"},
			wantErr: "example.test/m.TestAway",
		},
		"a tag runs its own tests alone": {
			files:  map[string]string{"a_test.go": failing, "b_test.go": special},
			args:   []string{"-tag", "special", "-count=1", "./..."},
			prints: []string{"tests: 1 run (and 0 subtests) in 1 packages: 1 passed"},
			hides:  "TestBad",
		},
		"a tag without tests is an error": {
			files:   map[string]string{"a_test.go": passing},
			args:    []string{"-tag=special", "./..."},
			wantErr: `no test has the build tag "special"`,
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			args := append([]string{"-C", module(t, c.files)}, c.args...)
			var out strings.Builder
			err := run(t.Context(), args, &out, &out)
			if c.wantErr == "" && err != nil {
				t.Errorf("run %v: %v\n%s", args, err, &out)
			}
			if c.wantErr != "" && (err == nil || !strings.Contains(err.Error(), c.wantErr)) {
				t.Errorf("run %v: got error %v, want one with %q\n%s", args, err, c.wantErr, &out)
			}
			for _, want := range c.prints {
				if !strings.Contains(out.String(), want) {
					t.Errorf("the output lacks %q:\n%s", want, &out)
				}
			}
			if c.hides != "" && strings.Contains(out.String(), c.hides) {
				t.Errorf("the output has %q:\n%s", c.hides, &out)
			}
		})
	}
}

func TestFlagsOfGoTestPassThrough(t *testing.T) {
	o, err := parse([]string{"-no-skip", "-C", "x", "-race", "-count=1", "./..."}, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	if !o.noSkip || o.dir != "x" || strings.Join(o.rest, " ") != "-race -count=1 ./..." {
		t.Errorf("got %+v", o)
	}
}
