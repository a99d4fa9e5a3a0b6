package recv

import (
	"context"
	"sync"
	"time"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// progressEvery is the least time between two reports of mere progress.
const progressEvery = 200 * time.Millisecond

// hub tells watchers which transfers changed.
type hub struct {
	mu       sync.Mutex
	watchers map[*watcher]struct{}
}

// watcher collects ids until its caller takes them, so that a slow caller holds
// nobody up and hears the latest.
type watcher struct {
	only    map[transfer.ID]bool // nil: all
	changed map[transfer.ID]bool
	signal  chan struct{}
}

func (h *hub) add(ids []transfer.ID) *watcher {
	w := &watcher{changed: map[transfer.ID]bool{}, signal: make(chan struct{}, 1)}
	if len(ids) > 0 {
		w.only = map[transfer.ID]bool{}
		for _, id := range ids {
			w.only[id] = true
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.watchers == nil {
		h.watchers = map[*watcher]struct{}{}
	}
	h.watchers[w] = struct{}{}
	return w
}

func (h *hub) remove(w *watcher) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.watchers, w)
}

func (h *hub) changed(id transfer.ID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range h.watchers {
		if w.only == nil || w.only[id] {
			w.changed[id] = true
			select {
			case w.signal <- struct{}{}:
			default:
			}
		}
	}
}

func (h *hub) take(w *watcher) []transfer.ID {
	h.mu.Lock()
	defer h.mu.Unlock()
	ids := make([]transfer.ID, 0, len(w.changed))
	for id := range w.changed {
		ids = append(ids, id)
	}
	clear(w.changed)
	return ids
}

// Watch calls f with the state of the given transfers now, on each change, and at
// most every 200 ms while octets arrive. It returns nil when all of them are
// final, NotFound when one is not the caller's, the error of f, or Canceled when
// ctx ends. Without ids it follows all that the caller may see, until ctx ends.
func (r *Receiver) Watch(ctx context.Context, c Caller, ids []transfer.ID, f func(transfer.Info) error) error {
	w := r.watch.add(ids)
	defer r.watch.remove(w)
	open := map[transfer.ID]bool{} // watched and not final
	sent := map[transfer.ID]transfer.Info{}
	for _, id := range ids {
		open[id] = true
	}
	if len(ids) == 0 {
		for _, i := range r.unfinished() {
			if c.Admin || i.Principal == c.Principal {
				ids = append(ids, i.ID)
			}
		}
	}
	tell := func(id transfer.ID, named bool) error {
		i, err := r.Get(ctx, c, id)
		if err != nil {
			if !named && transfer.KindOf(err) == transfer.NotFound {
				return nil // another principal's, or forgotten
			}
			return err
		}
		old, seen := sent[id]
		if seen && old.State == i.State && old.BytesAcked == i.BytesAcked && old.BytesHeld == i.BytesHeld && old.Lanes == i.Lanes && old.Epoch == i.Epoch {
			return nil
		}
		if i.State.Final() {
			delete(open, id)
			delete(sent, id)
		} else {
			sent[id] = i
		}
		return f(i)
	}
	named := len(open) > 0
	for _, id := range ids {
		if err := tell(id, named); err != nil {
			return err
		}
	}
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for !named || len(open) > 0 {
		var next []transfer.ID
		select {
		case <-ctx.Done():
			return transfer.Errorf(transfer.Canceled, "watch transfers", "", "%w", context.Cause(ctx))
		case <-w.signal:
			next = r.watch.take(w)
		case <-tick.C:
			for id := range sent {
				next = append(next, id)
			}
		}
		for _, id := range next {
			if named && !open[id] {
				continue
			}
			if err := tell(id, named); err != nil {
				return err
			}
		}
	}
	return nil
}
