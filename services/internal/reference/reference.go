// Package reference renders the commands and flags of a program as Markdown, and
// holds docs/commands.md to it: what the document says is what the grammar has.
//
// After a change of a grammar run
//
//	SLUICE_WRITE_DOCS=1 go test -p 1 -run TestCommandsDocument ./services/...
package reference

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/alecthomas/kong"

	"github.com/e27efefb/sluice/services/internal/cli"
)

// shared are the flags that many commands have, described once at the end.
const shared = "connection"

// Markdown returns a section for every command of a grammar (a pointer to a kong
// struct) of the program called name.
func Markdown(grammar any, name string) (string, error) {
	k, err := kong.New(grammar, kong.Name(name))
	if err != nil {
		return "", err
	}
	var b strings.Builder
	common := map[string]bool{}
	var once strings.Builder
	for _, leaf := range k.Model.Leaves(true) {
		words := []string{name, commandOf(leaf)}
		for _, p := range leaf.Positional {
			words = append(words, p.Summary())
		}
		fmt.Fprintf(&b, "### `%s`\n\n%s\n\n", strings.Join(words, " "), leaf.Help)
		var lines []string
		connects := false
		for _, group := range leaf.AllFlags(true) {
			for _, f := range group {
				switch {
				case f.Name == "help" || f.Name == "version":
				case f.Group != nil && f.Group.Key == shared:
					connects = true
					if !common[f.Name] {
						common[f.Name] = true
						once.WriteString(line(f))
					}
				default:
					lines = append(lines, line(f))
				}
			}
		}
		b.WriteString(strings.Join(lines, ""))
		if connects {
			b.WriteString("- and the flags of a connection, below\n")
		}
		if len(lines) > 0 || connects {
			b.WriteByte('\n')
		}
	}
	if once.Len() > 0 {
		fmt.Fprintf(&b, "### Flags of a connection of `%s`\n\n%s\n", name, once.String())
	}
	return b.String(), nil
}

func commandOf(n *kong.Node) string {
	if n.Parent == nil || n.Parent.Type == kong.ApplicationNode {
		return n.Name
	}
	return commandOf(n.Parent) + " " + n.Name
}

func line(f *kong.Flag) string {
	name := "--" + f.Name
	if !f.IsBool() {
		value := f.PlaceHolder
		if value == "" {
			value = strings.ToUpper(f.Name)
		}
		name += " " + value
	}
	if f.Short != 0 {
		name = fmt.Sprintf("-%c, %s", f.Short, name)
	}
	text := f.Help
	if f.HasDefault && f.Default != "" && f.Default != "0" && f.Default != "0s" && f.Default != "false" {
		text += " Default: `" + f.Default + "`."
	}
	if f.Required {
		text += " Required."
	}
	return "- `" + name + "`: " + text + "\n"
}

// Check fails unless the section of the program in docs/commands.md, between its
// markers, is what the grammar says.
func Check(t *testing.T, grammar any, name string) {
	t.Helper()
	path := filepath.Join("..", "..", "docs", "commands.md")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want, err := Markdown(grammar, name)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := "<!-- begin "+name+" -->\n\n", "<!-- end "+name+" -->"
	before, rest, ok := strings.Cut(string(text), begin)
	got, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no markers %q and %q", path, begin, end)
	}
	if got == want {
		return
	}
	if os.Getenv("SLUICE_WRITE_DOCS") != "" {
		if err := os.WriteFile(path, []byte(before+begin+want+end+after), 0o644); err != nil { //nolint:gosec // a document
			t.Fatal(err)
		}
		return
	}
	have := strings.Split(got, "\n")
	for i, l := range strings.Split(want, "\n") {
		if i >= len(have) || have[i] != l {
			t.Fatalf("docs/commands.md does not say what the commands of %s are, first here:\n%s\nSLUICE_WRITE_DOCS=1 go test -p 1 -run TestCommandsDocument ./services/... writes it", name, l)
		}
	}
	t.Fatalf("docs/commands.md says more than the commands of %s are; SLUICE_WRITE_DOCS=1 go test -p 1 -run TestCommandsDocument ./services/... writes it", name)
}

// CheckHelp fails when a help text of the program, its own or that of a command or
// of a group of commands, has a line that a terminal of 80 columns breaks. Fresh
// returns an empty grammar.
func CheckHelp(t *testing.T, fresh func() any, name, description string) {
	t.Helper()
	const columns = 80
	t.Setenv("COLUMNS", strconv.Itoa(columns))
	k, err := cli.NewParser(fresh(), name)
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	var check func(n *kong.Node)
	check = func(n *kong.Node) {
		var args []string
		if n.Parent != nil {
			args = strings.Fields(commandOf(n))
		}
		var out, errs bytes.Buffer
		if _, done, err := cli.Parse(fresh(), name, description, append(args, "--help"), &out, &errs); !done || err != nil {
			t.Fatalf("%s %v --help: %v %s", name, args, err, &errs)
		}
		for line := range strings.Lines(out.String()) {
			seen++
			if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > columns {
				t.Errorf("%s %s --help has a line of %d columns: %s", name, strings.Join(args, " "), n, line)
			}
		}
		for _, c := range n.Children {
			check(c)
		}
	}
	check(k.Model.Node)
	if seen < 100 {
		t.Errorf("the help texts of %s have %d lines only", name, seen)
	}
}

// CheckVariables fails when a variable that is set for serve changes the meaning
// of another command; same lists those that mean the same there.
func CheckVariables(t *testing.T, grammar any, name string, same ...string) {
	t.Helper()
	k, err := cli.NewParser(grammar, name)
	if err != nil {
		t.Fatal(err)
	}
	of := func(leaf *kong.Node) map[string]string {
		out := map[string]string{}
		for _, group := range leaf.AllFlags(false) {
			for _, f := range group {
				for _, v := range f.Envs {
					out[v] = f.Name
				}
			}
		}
		return out
	}
	serve, others := map[string]string{}, 0
	for _, leaf := range k.Model.Leaves(false) {
		if leaf.Name == "serve" {
			serve = of(leaf)
		}
	}
	if len(serve) < 20 {
		t.Fatalf("%s serve has the variables %v only", name, serve)
	}
	for _, leaf := range k.Model.Leaves(false) {
		if leaf.Name == "serve" {
			continue
		}
		for v, flag := range of(leaf) {
			others++
			if _, clash := serve[v]; clash && !slices.Contains(same, v) {
				t.Errorf("%s, set for serve, becomes --%s of %s %s", v, flag, name, commandOf(leaf))
			}
		}
	}
	if others == 0 {
		t.Errorf("no other command of %s has a variable", name)
	}
}
