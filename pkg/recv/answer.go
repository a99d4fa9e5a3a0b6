package recv

import (
	"context"

	"github.com/e27efefb/sluice/pkg/store"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// answer says yes to a part. Control lock held.
func (m *movement) answer(p *transfer.OfferPart, files []store.FileState) *transfer.Answer {
	r := m.r
	m.mu.Lock()
	a := &transfer.Answer{
		Epoch: m.epoch, Token: m.token, TokenTTL: max(0, m.until.Sub(r.now())),
		MaxLanes:  lanesFor(m.manifest.options.Lanes, r.cfg.Limits.LanesPerTransfer),
		DataTLS:   r.cfg.DataTLS,
		Principal: m.principal, Durable: true, Incarnation: r.cfg.Incarnation, Sums: true,
	}
	m.mu.Unlock()
	if r.cfg.DataAddrs != nil {
		a.DataAddrs = r.cfg.DataAddrs()
	}
	a.Files = fileAnswers(p, files)
	return a
}

func lanesFor(wanted, limit int) int {
	if wanted > 0 {
		return min(wanted, limit)
	}
	return limit
}

// fileAnswers leaves out what has no chunks and, if the part wants it brief, what
// is one chunk of which nothing is held.
func fileAnswers(p *transfer.OfferPart, files []store.FileState) []transfer.FileAnswer {
	var list []transfer.FileAnswer
	for i := range files {
		e, f := &p.Entries[i], &files[i]
		plain := e.Size == 0 || p.Brief && len(f.Held) == 0 && e.Size > 0 && e.Size <= transfer.MinChunkSize
		if e.Type == transfer.Regular && !plain || f.Skip {
			list = append(list, transfer.FileAnswer{Index: e.Index, ChunkSize: f.ChunkSize, Held: f.Held, Skip: f.Skip})
		}
	}
	return list
}

// repeated answers a part that was answered before.
func (m *movement) repeated(p *transfer.OfferPart) (*transfer.Answer, error) {
	old := m.parts[p.Part]
	if old.hash != hashPart(p) || old.last != p.Last {
		return nil, transfer.Errorf(transfer.Invalid, opOffer, "", "part %d came again with other content", p.Part)
	}
	files := make([]store.FileState, old.count)
	for i := range files {
		_, files[i], _ = m.stage.Entry(old.first + uint32(i)) //nolint:gosec // at most PartEntries
	}
	return m.answer(p, files), nil
}

// replay follows the parts of an offer for an id that is committed already.
type replay struct {
	session transfer.Session
	hasher  *store.ManifestHasher
	parts   []part
	next    uint32 // index of the next entry
}

// again answers an offer for a committed id: everything is held; the last part
// gives the receipt, or Exists when the manifest is another one.
func (m *movement) again(ctx context.Context, p *transfer.OfferPart) (*transfer.Answer, error) {
	if p.Part == 0 {
		m.replay = &replay{session: p.Session, hasher: store.NewManifestHasher()}
	}
	rp := m.replay
	if rp == nil || rp.session != p.Session || int(p.Part) > len(rp.parts) {
		return nil, transfer.Errorf(transfer.Invalid, opOffer, "", "the transfer is committed and part %d cannot be placed", p.Part).WithHint("begin again with part 0")
	}
	if int(p.Part) < len(rp.parts) {
		if rp.parts[p.Part].hash != hashPart(p) {
			return nil, transfer.Errorf(transfer.Invalid, opOffer, "", "part %d came again with other content", p.Part)
		}
		return m.held(p), nil
	}
	if err := checkDense(p.Entries, rp.next); err != nil {
		return nil, err
	}
	for i := range p.Entries {
		rp.hasher.Add(&p.Entries[i])
	}
	rp.parts = append(rp.parts, newPart(p, rp.next))
	rp.next += uint32(len(p.Entries)) //nolint:gosec // at most PartEntries
	if !p.Last {
		return m.held(p), nil
	}
	m.replay = nil
	tomb, err := m.r.cfg.Store.Tombstone(ctx, m.id)
	if err != nil {
		return nil, err
	}
	if tomb.ManifestHash != rp.hasher.Sum() {
		return nil, transfer.Errorf(transfer.Exists, opOffer, "", "the transfer %v was committed with other files", m.id).WithHint("use a new id")
	}
	a := m.held(p)
	a.Committed = tomb.Info.Receipt
	return a, nil
}

// held answers a part of a committed transfer: nothing is to be sent.
func (m *movement) held(p *transfer.OfferPart) *transfer.Answer {
	files := make([]store.FileState, len(p.Entries))
	for i := range files {
		size := p.Entries[i].Size
		files[i].ChunkSize = transfer.ChunkSizeFor(size)
		if n := transfer.Chunks(size, files[i].ChunkSize); n > 0 {
			files[i].Held = transfer.Held{{Count: n}}
		}
	}
	a := m.answer(p, files)
	a.Token, a.TokenTTL, a.MaxLanes, a.DataAddrs = transfer.Token{}, 0, 0, nil
	return a
}

// plan judges a part and leaves no state.
func (r *Receiver) plan(ctx context.Context, c Caller, p *transfer.OfferPart) (*transfer.Answer, error) {
	m := newMovement(r, p.ID)
	problems, err := r.cfg.Store.Check(ctx, m.newSpec(c, p), p.Entries)
	if err != nil {
		return nil, err
	}
	if len(problems) > 0 {
		return nil, refused(problems)
	}
	u, err := r.cfg.Store.Usage(ctx)
	if err != nil {
		return nil, err
	}
	if p.Options.TotalBytes > u.Free {
		return nil, transfer.Errorf(transfer.NoSpace, opOffer, "", "the transfer has %d octets and %d are free", p.Options.TotalBytes, u.Free).WithHint("free space at the receiver, or send less")
	}
	m.principal, m.manifest.options = c.Principal, p.Options
	files := make([]store.FileState, len(p.Entries))
	free := u.Free
	for i := range files {
		files[i].ChunkSize = transfer.ChunkSizeFor(p.Entries[i].Size)
		free -= max(0, p.Entries[i].Size)
	}
	a := m.answer(p, files)
	a.TokenTTL, a.FreeBytes = 0, max(0, free)
	return a, nil
}
