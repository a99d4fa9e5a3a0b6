package store

import "github.com/e27efefb/sluice/pkg/transfer"

// Crash ends the store as a kill would: descriptors are closed, nothing is synced.
func (d *Disk) Crash() {
	d.mu.Lock()
	open := d.stages
	d.stages, d.closed = map[transfer.ID]*stage{}, true
	d.mu.Unlock()
	for _, s := range open {
		s.op.Lock()
		s.closed = true
		_ = s.closeFiles()
		s.op.Unlock()
	}
	d.closeDirs()
}

// BreakJournal makes the next sync of a stage's journal fail.
func BreakJournal(s Stage) { _ = s.(*stage).log.f.Close() } //nolint:forcetypeassert // a test

// SetBoot pretends that the machine was started anew.
func SetBoot(d *Disk, id string) { d.boot = id }
