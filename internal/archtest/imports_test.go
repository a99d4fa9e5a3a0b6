package archtest

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestImportsPointDown(t *testing.T) {
	// Every system's files count, not only those of the one that tests.
	for _, system := range []string{"linux", "darwin", "windows"} {
		for _, violation := range violations(listModule(t, system)) {
			t.Errorf("%s: %s", system, violation)
		}
	}
}

func listModule(t *testing.T, system string) []pack {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", "./...")
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), "GOOS="+system, "CGO_ENABLED=0")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list for %s: %v", system, err)
	}
	var packages []pack
	decoder := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p pack
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
	if len(packages) < 2 {
		t.Fatalf("go list names %d packages", len(packages))
	}
	return packages
}

func TestRule(t *testing.T) {
	cases := []struct {
		from, imported string
		ok             bool
	}{
		{"pkg/send", "pkg/wire", true},
		{"pkg/send", "pkg/recv", false},
		{"pkg/send", "pkg/store", false},
		{"pkg/transfer", "pkg/wire", false},
		{"pkg/store/journal", "pkg/store", true},
		{"pkg/store/journal", "pkg/wire", false},
		{"pkg/recv", "proto/sluice/v1", false},
		{"pkg/control", "proto/sluice/v1", true},
		{"pkg/control", "services/receiver", false},
		{"pkg/store", "pkg/store/storetest", false},
		{"pkg/store/storetest", "pkg/wire", true},
		{"pkg/unlisted", "pkg/transfer", false},
		{"services/receiver", "pkg/recv", true},
	}
	for _, c := range cases {
		found := violations([]pack{{ImportPath: module + "/" + c.from, Imports: []string{module + "/" + c.imported}}})
		if (len(found) == 0) != c.ok {
			t.Errorf("%s imports %s: got %q, want ok %v", c.from, c.imported, found, c.ok)
		}
	}
	foreign := []struct {
		from, imported string
		ok             bool
	}{
		{"pkg/send", "google.golang.org/grpc", false},
		{"pkg/send", "google.golang.org/grpc/codes", false},
		{"pkg/auth", "google.golang.org/grpc/credentials", true},
		{"pkg/auth", "google.golang.org/grpc", false},
		{"pkg/client", "google.golang.org/grpc", true},
		{"pkg/send", "golang.org/x/sys/unix", true},
	}
	for _, c := range foreign {
		found := violations([]pack{{ImportPath: module + "/" + c.from, Imports: []string{c.imported}}})
		if (len(found) == 0) != c.ok {
			t.Errorf("%s imports %s: got %q, want ok %v", c.from, c.imported, found, c.ok)
		}
	}
}

// TestDepguardHasTheSameTable reads the allow lists of .golangci.yml.
func TestDepguardHasTheSameTable(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", ".golangci.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var (
		rule    = regexp.MustCompile(`^ {8}([a-z]+):$`)
		files   = regexp.MustCompile(`^ {10}files: \["\*\*/pkg/([a-z]+)/\*\.go", "!\$test"\]$`)
		allows  = regexp.MustCompile(`^ {12}- ` + regexp.QuoteMeta(module) + `/pkg/([a-z]+)\$$`)
		current string
		got     = map[string][]string{}
	)
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if m := rule.FindStringSubmatch(line); m != nil {
			current = ""
		} else if m := files.FindStringSubmatch(line); m != nil {
			current = m[1]
			got[current] = nil
		} else if m := allows.FindStringSubmatch(line); m != nil {
			got[current] = append(got[current], m[1])
		}
	}
	for name, want := range allowed() {
		have, found := got[name]
		if !found || !slices.Equal(have, want) {
			t.Errorf(".golangci.yml allows pkg/%s %v (rule found: %v), the table %v", name, have, found, want)
		}
	}
	for name := range got {
		if _, found := allowed()[name]; !found {
			t.Errorf(".golangci.yml has a rule for pkg/%s, the table has none", name)
		}
	}
}
