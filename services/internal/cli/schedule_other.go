//go:build !linux

package cli

// TuneScheduler does nothing here.
func TuneScheduler() {}
