package source

import (
	"context"
	"io"
	"sync"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// Links says what becomes of symbolic links below a root.
type Links uint8

// The ways with links. Skip is the zero value and the default.
const (
	SkipLinks     Links = 0 // left out and counted
	PreserveLinks Links = 1 // sent as links, if relative and staying inside their root
)

// ParseLinks reads "skip" (or "") and "preserve".
func ParseLinks(s string) (Links, error) {
	switch s {
	case "", "skip":
		return SkipLinks, nil
	case "preserve":
		return PreserveLinks, nil
	}
	return SkipLinks, transfer.Errorf(transfer.Invalid, "read links rule", "", "%q is neither skip nor preserve", s)
}

// Config says what Scan looks for.
type Config struct {
	Roots []string // files and directories; at least one
	As    string   // offered name of the only root; "": its last element
	// Expected is what the maker of the only root, a file, said its digest is; it
	// goes along with the offer. Zero: nothing was said.
	Expected    transfer.Digest
	Exclude     []string       // patterns left out (see the package comment)
	Include     []string       // exceptions from Exclude
	Links       Links          // zero: links are skipped
	SkipSpecial bool           // devices, sockets and FIFOs are left out; else they are problems
	KeepGoing   bool           // problems are left out and the rest is sent; else they end the scan
	Names       transfer.Names // rules that names must keep; zero: Posix
}

// Counts is what a scan found so far.
type Counts struct {
	Files, Dirs, Links int64 // entries of the manifest
	Bytes              int64 // octets of the files; transfer.UnknownSize for a stream
	Excluded           int64 // left out by patterns, each directory once
	SkippedLinks       int64
	SkippedSpecial     int64
	Problems           int64 // left out or refused
}

// Source is what a transfer sends. All methods are safe for concurrent use.
type Source struct {
	cfg    Config
	filter filter
	stream io.Reader
	cancel context.CancelFunc
	done   chan struct{} // closed when the scan ended

	mu       sync.RWMutex
	m        manifest
	counts   Counts
	problems problems
	scanErr  error         // how the scan ended; io.EOF for well
	wake     chan struct{} // closed and replaced when there is news
}

func (s *Source) announce() { // mu is held
	close(s.wake)
	s.wake = make(chan struct{})
}

// firstBatch and nextBatch are how many entries are worth a message of their own
// while the scan goes on.
const (
	firstBatch = 256
	nextBatch  = 1000
)

// entryOverhead is about what an entry costs in a message besides its path.
const entryOverhead = 48

// Entries returns entries from index first on: at most limit, and about maxBytes
// octets of message. It waits for the scan until a batch is worth sending. Last
// is true when nothing follows. When the scan failed, or will fail, it waits for
// its end and returns its error, which names the problems.
func (s *Source) Entries(ctx context.Context, first uint32, limit, maxBytes int) (entries []transfer.Entry, last bool, err error) {
	worth := min(limit, nextBatch)
	if first == 0 {
		worth = min(limit, firstBatch)
	}
	for {
		s.mu.RLock()
		done := s.scanErr != nil
		doomed := s.problems.total > 0 && !s.cfg.KeepGoing
		switch {
		case done && s.scanErr != io.EOF: //nolint:errorlint // set by us
			err = s.scanErr
			s.mu.RUnlock()
			return nil, false, err
		case done || (!doomed && s.m.n >= first && int64(s.m.n-first) >= int64(worth)):
			entries = s.collect(first, limit, maxBytes)
			last = done && uint64(first)+uint64(len(entries)) >= uint64(s.m.n)
			s.mu.RUnlock()
			return entries, last, nil
		}
		wake := s.wake
		s.mu.RUnlock()
		select {
		case <-wake:
		case <-ctx.Done():
			return nil, false, context.Cause(ctx)
		}
	}
}

func (s *Source) collect(first uint32, limit, maxBytes int) []transfer.Entry {
	if first >= s.m.n {
		return nil
	}
	n := min(uint32(max(limit, 1)), s.m.n-first) //nolint:gosec // small
	out := make([]transfer.Entry, 0, n)
	dir, dirPath, size := noDir, "", 0
	for i := first; i < first+n; i++ {
		r := s.m.at(i)
		if r.dir != dir {
			dir, dirPath = r.dir, s.m.dirPath(r.dir, false)
		}
		e := s.m.entry(i, r, dirPath)
		size += entryOverhead + len(e.Path) + len(e.Link)
		if size > maxBytes && len(out) > 0 {
			break
		}
		out = append(out, e)
	}
	return out
}

// Entry returns one entry of the manifest.
func (s *Source) Entry(i uint32) transfer.Entry {
	s.mu.RLock()
	defer s.mu.RUnlock()
	r := s.m.at(i)
	return s.m.entry(i, r, s.m.dirPath(r.dir, false))
}

// Size returns the octets that entry i has to send: 0 for directories, links and
// empty files, transfer.UnknownSize for a stream.
func (s *Source) Size(i uint32) int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.m.at(i).size
}

// Regular reports whether entry i is a file, and its size.
func (s *Source) Regular(i uint32) (size int64, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	r := s.m.at(i)
	return r.size, r.typ == transfer.Regular
}

// LocalPath returns where entry i is on this machine, for messages.
func (s *Source) LocalPath(i uint32) string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.localPath(i)
}

func (s *Source) localPath(i uint32) string {
	r := s.m.at(i)
	if s.stream != nil {
		return s.m.path(r, "")
	}
	return join(s.m.dirPath(r.dir, true), s.m.text(r.name, r.nameLen))
}

// Counts returns what was found so far, and whether the scan is over.
func (s *Source) Counts() (c Counts, done bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	c = s.counts
	c.Problems = s.problems.total
	return c, s.scanErr != nil
}

// Len returns how many entries were found so far.
func (s *Source) Len() uint32 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.m.n
}

// Problems returns what was left out or refused, at most MaxProblems, and how
// many there were in all.
func (s *Source) Problems() ([]transfer.Problem, int64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return append([]transfer.Problem(nil), s.problems.list...), s.problems.total
}

// KeepGoing reports whether problems are left out instead of ending the transfer.
func (s *Source) KeepGoing() bool { return s.cfg.KeepGoing }

// LeaveOut drops files that turned out to be unreadable after the scan, each with
// its problem, so that a new session can send the rest. Indexes change: nothing
// may be reading, and the scan must be over.
func (s *Source) LeaveOut(bad map[uint32]transfer.Problem) {
	<-s.done
	s.mu.Lock()
	defer s.mu.Unlock()
	drop := make(map[uint32]bool, len(bad))
	for i, p := range bad {
		drop[i] = true
		r := s.m.at(i)
		s.counts.Files--
		s.counts.Bytes -= r.size
		s.problems.add(p)
	}
	s.m = s.m.without(drop)
}

// Close stops the scan and waits for it.
func (s *Source) Close() {
	s.cancel()
	<-s.done
}

// Cut returns how far a batch that starts at entry first may reach (at most end):
// up to maxFiles files with content and up to maxBytes octets, at least one file.
// It also returns their number and their octets.
func (s *Source) Cut(first, end uint32, maxFiles int, maxBytes int64) (stop uint32, files int, octets int64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for i := first; i < end; i++ {
		size := s.m.at(i).size
		if size <= 0 {
			continue
		}
		if files > 0 && (files == maxFiles || octets+size > maxBytes) {
			return i, files, octets
		}
		files++
		octets += size
	}
	return end, files, octets
}
