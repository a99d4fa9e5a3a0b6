package store

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// account counts octets of a stage, and with up of the whole store.
type account struct {
	promised  atomic.Int64 // reserved, not yet on the disk
	allocated atomic.Int64 // preallocated, not yet written
	staged    atomic.Int64 // written
	up        *account
}

func (a *account) move(promised, allocated, staged int64) {
	for ; a != nil; a = a.up {
		if promised != 0 {
			a.promised.Add(promised)
		}
		if allocated != 0 {
			a.allocated.Add(allocated)
		}
		if staged != 0 {
			a.staged.Add(staged)
		}
	}
}

// clear gives everything back.
func (a *account) clear() {
	a.move(-a.promised.Load(), -a.allocated.Load(), -a.staged.Load())
}

func (a *account) total() int64 {
	return a.promised.Load() + a.allocated.Load() + a.staged.Load()
}

// reserve promises n octets and files inodes to a stage, or says NoSpace.
func (d *Disk) reserve(a *account, n, files int64) error {
	d.space.Lock()
	defer d.space.Unlock()
	if err := d.wouldFit(n, files); err != nil {
		return err
	}
	a.move(n, 0, 0)
	return nil
}

func (d *Disk) wouldFit(n, files int64) error {
	if q := d.cfg.MaxTotal; q > 0 && d.acct.total()+n > q {
		return transfer.Errorf(transfer.NoSpace, "reserve space", "", "%s are wanted and %s of the %s for unfinished transfers are free",
			octets(n), octets(max(0, q-d.acct.total())), octets(q)).WithHint("wait until other transfers are done, or raise --max-total at the receiver")
	}
	free, inodes, err := d.root.space()
	if err != nil {
		return transfer.Errorf(transfer.Internal, "ask for free space", "", "%w", err)
	}
	free -= d.cfg.KeepFree + d.acct.promised.Load()
	if n > 0 && n > free {
		return transfer.Errorf(transfer.NoSpace, "reserve space", "", "%s are wanted and %s are free at the receiver (%s are kept free)",
			octets(n), octets(max(0, free)), octets(d.cfg.KeepFree)).WithHint("make room on the receiver's disk, or lower --keep-free there")
	}
	if inodes >= 0 && files > inodes {
		return transfer.Errorf(transfer.NoSpace, "reserve space", "", "%d files are wanted and the receiver's filesystem has %d inodes free", files, inodes).
			WithHint("remove files at the receiver, or send an archive instead of a tree")
	}
	return nil
}

// octets writes a number for a person, with its exact value when it is small.
func octets(n int64) string {
	const unit = 1024
	if n < 10*unit {
		return fmt.Sprintf("%d octets", n)
	}
	v, i := float64(n)/unit, 0
	for ; v >= 10*unit && i < 4; i++ {
		v /= unit
	}
	return fmt.Sprintf("%.1f %ciB", v, "KMGTP"[i])
}

// Usage tells what is reserved, staged and free.
func (d *Disk) Usage(ctx context.Context) (Usage, error) {
	if err := ctx.Err(); err != nil {
		return Usage{}, canceled(err)
	}
	free, inodes, err := d.root.space()
	if err != nil {
		return Usage{}, transfer.Errorf(transfer.Internal, "ask for free space", "", "%w", err)
	}
	promised := d.acct.promised.Load()
	free = max(0, free-d.cfg.KeepFree-promised)
	if q := d.cfg.MaxTotal; q > 0 {
		free = min(free, max(0, q-d.acct.total()))
	}
	return Usage{Free: free, Reserved: promised + d.acct.allocated.Load(), Staged: d.acct.staged.Load(), Quota: d.cfg.MaxTotal, Inodes: inodes}, nil
}
