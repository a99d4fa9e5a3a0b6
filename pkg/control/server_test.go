package control

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/e27efefb/sluice/proto/sluice/v1"

	"github.com/e27efefb/sluice/pkg/transfer"
)

func offerOf(names ...string) *transfer.OfferPart {
	p := &transfer.OfferPart{ID: transfer.NewID(), Session: transfer.NewSession(), Last: true, Options: transfer.Options{Algorithm: transfer.BLAKE3, TotalBytes: transfer.UnknownSize}}
	for i, n := range names {
		p.Entries = append(p.Entries, transfer.Entry{Index: uint32(i), Path: transfer.Path(n), Size: 5})
	}
	return p
}

func TestNegotiateOverGRPC(t *testing.T) {
	v := &fakeView{negotiate: func(_ context.Context, p *transfer.OfferPart) (*transfer.Answer, error) {
		switch p.Entries[0].Path {
		case "taken":
			return nil, &transfer.Error{Kind: transfer.Exists, Op: "judge offer", Msg: "1 name is taken", Hint: "rename it", Problems: []transfer.Problem{{Path: "taken", Kind: transfer.Exists, Reason: "is there"}}}
		case "busy":
			return nil, &transfer.Error{Kind: transfer.Busy, Msg: "later", RetryAfter: 3 * time.Second}
		}
		return &transfer.Answer{Epoch: 1, Token: transfer.NewToken(), DataAddrs: []string{":7401", "other:1"}, MaxLanes: 4}, nil
	}}
	s := serve(t, ServerConfig{}, viewOf(v), time.Second)
	c, ctx := s.dial(ClientConfig{}), within(t)
	a, err := c.Negotiate(ctx, offerOf("fine"))
	if err != nil || a.Epoch != 1 || a.DataAddrs[0] != "127.0.0.1:7401" || a.DataAddrs[1] != "other:1" {
		t.Errorf("%+v, %v", a, err)
	}
	var e *transfer.Error
	if _, err := c.Negotiate(ctx, offerOf("taken")); !errors.As(err, &e) || e.Kind != transfer.Exists || !e.Remote || e.Hint != "rename it" || len(e.Problems) != 1 || e.Error() != "judge offer: 1 name is taken" {
		t.Errorf("%+v", err)
	}
	raw, err := c.rpc.Negotiate(ctx, offerToProto(offerOf("taken")))
	if err != nil || raw.GetOk() || raw.GetRefusal().GetKind() != pb.Kind_KIND_EXISTS {
		t.Errorf("%v, %v, want a refusal", raw, err)
	}
	if _, err := c.Negotiate(ctx, offerOf("busy")); !errors.As(err, &e) || e.Kind != transfer.Busy || e.RetryAfter != 3*time.Second {
		t.Errorf("%+v", err)
	}
	if _, err := c.Negotiate(ctx, offerOf("a\xff")); !errors.As(err, &e) || e.Kind != transfer.Invalid || e.Remote || len(e.Problems) != 1 {
		t.Errorf("%+v", err)
	}
}

func TestPanicIsHiddenAndCounted(t *testing.T) {
	v := &fakeView{get: func(transfer.ID) (transfer.Info, error) { panic("secret") }}
	reg := prometheus.NewRegistry()
	s := serve(t, ServerConfig{Metrics: reg}, viewOf(v), time.Second)
	c, ctx := s.dial(ClientConfig{}), within(t)
	_, err := c.rpc.GetTransfer(ctx, &pb.GetTransferRequest{TransferId: transfer.NewID().String()})
	if status.Code(err) != codes.Internal || status.Convert(err).Message() != internalMessage {
		t.Errorf("%v, want the fixed message", err)
	}
	if ok, err := c.Serving(ctx); !ok || err != nil {
		t.Errorf("after the panic: serving %v, %v", ok, err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counted := false
	for _, f := range families {
		for _, m := range f.GetMetric() {
			labels := ""
			for _, l := range m.GetLabel() {
				labels += l.GetValue() + " "
			}
			counted = counted || f.GetName() == "grpc_server_handled_total" && strings.Contains(labels, "Internal") && strings.Contains(labels, "GetTransfer") && m.GetCounter().GetValue() == 1
		}
	}
	if !counted {
		t.Error("the panic is not in grpc_server_handled_total")
	}
	s.stop()
	if log := s.log.String(); !strings.Contains(log, "panic=secret") || !strings.Contains(log, "principal=anonymous") || !strings.Contains(log, "transfer=") {
		t.Errorf("the log lacks the panic: %s", log)
	}
}

func TestCauseGoesToTheLogOnly(t *testing.T) {
	v := &fakeView{get: func(transfer.ID) (transfer.Info, error) { return transfer.Info{}, errors.New("disk on fire") }}
	s := serve(t, ServerConfig{}, viewOf(v), time.Second)
	_, err := s.dial(ClientConfig{}).Get(within(t), transfer.NewID())
	if transfer.KindOf(err) != transfer.Internal || strings.Contains(err.Error(), "fire") {
		t.Error(err)
	}
	s.stop()
	if !strings.Contains(s.log.String(), `cause="disk on fire"`) {
		t.Error(s.log.String())
	}
}

func TestRateLimitHasRetryInfo(t *testing.T) {
	v := &fakeView{get: func(transfer.ID) (transfer.Info, error) { return transfer.Info{ID: transfer.NewID()}, nil }}
	s := serve(t, ServerConfig{CallsPerSecond: 0.001, CallsBurst: 2}, viewOf(v), time.Second)
	c, ctx := s.dial(ClientConfig{}), within(t)
	for range 2 {
		if _, err := c.Get(ctx, transfer.NewID()); err != nil {
			t.Fatal(err)
		}
	}
	_, err := c.rpc.GetTransfer(ctx, &pb.GetTransferRequest{TransferId: transfer.NewID().String()})
	var retry *errdetails.RetryInfo
	for _, d := range status.Convert(err).Details() {
		if r, ok := d.(*errdetails.RetryInfo); ok {
			retry = r
		}
	}
	if status.Code(err) != codes.ResourceExhausted || retry.GetRetryDelay().AsDuration() < time.Second {
		t.Errorf("%v with %v", err, retry)
	}
}
