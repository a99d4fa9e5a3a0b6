//go:build !linux

package cli

// TuneScheduler does nothing here.
func TuneScheduler() {}

// TuneDescriptors does nothing here.
func TuneDescriptors() {}
