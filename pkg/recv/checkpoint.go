package recv

import (
	"context"
	"runtime/debug"
	"time"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// checkpointer is the goroutine that makes written chunks of one transfer held.
// It starts with the first octets and ends when a round finds nothing to do.
type checkpointer struct {
	kick chan struct{}
	stop chan struct{}
	done chan struct{}
}

// wrote counts n octets that a lane wrote.
func (m *movement) wrote(n int64) {
	d := m.dirty.Add(n)
	limit := m.r.cfg.Limits.CheckpointBytes
	first, full := d == n, d >= limit && d-n < limit
	if !first && !full {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ckpt == nil {
		m.ckpt = &checkpointer{kick: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
		c := m.ckpt
		m.r.tasks.Go(func() { m.checkpoints(c) })
	}
	if full {
		select {
		case m.ckpt.kick <- struct{}{}:
		default:
		}
	}
}

// stopCheckpoints ends the goroutine and waits for it. What is dirty stays so.
func (m *movement) stopCheckpoints() {
	m.mu.Lock()
	c := m.ckpt
	m.ckpt = nil
	m.mu.Unlock()
	if c != nil {
		close(c.stop)
		<-c.done
	}
	m.dirty.Store(0)
}

func (m *movement) checkpoints(c *checkpointer) {
	defer close(c.done)
	defer func() {
		if p := recover(); p != nil {
			m.r.log.Error("panic in checkpoint", "transfer", m.id, "panic", p, "stack", string(debug.Stack()))
			m.fail(transfer.Errorf(transfer.Internal, "make chunks durable", "", "panic"))
		}
	}()
	t := time.NewTimer(m.r.cfg.Limits.CheckpointEvery)
	defer t.Stop()
	for {
		select {
		case <-c.stop:
			return
		case <-m.r.base.Done():
			return
		case <-c.kick:
		case <-t.C:
		}
		if !m.checkpoint() && m.retire(c) {
			return
		}
		t.Reset(m.r.cfg.Limits.CheckpointEvery)
	}
}

// retire takes c off the movement if still nothing is dirty.
func (m *movement) retire(c *checkpointer) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dirty.Load() != 0 {
		return false
	}
	if m.ckpt == c {
		m.ckpt = nil
	}
	return true
}

// checkpoint makes what is dirty held and reports whether there was anything.
func (m *movement) checkpoint() bool {
	if m.dirty.Swap(0) == 0 {
		return false
	}
	begin := time.Now()
	n, err := m.stage.Checkpoint(context.WithoutCancel(m.r.base))
	m.r.obs.Checkpoint(time.Since(begin), n, err)
	if err != nil {
		m.fail(err)
	}
	m.mu.Lock()
	m.updated = m.r.now()
	m.mu.Unlock()
	return true
}
