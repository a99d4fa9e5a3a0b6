package send

import (
	"sync"
	"time"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// Observer is told what happens, for progress bars, events and metrics. Calls
// never overlap and must not block: the transfer waits for them.
type Observer interface {
	// Offer is called before a part of the manifest is offered.
	Offer(part *transfer.OfferPart)
	// Answer is called with the receiver's answer to a part. The token is blanked.
	Answer(part uint32, answer *transfer.Answer)
	// Progress is called at most every 100 ms, and once at the end.
	Progress(p Progress)
	// Lane is called when a lane opened, closed or failed.
	Lane(l LaneState)
	// Receipt is called once, when the transfer is committed.
	Receipt(r *transfer.Receipt)
}

// Progress tells how far a transfer is, in octets.
type Progress struct {
	Acked   int64 // acknowledged by the receiver in this session
	Held    int64 // held by the receiver before this session
	Skipped int64 // identical at the destination: not sent
	Total   int64 // found by the scan so far; transfer.UnknownSize for a stream
	Files   int64 // files whose content is complete at the receiver
	Entries int64 // entries found so far
	Scanned bool  // the scan is over: Total and Entries are final
	Lanes   int   // open now
	Session int   // from 1; grows when the receiver had to be asked again
}

// LaneState tells what happened to a lane.
type LaneState struct {
	Lane  int           // its number, from 0
	Addr  string        // the data address
	Event string        // "open", "closed", "failed", "replaced"
	Err   error         // for failed
	RTT   time.Duration // for open: from hello to its acknowledgement
}

// serial makes calls of an Observer never overlap; a nil one is silent.
type serial struct {
	mu sync.Mutex
	o  Observer
}

func (s *serial) offer(p *transfer.OfferPart) {
	if s.o != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.o.Offer(p)
	}
}

func (s *serial) answer(part uint32, a *transfer.Answer) {
	if s.o != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		c := *a
		c.Token = transfer.Token{}
		s.o.Answer(part, &c)
	}
}

func (s *serial) progress(p Progress) {
	if s.o != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.o.Progress(p)
	}
}

func (s *serial) lane(l LaneState) {
	if s.o != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.o.Lane(l)
	}
}

func (s *serial) receipt(r *transfer.Receipt) {
	if s.o != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.o.Receipt(r)
	}
}
