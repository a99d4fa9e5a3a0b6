package recv

import (
	"context"
	"time"
)

// Status is how the receiver is, for the ping, gRPC health and /readyz alike.
type Status struct {
	Serving      bool      // takes offers of new transfers
	Draining     bool      // stopping
	DiskLow      bool      // no octet or no inode is left for new transfers
	Active       int       // transfers in memory
	FreeSlots    int       // how many more may come
	Lanes        int       // open
	FreeBytes    int64     // for new transfers; -1 when the disk did not answer
	FreeInodes   int64     // -1: unknown
	LastProgress time.Time // when octets were last written; zero: never in this run
	Incarnation  uint64    // random per start
}

// Status asks the store for free space, and is otherwise free of cost.
func (r *Receiver) Status(ctx context.Context) Status {
	r.mu.Lock()
	s := Status{Active: r.active, FreeSlots: max(0, r.cfg.Limits.Transfers-r.active)}
	r.mu.Unlock()
	s.Incarnation = r.cfg.Incarnation
	s.Draining = r.draining.Load()
	s.Lanes = int(r.lanes.Load())
	if at := r.progress.Load(); at > 0 {
		s.LastProgress = time.Unix(0, at)
	}
	u, err := r.cfg.Store.Usage(ctx)
	if err != nil {
		r.log.Warn("ask the store for free space", "err", err)
		s.FreeBytes, s.FreeInodes = -1, -1
	} else {
		s.FreeBytes, s.FreeInodes = u.Free, u.Inodes
		s.DiskLow = u.Free <= 0 || u.Inodes == 0
	}
	s.Serving = !s.Draining && !s.DiskLow && err == nil
	return s
}
