package control

import (
	"context"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// versionHeader is the header of answers that carries the server's version.
const versionHeader = "sluice-version"

// tellVersion puts the version into the header of an answer.
func tellVersion(ctx context.Context, version string) {
	if version != "" {
		_ = grpc.SetHeader(ctx, metadata.Pairs(versionHeader, version)) // fails only when headers were sent
	}
}

// Version asks the receiver for its version. The error is that of the call, or
// NotFound when the receiver does not tell.
func (c *Client) Version(ctx context.Context) (string, error) {
	var header metadata.MD
	if _, err := healthpb.NewHealthClient(c.conn).Check(ctx, &healthpb.HealthCheckRequest{}, grpc.Header(&header)); err != nil {
		return "", FromStatus(err)
	}
	if v := header.Get(versionHeader); len(v) == 1 {
		return v[0], nil
	}
	return "", transfer.Errorf(transfer.NotFound, "ask for the version", "", "the receiver does not tell it")
}
