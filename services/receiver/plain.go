package main

import (
	"context"
	"net/netip"

	"github.com/e27efefb/sluice/pkg/plain"
	"github.com/e27efefb/sluice/pkg/recv"
)

// plainStore lets the plain protocol's files go the way of all others.
type plainStore struct{ r *recv.Receiver }

func (p plainStore) Begin(ctx context.Context, name string, peer netip.AddrPort) (plain.Upload, error) {
	u, err := p.r.Plain(ctx, recv.Caller{Principal: "plain:" + peer.Addr().String()}, name)
	if err != nil {
		return nil, err
	}
	return plainUpload{Upload: u, name: name}, nil
}

type plainUpload struct {
	*recv.Upload

	name string
}

func (u plainUpload) Publish(ctx context.Context) (plain.Receipt, error) {
	r, err := u.Upload.Publish(ctx)
	if err != nil {
		return plain.Receipt{}, err
	}
	out := plain.Receipt{ID: r.ID.String(), Name: u.name, Size: r.Bytes}
	if len(r.Files) == 1 {
		out.Digest = r.Files[0].Digest.String()
		if r.Files[0].Published != "" {
			out.Name = r.Files[0].Published
		}
	}
	return out, nil
}
