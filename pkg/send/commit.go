package send

import (
	"context"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// commitFiles is how many digests travel in one part.
const commitFiles = 10_000

// commit sends the digests, repairs what differs, and returns the receipt.
func (s *session) commit() (*transfer.Receipt, error) {
	for round := 0; ; round++ {
		r, err := s.sendDigests()
		if err != nil {
			return nil, err
		}
		switch {
		case r.Receipt != nil:
			return r.Receipt, nil
		case len(r.Mismatch) == 0:
			return nil, transfer.Errorf(transfer.Internal, "commit", "", "the receiver gave neither a receipt nor a reason")
		case round == maxRounds:
			return nil, transfer.Errorf(transfer.Corrupt, "verify", s.t.cfg.Source.LocalPath(r.Mismatch[0]), "it still differs after %d rounds of repair", maxRounds).
				WithHint("something on the way or at the receiver damages data: check memory, disk and network")
		}
		s.t.log.WarnContext(s.ctx, "files differ at the receiver, sending their damaged chunks again", "files", len(r.Mismatch), "round", round+1)
		if err := s.repair(r.Mismatch); err != nil {
			return nil, err
		}
	}
}

// sendDigests sends every file's digest and asks for verification.
func (s *session) sendDigests() (*transfer.CommitResult, error) {
	src := s.t.cfg.Source
	if s.sums && src.Stream() == nil {
		return s.sendSums()
	}
	n := src.Len()
	files := make([]transfer.FileDigest, 0, min(n, commitFiles))
	part := uint32(0)
	for i := range n {
		size, regular := src.Regular(i)
		if regular && !s.t.hashes.skipped(i) {
			if size == transfer.UnknownSize {
				size = s.streamSize()
			}
			d := s.t.hashes.digest(i, size)
			if d.IsZero() {
				return nil, transfer.Errorf(transfer.Internal, "commit", src.LocalPath(i), "a chunk was not hashed")
			}
			files = append(files, transfer.FileDigest{Index: i, Size: size, Digest: d})
		}
		if last := i == n-1; last || len(files) == commitFiles {
			r, err := s.commitCall(&transfer.CommitPart{Part: part, Last: last, Files: files})
			if err != nil || last {
				return r, err
			}
			part++
			files = files[:0]
		}
	}
	return s.commitCall(&transfer.CommitPart{Part: part, Last: true})
}

// sendSums is sendDigests where the receiver needs no more than the digests of
// those files that have chunks.
func (s *session) sendSums() (*transfer.CommitResult, error) {
	src := s.t.cfg.Source
	h := &s.t.hashes
	sums := make([]byte, 0, min(int(src.Len())*h.n, transfer.MaxSums))
	part := uint32(0)
	for i := range src.Len() {
		size, regular := src.Regular(i)
		if !regular || size == 0 || s.alg == transfer.None || h.skipped(i) {
			continue
		}
		if len(sums)+h.n > transfer.MaxSums {
			if r, err := s.commitCall(&transfer.CommitPart{Part: part, Sums: sums}); err != nil {
				return r, err
			}
			part, sums = part+1, sums[:0]
		}
		d := h.digest(i, size)
		if d.IsZero() {
			return nil, transfer.Errorf(transfer.Internal, "commit", src.LocalPath(i), "a chunk was not hashed")
		}
		sums = append(sums, d.Sum...)
	}
	return s.commitCall(&transfer.CommitPart{Part: part, Last: true, Sums: sums})
}

// commitCall makes one call; one that was lost is made once more in the same
// session, where the receiver joins it with the first.
func (s *session) commitCall(p *transfer.CommitPart) (*transfer.CommitResult, error) {
	p.ID, p.Session = s.t.cfg.ID, s.id
	r, err := s.t.cfg.Receiver.Commit(s.ctx, p)
	for try := 0; try < 2 && transfer.KindOf(err) == transfer.Unavailable && s.pause() == nil; try++ {
		r, err = s.t.cfg.Receiver.Commit(s.ctx, p)
	}
	if err == nil && r == nil {
		r = &transfer.CommitResult{}
	}
	return r, err
}

func (s *session) cause() error { return context.Cause(s.ctx) }
