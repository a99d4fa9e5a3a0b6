package cli

import (
	"os"
	"runtime/debug"
)

// gcPercent makes the collector run when the heap grew by half instead of
// doubled: a manifest of a million files lives as about 105 MB, and a process is
// to stay under 200 MiB with it.
const gcPercent = 50

// TuneMemory sets the collector, unless the environment does (GOGC, GOMEMLIMIT).
func TuneMemory() {
	if os.Getenv("GOGC") == "" && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetGCPercent(gcPercent)
	}
}
