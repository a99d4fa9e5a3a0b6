package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

// Version is set by the linker (-X); "dev" in builds by hand.
var version = "dev" //nolint:gochecknoglobals // written by the linker only

// Version returns the version of this build.
func Version() string { return version }

// exited carries the code of kong's own exits (help, version) out of Parse.
type exited int

// connectionGroup is the group of flags that say how a command reaches a service.
const connectionGroup = "connection"

// ownVariables takes the variables from the flags of every command but serve, but
// for those of a connection and those that name their variable themselves. In a
// service's own container its variables are set for every command that is run
// there: SLUICE_RECEIVER configures receivers, and must not become the filter
// --receiver of `sender jobs list`. Use it before kong.DefaultEnvars.
func ownVariables(k *kong.Kong) error {
	for _, leaf := range k.Model.Leaves(false) {
		if leaf.Name == "serve" {
			continue
		}
		for _, group := range leaf.AllFlags(false) {
			for _, f := range group {
				if len(f.Envs) == 0 && (f.Group == nil || f.Group.Key != connectionGroup) {
					f.Envs = []string{"-"}
				}
			}
		}
	}
	return nil
}

// NewParser makes the parser of a grammar (a pointer to a kong struct) with the
// rules of both programs: flags of serve have SLUICE_… variables.
func NewParser(grammar any, name string, options ...kong.Option) (*kong.Kong, error) {
	return kong.New(grammar, append([]kong.Option{
		kong.Name(name),
		kong.PostBuild(ownVariables),
		kong.DefaultEnvars("SLUICE"),
	}, options...)...)
}

// Parse reads args into grammar (a pointer to a kong struct), with SLUICE_…
// variables and, where the grammar has a --config flag, a JSON file. Done is
// true when help or the version was shown and nothing is to be run.
func Parse(grammar any, name, description string, args []string, stdout, stderr io.Writer, options ...kong.Option) (ctx *kong.Context, done bool, err error) {
	defer func() {
		if r := recover(); r != nil {
			code, ok := r.(exited)
			if !ok {
				panic(r)
			}
			ctx, done = nil, true
			if code != 0 {
				err = Code(code)
			}
		}
	}()
	opts := append([]kong.Option{
		kong.Description(description),
		kong.Vars{"version": version},
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { panic(exited(code)) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.Configuration(kong.JSON),
		kong.Help(helpWithExamples),
	}, options...)
	needed, back := only(grammar, args)
	defer back()
	parser, err := NewParser(needed, name, opts...)
	if err != nil {
		return nil, false, fmt.Errorf("build command line: %w", err)
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	ctx, err = parser.Parse(args)
	if err != nil {
		var pe *kong.ParseError
		if errors.As(err, &pe) && pe.Context != nil {
			return nil, false, Usagef("%w (see %s --help)", err, strings.TrimSpace(name+" "+strings.Join(commandPath(pe.Context), " ")))
		}
		return nil, false, &Usage{err}
	}
	return ctx, false, nil
}

// only narrows a grammar to the command that args begin with: to build the flags of
// all others takes as long as everything else until the command runs. Back copies
// what was read into the grammar. Anything but a command at first leaves the
// grammar whole.
func only(grammar any, args []string) (narrow any, back func()) {
	whole := reflect.ValueOf(grammar).Elem()
	var fields []reflect.StructField
	found := -1
	for i := range whole.NumField() {
		f := whole.Type().Field(i)
		_, isCommand := f.Tag.Lookup("cmd")
		switch {
		case !isCommand:
		case len(args) > 0 && strings.EqualFold(strings.ReplaceAll(args[0], "-", ""), f.Name):
			found = len(fields)
		default:
			continue
		}
		fields = append(fields, f)
	}
	if found < 0 {
		return grammar, func() {}
	}
	part := reflect.New(reflect.StructOf(fields))
	name := fields[found].Name
	return part.Interface(), func() { whole.FieldByName(name).Set(part.Elem().Field(found)) }
}

func commandPath(ctx *kong.Context) []string {
	var path []string
	for _, p := range ctx.Path {
		if p.Command != nil {
			path = append(path, p.Command.Name)
		}
	}
	return path
}

// Helper is implemented by commands whose help text has examples.
type Helper interface{ Help() string }

func helpWithExamples(options kong.HelpOptions, ctx *kong.Context) error {
	return kong.DefaultHelpPrinter(options, ctx)
}

// PrintConfig writes the values of all flags in force as a JSON object that
// --config accepts: names of flags with _ for -, and nothing for empty values.
// Secrets are never flags, so none can leak here.
func PrintConfig(w io.Writer, ctx *kong.Context) error {
	values := map[string]any{}
	for _, f := range ctx.Flags() {
		switch f.Name {
		case "help", "config", "print-config", "version":
			continue
		}
		v := f.Target.Interface()
		if d, ok := v.(time.Duration); ok {
			v = d.String()
		}
		if f.Target.IsZero() && f.Target.Kind() == reflect.String || f.Target.Kind() == reflect.Slice && f.Target.Len() == 0 {
			continue
		}
		values[strings.ReplaceAll(f.Name, "-", "_")] = v
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(values)
}

// IsTerminal reports whether w is a character device that a person looks at.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
}
