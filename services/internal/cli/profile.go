package cli

import (
	"fmt"
	"os"
	"runtime/pprof"
)

// ProfileFlags write a profile of the process.
type ProfileFlags struct {
	CPUProfile string `name:"cpuprofile" help:"Write a CPU profile to this file (go tool pprof FILE)." placeholder:"FILE" type:"path"`
}

// Start begins the profile; the returned function ends it.
func (f *ProfileFlags) Start() (stop func(), err error) {
	if f.CPUProfile == "" {
		return func() {}, nil
	}
	file, err := os.Create(f.CPUProfile)
	if err != nil {
		return nil, fmt.Errorf("write profile: %w", err)
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("write profile: %w", err)
	}
	return func() {
		pprof.StopCPUProfile()
		_ = file.Close()
	}, nil
}
