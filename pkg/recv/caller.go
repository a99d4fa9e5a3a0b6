package recv

import (
	"context"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// Caller is who calls and what it may do.
type Caller struct {
	Principal string // owner of the transfers that it makes
	Prefix    string // its directory below the root; "" for the root
	Admin     bool   // may see and abort the transfers of others
	// MaxTransfer is the largest transfer in octets; 0: no limit of its own.
	MaxTransfer int64
	// Rate limits all its lanes together, in octets a second; 0: no limit.
	Rate int64
	// Conflicts reports whether it may use a policy; nil: all.
	Conflicts func(transfer.Conflict) bool
}

// View is the receiver as one caller sees it. It satisfies the interface that
// pkg/send consumes.
type View struct {
	r *Receiver
	c Caller
}

// As returns the receiver as c sees it.
func (r *Receiver) As(c Caller) *View { return &View{r: r, c: c} }

// Negotiate is [Receiver.Negotiate] as this caller.
func (v *View) Negotiate(ctx context.Context, p *transfer.OfferPart) (*transfer.Answer, error) {
	return v.r.Negotiate(ctx, v.c, p)
}

// Commit is [Receiver.Commit] as this caller.
func (v *View) Commit(ctx context.Context, p *transfer.CommitPart) (*transfer.CommitResult, error) {
	return v.r.Commit(ctx, v.c, p)
}

// Abort is [Receiver.Abort] as this caller.
func (v *View) Abort(ctx context.Context, id transfer.ID, session transfer.Session, reason string) error {
	return v.r.Abort(ctx, v.c, id, session, reason)
}

// Get is [Receiver.Get] as this caller.
func (v *View) Get(ctx context.Context, id transfer.ID) (transfer.Info, error) {
	return v.r.Get(ctx, v.c, id)
}

// List is [Receiver.List] as this caller.
func (v *View) List(ctx context.Context, f transfer.ListFilter) (transfer.Page, error) {
	return v.r.List(ctx, v.c, f)
}

// Files is [Receiver.Files] as this caller.
func (v *View) Files(ctx context.Context, id transfer.ID, token string, n int) (transfer.FilesPage, error) {
	return v.r.Files(ctx, v.c, id, token, n)
}

// Watch is [Receiver.Watch] as this caller.
func (v *View) Watch(ctx context.Context, ids []transfer.ID, f func(transfer.Info) error) error {
	return v.r.Watch(ctx, v.c, ids, f)
}

// notFound hides whether an id exists from those whom it does not concern.
func notFound(id transfer.ID) *transfer.Error {
	return transfer.Errorf(transfer.NotFound, "find transfer", "", "%v is not known to this receiver", id)
}

// owned checks that the movement exists and is the caller's (or the caller is an
// admin, where that is allowed).
func (m *movement) owned(c Caller, admin bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.state == transfer.StateUnknown || m.principal != c.Principal && !(admin && c.Admin) {
		return notFound(m.id)
	}
	return nil
}
