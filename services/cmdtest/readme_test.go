package cmdtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// documented returns the lines of a document that match.
func documented(t *testing.T, name, pattern string) (lines []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", name))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(string(text), -1) {
		lines = append(lines, m[1])
	}
	return lines
}

// TestDocumentedCommands runs the commands that the README shows under Use, and
// those of docs/receipts.md, as a shell would: only the address differs, and
// pg_dump is one that is always there.
func TestDocumentedCommands(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{"build.tar": "build\n", "x.tar": "x\n", "dist/app": "app\n", "dist/lib/a": "a\n"} {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	recv, err := start(os.Environ(), dir, "receiver", localArgs("./inbox")...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(recv.kill)
	to := recv.where["control"]
	readme := slices.DeleteFunc(documented(t, "README.md", `(?m)^((?:pg_dump db \| )?bin/(?:sender send|receiver transfers) .*)$`), func(line string) bool {
		return strings.Contains(line, "--token-file") // TestReadmeToken
	})
	receipts := documented(t, "docs/receipts.md", `(?m)^    (receiver public-key .*|receiver verify-receipt \S+ --key \S+|sender send .*)$`)
	if len(readme) != 4 || len(receipts) != 3 {
		t.Fatalf("the documents show %d and %d commands, want 4 and 3: %q %q", len(readme), len(receipts), readme, receipts)
	}
	shown := map[string]string{}
	for _, line := range append(readme, receipts...) {
		command := strings.NewReplacer("bin/", "", "127.0.0.1:7400", to, "files.example:7400", to).Replace(line)
		switch {
		case strings.Contains(command, "receiver transfers"):
			command += " --at " + to
		case strings.Contains(command, "sender send") && !strings.Contains(command, "--to "):
			command = strings.Replace(command, "sender send", "sender send --to "+to, 1)
		}
		cmd := exec.CommandContext(t.Context(), "sh", "-c", "pg_dump() { echo table; }\n"+command) //nolint:gosec // our own documents
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"), "XDG_STATE_HOME="+filepath.Join(dir, "state"))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", line, err, out)
		}
		shown[line] = string(out)
	}
	for got, want := range map[string]string{"build.tar": "build\n", "x.tar": "x\n", "db.sql": "table\n", "releases/1.4/dist/app": "app\n", "releases/1.4/dist/lib/a": "a\n"} {
		if text, err := os.ReadFile(filepath.Join(dir, "inbox", filepath.FromSlash(got))); err != nil || string(text) != want {
			t.Errorf("%s: %q, %v", got, text, err)
		}
	}
	if list := shown["bin/receiver transfers list"]; strings.Count(list, "committed") != 3 {
		t.Errorf("list of the three transfers:\n%s", list)
	}
}

// TestReadmeToken runs the lines by which the README makes a certificate and a
// token, serves with them and sends: only the addresses differ. What the README
// says of a token that is revoked holds, too.
func TestReadmeToken(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "build.tar"), []byte("build\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	lines := documented(t, "README.md", `(?m)^bin/((?:receiver cert|receiver token|receiver serve .*--tokens|sender send .*--token-file|sender serve .*--receiver-token-file) .*)$`)
	if len(lines) != 5 {
		t.Fatalf("the README shows %d commands of certificates and tokens, want 5: %q", len(lines), lines)
	}
	fields := func(line string, old ...string) []string {
		return strings.Fields(strings.NewReplacer(old...).Replace(line))
	}
	run := func(args []string, more ...string) (code int, out string) {
		cmd := exec.CommandContext(t.Context(), filepath.Join(bin, args[0]), slices.Concat(args[1:], more)...) //nolint:gosec // our own documents
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "XDG_STATE_HOME="+filepath.Join(dir, "state"))
		b, _ := cmd.CombinedOutput()
		return cmd.ProcessState.ExitCode(), string(b)
	}
	must := func(want int, args []string, more ...string) {
		t.Helper()
		if code, out := run(args, more...); code != want {
			t.Fatalf("%q %q: exit code %d, want %d\n%s", args, more, code, want, out)
		}
	}
	for _, line := range lines[:2] {
		must(0, fields(line, "files.example", "127.0.0.1"))
	}
	serve := fields(lines[2], "receiver serve", "", ":7400", "127.0.0.1:0", ":7401", "127.0.0.1:0", "&", "")
	recv, err := start(os.Environ(), dir, "receiver", append(localArgs("./inbox"), serve...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(recv.kill)
	send := fields(lines[3], "files.example", recv.where["control"])
	must(0, send)
	if err := sameFiles(filepath.Join(dir, "build.tar"), filepath.Join(dir, "inbox", "build.tar")); err != nil {
		t.Error(err)
	}
	must(3, fields(lines[3], "files.example", recv.where["control"], "--token-file ci.token", ""), "--as", "none")

	service, err := start(os.Environ(), dir, "sender", append(senderArgs(filepath.Join(dir, "jobs")),
		fields(lines[4], "sender serve", "", "/outbox", dir, "files.example", recv.where["control"]+"/off", "&", "")...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(service.kill)
	must(0, []string{"sender", "jobs", "submit", filepath.Join(dir, "build.tar"), "-r", "archive", "--wait", "--on-conflict", "overwrite", "--at", service.where["control"]})

	if err := os.WriteFile(filepath.Join(dir, "secrets", "tokens.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); ; {
		code, out := run(send, "--on-conflict", "overwrite")
		if code == 3 && strings.Contains(out, "token") {
			break
		}
		if code != 0 || time.Now().After(deadline) {
			t.Fatalf("a token whose line is gone: exit code %d\n%s", code, out)
		}
	}
}

// TestReadmeLinks: every link of the README leads somewhere, and every document
// and package has its place there.
func TestReadmeLinks(t *testing.T) {
	t.Parallel()
	root, linked := filepath.Join("..", ".."), map[string]bool{}
	for _, to := range documented(t, "README.md", `\]\(([^):#]+)\)`) {
		linked[to] = true
		if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(to))); err != nil {
			t.Errorf("the README links to %s: %v", to, err)
		}
	}
	named := strings.Join(documented(t, "README.md", "(?m)^\\| (`.*`) \\|"), " ")
	for pattern, known := range map[string]func(path string) bool{
		"docs/*.md": func(path string) bool { return linked[path] },
		"pkg/*":     func(path string) bool { return strings.Contains(named, "`"+path+"`") },
	} {
		paths, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(pattern)))
		if err != nil || len(paths) == 0 {
			t.Fatalf("%s: %d paths, %v", pattern, len(paths), err)
		}
		for _, p := range paths {
			rel, err := filepath.Rel(root, p)
			if err != nil {
				t.Fatal(err)
			}
			if rel = filepath.ToSlash(rel); !known(rel) {
				t.Errorf("the README says nothing of %s", rel)
			}
		}
	}
}
