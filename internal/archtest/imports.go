package archtest

import (
	"fmt"
	"slices"
	"strings"
)

// module is this module's path.
const module = "github.com/e27efefb/sluice"

// allowed names, for each package under pkg/, the packages under pkg/ that it
// may import. Arrows point from callers to what they call, never back.
func allowed() map[string][]string {
	return map[string][]string{
		"auth":     {"transfer"},
		"client":   {"auth", "control", "digest", "health", "jobs", "netdiag", "send", "source", "transfer"},
		"control":  {"auth", "digest", "health", "jobs", "netdiag", "recv", "send", "source", "stamp", "store", "transfer", "wire"},
		"daemon":   {"transfer"},
		"digest":   {"transfer"},
		"health":   {"stamp", "transfer"},
		"jobs":     {"send", "source", "transfer"},
		"netdiag":  {"transfer"},
		"plain":    {"netdiag", "stamp", "transfer"},
		"recv":     {"digest", "store", "transfer", "wire"},
		"send":     {"digest", "source", "transfer", "wire"},
		"source":   {"transfer"},
		"stamp":    {"transfer"},
		"store":    {"digest", "transfer"},
		"transfer": {},
		"wire":     {"transfer"},
	}
}

// transport are the import paths, with all below them, of gRPC and protobuf.
func transport() []string {
	return []string{
		"google.golang.org/grpc", "google.golang.org/protobuf", "google.golang.org/genproto",
		"github.com/grpc-ecosystem", module + "/proto",
	}
}

// transportFor names, for each package under pkg/, what it may import of
// transport: everything, or one part.
func transportFor() map[string][]string {
	return map[string][]string{
		"control": transport(),
		"client":  transport(),
		"auth":    {"google.golang.org/grpc/credentials"},
		"health":  {"google.golang.org/grpc/health"},
	}
}

// pack is what is read of `go list -json`.
type pack struct {
	ImportPath string
	Imports    []string // of the files that are not tests
}

// violations describes each import that breaks the rule.
func violations(packages []pack) []string {
	var found []string
	for _, p := range packages {
		path, inModule := strings.CutPrefix(p.ImportPath, module+"/")
		if !inModule || isSuite(path) {
			continue
		}
		name, inPkg := strings.CutPrefix(path, "pkg/")
		name, _, _ = strings.Cut(name, "/")
		if _, known := allowed()[name]; inPkg && !known {
			found = append(found, fmt.Sprintf("%s has no entry in the table of internal/archtest and none in .golangci.yml", path))
			continue
		}
		for _, imported := range p.Imports {
			if reason := refuse(name, inPkg, imported); reason != "" {
				found = append(found, fmt.Sprintf("%s imports %s: %s", path, imported, reason))
			}
		}
	}
	return found
}

// refuse says why a package may not import something; "" when it may. name is
// the package's under pkg/ when inPkg.
func refuse(name string, inPkg bool, imported string) string {
	own, ours := strings.CutPrefix(imported, module+"/")
	switch {
	case ours && isSuite(own):
		return "only tests import a conformance suite"
	case !inPkg:
		return ""
	case below(imported, transport()) && !below(imported, transportFor()[name]):
		return "gRPC and protobuf stay in pkg/control, pkg/client and services"
	case !ours || below(imported, transport()):
		return ""
	}
	target, isPkg := strings.CutPrefix(own, "pkg/")
	if !isPkg {
		return "nothing in pkg imports what is outside it"
	}
	target, _, _ = strings.Cut(target, "/")
	if target != name && !slices.Contains(allowed()[name], target) {
		return fmt.Sprintf("pkg/%s may import of this module only %v", name, allowed()[name])
	}
	return ""
}

// isSuite reports whether a path within the module is a conformance suite.
func isSuite(path string) bool {
	return strings.HasPrefix(path, "pkg/") && strings.HasSuffix(path, "test")
}

// below reports whether path is one of roots or lies under one.
func below(path string, roots []string) bool {
	return slices.ContainsFunc(roots, func(root string) bool {
		return path == root || strings.HasPrefix(path, root+"/")
	})
}
