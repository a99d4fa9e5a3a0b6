package send

import (
	"sync"
	"sync/atomic"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// What a lane takes from the queue at once.
const (
	spanBytes  = 8 << 20 // of a large file
	batchFiles = 256     // small files
	batchBytes = 1 << 20
)

// itemKind tells what an item of the queue is.
type itemKind uint8

const (
	smallItem  itemKind = iota // entries [first, end): files of one chunk each
	spanItem                   // chunks [first, end) of file
	streamItem                 // chunk first of file, in buf
)

// item is work for a lane.
type item struct {
	kind             itemKind
	file, first, end uint32
	buf              []byte
}

// queue is the one queue that all lanes pull from. What a dead lane gives back
// is sent first.
type queue struct {
	cut   func(first, end uint32, maxFiles int, maxBytes int64) (uint32, int, int64)
	chunk func(file uint32) (size, chunkSize int64)

	mu      sync.Mutex
	cond    *sync.Cond
	back    []item
	fifo    []item
	head    int
	octets  int64 // waiting
	chunks  int64 // waiting
	pending int64 // chunks waiting or in flight
	hashing int64 // what else must end before the commit: held chunks to hash, files to look at again
	offered bool  // nothing will be added but what is given back or repaired
	resting bool  // all is acknowledged and goes to be verified: lanes close
	closed  bool
	idle    int // lanes that wait for work
	live    int // lanes that are open
	wanted  int // lanes that should be open
}

func newQueue(wanted int) *queue {
	q := &queue{wanted: wanted}
	q.cond = sync.NewCond(&q.mu)
	return q
}

// add appends work of n chunks and octets.
func (q *queue) add(it item, n, octets int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.resting = false
	q.fifo = append(q.fifo, it)
	q.chunks += n
	q.pending += n
	q.octets += octets
	q.cond.Broadcast()
}

// giveBack returns work that a lane took and did not finish.
func (q *queue) giveBack(its []item) {
	if len(its) == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, it := range its {
		n, octets := q.measure(it)
		q.chunks += n
		q.octets += octets
	}
	q.resting = false
	q.back = append(q.back, its...)
	q.cond.Broadcast()
}

func (q *queue) measure(it item) (n, octets int64) {
	switch it.kind {
	case smallItem:
		_, files, octets := q.cut(it.first, it.end, int(it.end-it.first)+1, transfer.MaxFileSize)
		return int64(files), octets
	case spanItem:
		size, cs := q.chunk(it.file)
		return int64(it.end - it.first), min(size, int64(it.end)*cs) - int64(it.first)*cs
	default:
		return 1, int64(len(it.buf))
	}
}

// pull waits for work; false when the queue rests or is closed, or dead is set
// (call wake then).
func (q *queue) pull(dead *atomic.Bool) (item, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.idle++
	defer func() { q.idle-- }()
	for !q.closed && !dead.Load() {
		if n := len(q.back); n > 0 {
			it := q.back[n-1]
			q.back = q.back[:n-1]
			piece, rest, ok := q.split(it)
			if ok {
				q.back = append(q.back, rest)
			}
			return q.taken(piece), true
		}
		if q.head < len(q.fifo) {
			piece, rest, ok := q.split(q.fifo[q.head])
			if ok {
				q.fifo[q.head] = rest
			} else {
				q.fifo[q.head] = item{}
				if q.head++; q.head == len(q.fifo) {
					q.fifo, q.head = q.fifo[:0], 0
				}
			}
			return q.taken(piece), true
		}
		if q.resting {
			break
		}
		q.cond.Wait()
	}
	return item{}, false
}

func (q *queue) taken(it item) item {
	n, octets := q.measure(it)
	q.chunks -= n
	q.octets -= octets
	return it
}

// split cuts from an item what one lane takes at once: less when little is left
// for all lanes, so that they end together.
func (q *queue) split(it item) (piece, rest item, more bool) {
	share := q.octets / int64(2*max(1, q.live))
	piece, rest = it, it
	switch it.kind {
	case smallItem:
		files := int(min(batchFiles, max(16, q.chunks/int64(2*max(1, q.live)))))
		stop, _, _ := q.cut(it.first, it.end, files, batchBytes)
		piece.end, rest.first = stop, stop
	case spanItem:
		_, cs := q.chunk(it.file)
		n := max(1, min(spanBytes, share)/cs)
		piece.end = uint32(min(int64(it.end), int64(it.first)+n)) //nolint:gosec // at most end
		rest.first = piece.end
	case streamItem:
		return it, item{}, false
	}
	return piece, rest, rest.first < rest.end
}

// acked counts chunks that the receiver has.
func (q *queue) acked(chunks int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.pending -= chunks
	if q.pending == 0 {
		q.cond.Broadcast()
	}
}

// toHash changes the number of things that must end before the commit.
func (q *queue) toHash(n int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.hashing += n; q.hashing == 0 {
		q.cond.Broadcast()
	}
}

// offerDone says that nothing more will be added by the offer.
func (q *queue) offerDone() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.offered = true
	q.cond.Broadcast()
}

// drained waits until everything is offered, acknowledged and hashed, and lets the
// lanes half-close; work that is added later (repair) opens new ones. It is false
// when the queue was closed before.
func (q *queue) drained() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for !q.closed && !(q.offered && q.pending == 0 && q.hashing == 0) {
		q.cond.Wait()
	}
	if q.closed {
		return false
	}
	q.resting = true
	q.cond.Broadcast()
	return true
}

// close makes every waiter return.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.cond.Broadcast()
}

// worth waits until it is worth opening lane number slot: the first at any work,
// others when there is enough for them; false when the queue is closed.
func (q *queue) worth(slot int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for !q.closed {
		waiting := len(q.back) > 0 || q.head < len(q.fifo)
		if waiting && slot < q.wanted && (q.live == 0 || q.octets > int64(q.live)*laneOctets || q.chunks > int64(q.live)*laneFiles) {
			q.live++
			return true
		}
		q.cond.Wait()
	}
	return false
}

// What must wait for each lane that is open before another one is opened.
const (
	laneOctets = 2 << 20
	laneFiles  = 512
)

// laneDown says that a lane that worth let open is gone.
func (q *queue) laneDown() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.live--
	q.cond.Broadcast()
}

// want sets how many lanes should be open.
func (q *queue) want(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.wanted = n
	q.cond.Broadcast()
}

// wake makes waiters look again.
func (q *queue) wake() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.cond.Broadcast()
}

// look returns what the monitor needs.
func (q *queue) look() (waiting bool, octets, pending int64, idle, live, wanted int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.back) > 0 || q.head < len(q.fifo), q.octets, q.pending, q.idle, q.live, q.wanted
}
