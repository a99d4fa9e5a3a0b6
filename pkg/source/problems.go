package source

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// MaxProblems is how many problems are kept; the rest is only counted. At about
// 150 octets each, a tree full of them costs 1.5 MB.
const MaxProblems = 10_000

// MaxShown is how many problems the text of an error names.
const MaxShown = 20

type problems struct {
	list  []transfer.Problem
	total int64
}

func (p *problems) add(x transfer.Problem) {
	p.total++
	if len(p.list) < MaxProblems {
		p.list = append(p.list, x)
	}
}

// err returns the error that names the problems.
func (p *problems) err() error {
	k := p.list[0].Kind
	for _, x := range p.list {
		if x.Kind == transfer.Invalid {
			k = transfer.Invalid // what no permission can mend comes first
		}
	}
	e := &transfer.Error{
		Kind: k, Op: "scan the source", Msg: Describe(p.list, p.total), Problems: p.list,
		Hint: "repair or exclude them, or send the rest with --keep-going",
	}
	if p.total == 1 && k == transfer.NotFound {
		e.Hint = "check the path, or send the rest with --keep-going"
	}
	return e
}

// Describe lists problems for a person: up to MaxShown, one a line, and the count
// of all.
func Describe(list []transfer.Problem, total int64) string {
	var b strings.Builder
	if total == 1 {
		fmt.Fprintf(&b, "%s: %s", transfer.Quote(list[0].Path), list[0].Reason)
		return b.String()
	}
	fmt.Fprintf(&b, "%d files cannot be sent:", total)
	for _, p := range list[:min(len(list), MaxShown)] {
		fmt.Fprintf(&b, "\n  %s: %s", transfer.Quote(p.Path), p.Reason)
	}
	if rest := total - int64(min(len(list), MaxShown)); rest > 0 {
		fmt.Fprintf(&b, "\n  and %d more", rest)
	}
	return b.String()
}

// reason turns a system error into a kind and a sentence.
func reason(err error) (transfer.Kind, string) {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return transfer.Denied, "it may not be read (permission denied)"
	case errors.Is(err, fs.ErrNotExist):
		return transfer.NotFound, "it does not exist"
	case errors.Is(err, syscall.ELOOP), errors.Is(err, syscall.ENOTDIR):
		return transfer.Changed, "something else stands in its place"
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return transfer.Busy, "too many files are open on this machine"
	}
	return transfer.Internal, "it cannot be read: " + err.Error()
}

// ProblemOf makes a problem of the error that reading a file gave.
func ProblemOf(err error) transfer.Problem {
	p := transfer.Problem{Kind: transfer.KindOf(err), Reason: err.Error()}
	var e *transfer.Error
	if errors.As(err, &e) {
		p.Path = e.Path
		if e.Msg != "" {
			p.Reason = e.Msg
		}
	}
	return p
}
