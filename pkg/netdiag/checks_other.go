//go:build !linux

package netdiag

import (
	"context"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// PathMTU has no source on this system; the error is ErrUnsupported.
func PathMTU(context.Context, string) (MTU, error) {
	return MTU{}, failure(transfer.Invalid, ErrUnsupported, "read the path MTU")
}

// SocketBuffers has no source on this system; the error is ErrUnsupported.
func SocketBuffers() (Buffers, error) {
	return Buffers{}, failure(transfer.Invalid, ErrUnsupported, "read the socket buffer limits")
}
