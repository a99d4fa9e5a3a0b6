package source

import (
	"strings"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// pattern is one line of Exclude or Include.
type pattern struct {
	glob     string
	anchored bool // matched against the path below the root, else against the last element
	dirOnly  bool
}

// filter leaves entries out. The zero value leaves out nothing.
type filter struct{ exclude, include []pattern }

func newFilter(exclude, include []string) (f filter, err error) {
	if f.exclude, err = parsePatterns("exclude", exclude); err != nil {
		return f, err
	}
	f.include, err = parsePatterns("include", include)
	return f, err
}

func parsePatterns(what string, list []string) ([]pattern, error) {
	out := make([]pattern, 0, len(list))
	for _, s := range list {
		p := pattern{glob: s}
		p.glob, p.dirOnly = strings.CutSuffix(p.glob, "/")
		p.anchored = strings.Contains(p.glob, "/")
		p.glob = strings.TrimPrefix(p.glob, "/")
		if p.glob == "" || !doublestar.ValidatePattern(p.glob) {
			return nil, transfer.Errorf(transfer.Invalid, "read "+what+" pattern", "", "%q is not a pattern", s).
				WithHint(`patterns are written as in .gitignore: "*.o", "/build/", "docs/**/*.pdf"`)
		}
		out = append(out, p)
	}
	return out, nil
}

// out reports whether the entry rel (below its root) is left out.
func (f *filter) out(rel, base string, isDir bool) bool {
	return matches(f.exclude, rel, base, isDir) && !matches(f.include, rel, base, isDir)
}

func (f *filter) empty() bool { return len(f.exclude) == 0 }

func matches(list []pattern, rel, base string, isDir bool) bool {
	for i := range list {
		p := &list[i]
		if p.dirOnly && !isDir {
			continue
		}
		name := base
		if p.anchored {
			name = rel
		}
		if doublestar.MatchUnvalidated(p.glob, name) {
			return true
		}
	}
	return false
}
