package toolstest

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// With -update the recordings in docs/ are written anew.
var update = flag.Bool("update", false, "rewrite the recordings in docs/")

// recording is what a terminal shows.
type recording struct {
	t *testing.T
	r *receiver
	b strings.Builder
}

func record(t *testing.T, flags ...string) *recording {
	return &recording{t: t, r: startReceiver(t, flags...)}
}

// run shows a command with what it prints; input is what is typed or piped.
func (r *recording) run(code int, input string, args ...string) {
	r.t.Helper()
	local := make([]string, len(args))
	for i, a := range args {
		local[i] = r.r.ports.here(a)
	}
	cmd := program(r.t, r.r.dir, local...)
	cmd.Stdin = strings.NewReader(input)
	run := &running{cmd: cmd, out: newOutput()}
	cmd.Stdout, cmd.Stderr = run.out, run.out
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	if got := run.wait(r.t); got != code {
		r.t.Errorf("%v: exit code %d, want %d\n%s", args, got, code, run.out)
	}
	prompt := ""
	if input != "" {
		prompt = fmt.Sprintf("printf '%s' | ", strings.ReplaceAll(input, "\n", `\n`))
	}
	r.show(prompt+strings.Join(args, " "), r.r.ports.there(run.out.String()), code)
}

func (r *recording) show(command, out string, code int) {
	if r.b.Len() > 0 {
		r.b.WriteByte('\n')
	}
	fmt.Fprintf(&r.b, "$ %s\n%s", command, out)
	if code != 0 {
		fmt.Fprintf(&r.b, "(exit code %d)\n", code)
	}
}

// file makes a file for the commands.
func (r *recording) file(name, content string) {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.r.dir, name), []byte(content), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// check compares with the page, after shape has taken out what may differ.
func (r *recording) check(page string, shape func(string) string) {
	r.t.Helper()
	path := filepath.Join("..", "..", "docs", page)
	text, err := os.ReadFile(path)
	if err != nil {
		r.t.Fatal(err)
	}
	const open, shut = "<!-- recording: services/toolstest -update -->\n```\n", "```\n<!-- end of recording -->"
	before, rest, ok1 := strings.Cut(string(text), open)
	old, after, ok2 := strings.Cut(rest, shut)
	if !ok1 || !ok2 {
		r.t.Fatalf("%s has no marks of a recording", path)
	}
	now := r.b.String()
	if *update {
		if err := os.WriteFile(path, []byte(before+open+now+shut+after), 0o644); err != nil { //nolint:gosec // a document
			r.t.Fatal(err)
		}
		return
	}
	if want, got := shape(old), shape(now); got != want {
		r.t.Errorf("docs/%s shows\n%s\nbut now it is\n%s\ncompared as\n%s\nwith\n%s", page, old, now, want, got)
	}
}

var (
	idPattern     = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	hexPattern    = regexp.MustCompile(`\b[0-9a-f]{16}\b`)
	numberPattern = regexp.MustCompile(`(\d[\d.]*( ?(ns|µs|ms|[smhdB]|[kKMGT]i?B)\b)?)+`)
	spacePattern  = regexp.MustCompile(`  +`)
)

// numbers is the usual shape: each number, time, size and id is some number.
func numbers(text string) string {
	text = idPattern.ReplaceAllString(text, "ID")
	text = hexPattern.ReplaceAllString(text, "HEX")
	text = numberPattern.ReplaceAllString(text, "N")
	return spacePattern.ReplaceAllString(text, "  ")
}

// columns keeps the first n columns of each line, which are two spaces apart or
// more, with numbers as numbers.
func columns(text string, n int) string {
	var out []string
	for line := range strings.Lines(text) {
		cells := spacePattern.Split(strings.TrimRight(line, "\n"), -1)
		out = append(out, numbers(strings.Join(cells[:min(n, len(cells))], "  ")))
	}
	return strings.Join(out, "\n")
}
