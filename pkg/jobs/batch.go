package jobs

import (
	"fmt"
	"sync"

	"go.etcd.io/bbolt"
)

// maxBatch is how many changes share one transaction at most, so that its pages
// stay a few megabytes.
const maxBatch = 1000

// batcher has changes that are asked for at the same time share one durable
// transaction. A change that comes alone is written at once; those that come
// while a transaction is being written are the next one together. bbolt's own
// Batch waits 10 ms for company instead, which was most of the time of a submit.
type batcher struct {
	bolt *bbolt.DB

	mu      sync.Mutex
	busy    bool // somebody leads
	waiting []*change
}

// change is one call of do.
type change struct {
	fn    func(*bbolt.Tx) error
	err   error
	ended chan bool // true: it was done, see err; false: the caller is to lead
}

// do runs fn in a transaction and returns when that is durable, or the error of
// fn or of the transaction; then nothing of fn was stored. fn may be called more
// than once, always after what an earlier call did was undone.
func (b *batcher) do(fn func(*bbolt.Tx) error) error {
	c := &change{fn: fn, ended: make(chan bool, 1)}
	b.mu.Lock()
	b.waiting = append(b.waiting, c)
	lead := !b.busy
	b.busy = true
	b.mu.Unlock()
	if lead || !<-c.ended {
		b.lead()
		<-c.ended // who leads is the first of those that wait
	}
	return c.err
}

// lead writes what waits, and lets the first of those that came meanwhile lead.
func (b *batcher) lead() {
	b.mu.Lock()
	n := min(len(b.waiting), maxBatch)
	batch := b.waiting[:n:n]
	b.waiting = b.waiting[n:]
	b.mu.Unlock()
	b.write(batch)
	b.mu.Lock()
	if len(b.waiting) > 0 {
		b.waiting[0].ended <- false
	} else {
		b.busy, b.waiting = false, nil
	}
	b.mu.Unlock()
	for _, c := range batch {
		c.ended <- true
	}
}

// write writes all of batch, those that fail left out.
func (b *batcher) write(batch []*change) {
	for len(batch) > 0 {
		failed := -1
		err := b.bolt.Update(func(tx *bbolt.Tx) error {
			for i, c := range batch {
				if c.err = safely(c.fn, tx); c.err != nil {
					failed = i
					return c.err
				}
			}
			return nil
		})
		if failed < 0 {
			for _, c := range batch {
				c.err = err
			}
			return
		}
		rest := make([]*change, 0, len(batch)-1)
		batch = append(append(rest, batch[:failed]...), batch[failed+1:]...)
	}
}

// safely turns a panic of one change into its error: the others are not to
// suffer, nor to wait for ever.
func safely(fn func(*bbolt.Tx) error, tx *bbolt.Tx) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("change job file: panic: %v", p)
		}
	}()
	return fn(tx)
}
