package recv

import (
	"bytes"
	"context"
	"slices"
	"strings"

	"github.com/e27efefb/sluice/pkg/store"
	"github.com/e27efefb/sluice/pkg/transfer"
)

const (
	defaultPage = 100
	maxPage     = 1000
)

// Get tells about one transfer of the caller (an admin: of anybody).
func (r *Receiver) Get(ctx context.Context, c Caller, id transfer.ID) (transfer.Info, error) {
	m, err := r.take(ctx, id)
	if err != nil {
		return transfer.Info{}, err
	}
	defer m.release()
	if err := m.owned(c, true); err != nil {
		return transfer.Info{}, err
	}
	return m.describe(ctx)
}

// describe is Info for any state. Control lock held.
func (m *movement) describe(ctx context.Context) (transfer.Info, error) {
	if m.stage != nil {
		return m.info(m.stage), nil
	}
	tomb, err := m.r.cfg.Store.Tombstone(ctx, m.id)
	if err != nil {
		return transfer.Info{}, err
	}
	tomb.Info.Undeclared = tomb.Spec.Undeclared
	return tomb.Info, nil
}

// info describes an unfinished transfer. Stage is the movement's; its counters may
// be read even while it is being published.
func (m *movement) info(stage store.Stage) transfer.Info {
	written, held := stage.Progress()
	m.mu.Lock()
	defer m.mu.Unlock()
	f := &m.manifest
	i := transfer.Info{
		ID: m.id, State: m.state, Principal: m.principal, Label: f.options.Label, Into: f.options.Into, First: f.first,
		Epoch: m.epoch, Lanes: len(m.lanes), Files: max(f.files, f.options.TotalFiles), Bytes: f.bytes,
		BytesAcked: written, BytesHeld: held, Created: m.created, Updated: m.updated, Undeclared: f.plain,
	}
	switch {
	case f.unknown:
		i.Bytes = transfer.UnknownSize
	case f.options.TotalBytes > i.Bytes:
		i.Bytes = f.options.TotalBytes
	}
	if m.fault != nil {
		i.Kind, i.Reason = m.fault.Kind, m.fault.Error()
	}
	return i
}

// Files pages through a committed transfer's files in order of index. Token is
// "" for the first page; n is 100 for 0 and at most 1,000.
func (r *Receiver) Files(ctx context.Context, c Caller, id transfer.ID, token string, n int) (transfer.FilesPage, error) {
	m, err := r.take(ctx, id)
	if err != nil {
		return transfer.FilesPage{}, err
	}
	err = m.owned(c, true)
	state, _ := m.stateNow()
	m.release()
	switch {
	case err != nil:
		return transfer.FilesPage{}, err
	case state != transfer.StateCommitted:
		return transfer.FilesPage{}, transfer.Errorf(transfer.Invalid, "list files", "", "the transfer is %v, only a committed one has a receipt", state)
	}
	return r.cfg.Store.ReceiptFiles(ctx, id, token, pageSize(n))
}

func pageSize(n int) int {
	if n <= 0 {
		return defaultPage
	}
	return min(n, maxPage)
}

// List pages through transfers: first the unfinished ones, then the finished,
// each newest first. Callers that are no admins see their own only.
func (r *Receiver) List(ctx context.Context, c Caller, f transfer.ListFilter) (transfer.Page, error) {
	if !c.Admin {
		f.Principal = c.Principal
	}
	wanted := func(i *transfer.Info) bool {
		return (f.Principal == "" && c.Admin || i.Principal == f.Principal) && (len(f.States) == 0 || slices.Contains(f.States, i.State))
	}
	n := pageSize(f.PageSize)
	var page transfer.Page
	after, finished := strings.CutPrefix(f.PageToken, finishedToken)
	if !finished {
		var last transfer.ID
		if f.PageToken != "" {
			id, err := transfer.ParseID(f.PageToken)
			if err != nil {
				return page, transfer.Errorf(transfer.Invalid, "list transfers", "", "the page token is not one of ours")
			}
			last = id
		}
		for _, i := range r.unfinished() {
			if !last.IsZero() && bytes.Compare(i.ID[:], last[:]) >= 0 || !wanted(&i) {
				continue
			}
			if len(page.Transfers) == n {
				page.Next = page.Transfers[n-1].ID.String()
				return page, nil
			}
			page.Transfers = append(page.Transfers, r.look(ctx, i))
		}
		after = ""
	}
	return page, r.listFinished(ctx, &page, after, n, wanted)
}

const finishedToken = "finished:"

// listFinished fills the page up with finished transfers.
func (r *Receiver) listFinished(ctx context.Context, page *transfer.Page, token string, n int, wanted func(*transfer.Info) bool) error {
	for len(page.Transfers) < n {
		tombs, next, err := r.cfg.Store.Tombstones(ctx, token, n-len(page.Transfers))
		if err != nil {
			return err
		}
		for i := range tombs {
			t := &tombs[i]
			t.Info.Undeclared = t.Spec.Undeclared
			if wanted(&t.Info) {
				page.Transfers = append(page.Transfers, t.Info)
			}
		}
		if token = next; next == "" {
			return nil
		}
	}
	page.Next = finishedToken + token
	return nil
}

// unfinished lists the transfers in memory and those on disk, newest id first.
func (r *Receiver) unfinished() []transfer.Info {
	var list []transfer.Info
	for _, m := range r.movements() {
		m.mu.Lock()
		s, stage := m.state, m.stage
		m.mu.Unlock()
		if s != transfer.StateUnknown && !s.Final() && stage != nil {
			list = append(list, m.info(stage))
		}
	}
	for _, p := range r.parkedSpecs() {
		list = append(list, p.describe())
	}
	slices.SortFunc(list, func(a, b transfer.Info) int { return bytes.Compare(b.ID[:], a.ID[:]) })
	return list
}

// describe is Info without what only the journal knows, unless it was looked at.
func (p *parkedSpec) describe() transfer.Info {
	if p.info != nil {
		return *p.info
	}
	return transfer.Info{
		ID: p.ID, State: transfer.StateOffering, Principal: p.Principal, Label: p.Options.Label, Into: p.Options.Into,
		Files: p.Options.TotalFiles, Bytes: p.Options.TotalBytes, Created: p.Created, Updated: p.since, Undeclared: p.Undeclared,
	}
}

// look completes the Info of a transfer that was found on disk and not looked at
// before, from its journal. What cannot be read stays as it is.
func (r *Receiver) look(ctx context.Context, i transfer.Info) transfer.Info {
	r.mu.Lock()
	p, ok := r.parked[i.ID]
	r.mu.Unlock()
	if !ok || p.info != nil {
		return i
	}
	d, err := r.cfg.Store.Peek(ctx, i.ID)
	if err != nil {
		r.log.Warn("look at parked transfer", "transfer", i.ID, "err", err)
		return i
	}
	i.First, i.Epoch, i.BytesAcked, i.BytesHeld, i.Files = d.First, d.Epoch, d.Held, d.Held, max(d.Files, i.Files)
	if d.Bytes < 0 || d.Bytes > i.Bytes {
		i.Bytes = d.Bytes
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if now, ok := r.parked[i.ID]; ok && now.info == nil {
		now.info = &i
		r.parked[i.ID] = now
	}
	return i
}
