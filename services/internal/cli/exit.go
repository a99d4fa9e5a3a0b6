package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// Exit codes of both commands; docs/commands.md lists them.
const (
	ExitOK          = 0
	ExitInternal    = 1
	ExitUsage       = 2
	ExitRefused     = 3
	ExitUnreachable = 4
	ExitVerify      = 5
	ExitChanged     = 6
	ExitPartial     = 7
	ExitInterrupted = 130 // 128 + SIGINT, as shells count
)

// Usage is an error of the command line.
type Usage struct{ Err error }

func (u *Usage) Error() string { return u.Err.Error() }

// Unwrap returns the cause.
func (u *Usage) Unwrap() error { return u.Err }

// Usagef makes a Usage.
func Usagef(format string, args ...any) error { return &Usage{fmt.Errorf(format, args...)} }

// Code is an error that already was shown and only carries an exit code.
type Code int

func (c Code) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// ExitCode maps an error to the exit code.
func ExitCode(err error) int {
	var code Code
	var usage *Usage
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &code):
		return int(code)
	case errors.As(err, &usage):
		return ExitUsage
	case errors.Is(err, context.Canceled):
		return ExitInterrupted
	}
	switch transfer.KindOf(err) {
	case transfer.Invalid, transfer.NotFound, transfer.Exists, transfer.Denied, transfer.NoSpace, transfer.Busy, transfer.Fenced:
		return ExitRefused
	case transfer.Unavailable:
		return ExitUnreachable
	case transfer.Corrupt:
		return ExitVerify
	case transfer.Changed:
		return ExitChanged
	case transfer.Canceled:
		return ExitInterrupted
	default:
		if errors.Is(err, context.DeadlineExceeded) {
			return ExitUnreachable
		}
		return ExitInternal
	}
}

// MaxProblems is how many refused files an error shows; the rest is counted.
const MaxProblems = 20

// Fail shows err on w: for a person, or as one JSON object a line. It returns
// the exit code.
func Fail(w io.Writer, program string, err error, asJSON bool) int {
	code := ExitCode(err)
	var shown Code
	if err == nil || errors.As(err, &shown) {
		return code
	}
	if asJSON {
		_ = json.NewEncoder(w).Encode(ErrorObject(err))
		return code
	}
	text := message(err)
	fmt.Fprintf(w, "%s: %s\n", program, text)
	var te *transfer.Error
	if errors.As(err, &te) && !names(text, te.Problems) {
		for i, p := range te.Problems {
			if i == MaxProblems {
				fmt.Fprintf(w, "  … and %d more\n", len(te.Problems)-i)
				break
			}
			fmt.Fprintf(w, "  %s: %s\n", transfer.Quote(p.Path), p.Reason)
		}
	}
	if h := Hint(err); h != "" {
		fmt.Fprintf(w, "hint: %s\n", h)
	}
	return code
}

// names reports whether a message tells of the problems already.
func names(text string, problems []transfer.Problem) bool {
	return len(problems) > 0 && strings.Contains(text, transfer.Quote(problems[0].Path)+": "+problems[0].Reason)
}

func message(err error) string {
	if code := ExitCode(err); code == ExitInterrupted && transfer.KindOf(err) != transfer.Canceled {
		return "interrupted"
	}
	return strings.TrimRight(err.Error(), "\n")
}

// Event is the envelope of every --json line: Event names what it is.
type Event struct {
	Event string `json:"event"`
}

// ErrorJSON is the object of a failure; its fields are stable.
type ErrorJSON struct {
	Event      string             `json:"event"` // "error"
	Kind       string             `json:"kind"`
	Message    string             `json:"message"`
	Hint       string             `json:"hint,omitempty"`
	Path       string             `json:"path,omitempty"`
	ExitCode   int                `json:"exit_code"`
	RetryAfter float64            `json:"retry_after_seconds,omitempty"`
	Problems   []transfer.Problem `json:"problems,omitempty"`
}

// ErrorObject returns the stable JSON form of err.
func ErrorObject(err error) ErrorJSON {
	o := ErrorJSON{Event: "error", Kind: transfer.KindOf(err).String(), Message: message(err), Hint: Hint(err), ExitCode: ExitCode(err)}
	switch o.ExitCode {
	case ExitUsage:
		o.Kind = "usage"
	case ExitInterrupted:
		o.Kind = transfer.Canceled.String()
	}
	var te *transfer.Error
	if errors.As(err, &te) {
		o.Path, o.Problems, o.RetryAfter = te.Path, te.Problems, te.RetryAfter.Seconds()
	}
	return o
}

// Hint returns what a person can do: the error's own hint, else one for its kind.
func Hint(err error) string {
	if h := transfer.HintOf(err); h != "" {
		return h
	}
	switch transfer.KindOf(err) {
	case transfer.Exists:
		return "give another name (--as), another directory (--into), or --on-conflict overwrite|rename|skip-identical; nothing is sent twice"
	case transfer.Unavailable:
		return "check that the service runs and the address is right (sender doctor HOST:PORT examines a receiver)"
	case transfer.NoSpace:
		return "free space at the receiver or raise its quota; the same command resumes"
	case transfer.Busy:
		return "try again later; the same command resumes"
	case transfer.Changed:
		return "send the file again once nothing writes to it"
	case transfer.Corrupt:
		return "check memory, disks and network cards on both machines; nothing was published"
	case transfer.Fenced:
		return "another run of the same transfer took over; let that one finish"
	case transfer.Internal:
		var usage *Usage
		if errors.As(err, &usage) {
			return ""
		}
	}
	return ""
}
