package control

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/e27efefb/sluice/pkg/auth"
	"github.com/e27efefb/sluice/pkg/transfer"
)

func TestKindsAndCodes(t *testing.T) {
	for kind, code := range map[transfer.Kind]codes.Code{
		transfer.Invalid: codes.InvalidArgument, transfer.NotFound: codes.NotFound, transfer.Exists: codes.AlreadyExists, transfer.Denied: codes.PermissionDenied,
		transfer.NoSpace: codes.ResourceExhausted, transfer.Busy: codes.ResourceExhausted, transfer.Changed: codes.FailedPrecondition, transfer.Fenced: codes.Aborted,
		transfer.Corrupt: codes.DataLoss, transfer.Unavailable: codes.Unavailable, transfer.Canceled: codes.Canceled, transfer.Internal: codes.Internal,
	} {
		s := ToStatus(fmt.Errorf("outer: %w", transfer.Errorf(kind, "do thing", "a b", "it went wrong").WithHint("do better")))
		if status.Code(s) != code {
			t.Errorf("%v: %v, want %v", kind, status.Code(s), code)
		}
		var back *transfer.Error
		if !errors.As(FromStatus(s), &back) || back.Kind != kind || !back.Remote {
			t.Errorf("%v comes back as %+v", kind, back)
			continue
		}
		if kind == transfer.Internal {
			if back.Msg != internalMessage || strings.Contains(s.Error(), "went wrong") {
				t.Errorf("a fault of ours leaks: %v", s)
			}
			continue
		}
		if back.Op != "do thing" || back.Path != "a b" || back.Msg != "it went wrong" || back.Hint != "do better" {
			t.Errorf("%v comes back as %+v", kind, back)
		}
	}
	if err := ToStatus(&transfer.Error{Kind: transfer.Denied, Msg: "who?", Err: auth.ErrUnauthenticated}); status.Code(err) != codes.Unauthenticated || transfer.KindOf(FromStatus(err)) != transfer.Denied {
		t.Errorf("%v, want unauthenticated", err)
	}
	if ToStatus(nil) != nil || FromStatus(nil) != nil {
		t.Error("nil is an error")
	}
	if s := ToStatus(errors.New("secret")); strings.Contains(s.Error(), "secret") || status.Code(s) != codes.Internal {
		t.Error(s)
	}
}

func TestStatusDetails(t *testing.T) {
	details := func(e *transfer.Error) (info *errdetails.ErrorInfo, retry *errdetails.RetryInfo, quota *errdetails.QuotaFailure, bad *errdetails.BadRequest) {
		s, _ := status.FromError(ToStatus(e))
		if n := proto.Size(s.Proto()); n > 8<<10 {
			t.Errorf("a status of %d octets does not fit a trailer", n)
		}
		for _, d := range s.Details() {
			switch d := d.(type) {
			case *errdetails.ErrorInfo:
				info = d
			case *errdetails.RetryInfo:
				retry = d
			case *errdetails.QuotaFailure:
				quota = d
			case *errdetails.BadRequest:
				bad = d
			}
		}
		return info, retry, quota, bad
	}
	info, retry, _, _ := details(&transfer.Error{Kind: transfer.Busy, Op: "take offer", RetryAfter: 7 * time.Second})
	if info.GetDomain() != "sluice" || info.GetReason() != "busy" || info.GetMetadata()["op"] != "take offer" || retry.GetRetryDelay().AsDuration() != 7*time.Second {
		t.Errorf("%v %v", info, retry)
	}
	if _, _, quota, _ := details(&transfer.Error{Kind: transfer.NoSpace, Msg: "3 GiB are missing"}); len(quota.GetViolations()) != 1 || quota.GetViolations()[0].GetDescription() != "3 GiB are missing" {
		t.Error(quota)
	}
	e := &transfer.Error{Kind: transfer.Invalid, Msg: "bad names", Path: strings.Repeat("é", 2000), Hint: strings.Repeat("h", 5000)}
	for i := range 500 {
		e.Problems = append(e.Problems, transfer.Problem{Path: fmt.Sprint("f", i), Kind: transfer.Exists, Reason: "the name is taken"})
	}
	info, _, _, bad := details(e)
	if n := len(bad.GetFieldViolations()); n == 0 || n > maxViolations || info.GetMetadata()["problems"] != "500" {
		t.Errorf("%d violations of %s", n, info.GetMetadata()["problems"])
	}
	var back *transfer.Error
	if !errors.As(FromStatus(ToStatus(e)), &back) || len(back.Problems) == 0 || back.Problems[0] != e.Problems[0] {
		t.Errorf("%+v", back)
	}
}

func TestForeignStatuses(t *testing.T) {
	for err, want := range map[error]transfer.Kind{
		status.Error(codes.Unimplemented, "unknown method"):                                              transfer.Invalid,
		status.Error(codes.DeadlineExceeded, "x"):                                                        transfer.Unavailable,
		status.Error(codes.ResourceExhausted, "grpc: received message larger than max (5 vs. 4)"):        transfer.Invalid,
		status.Error(codes.ResourceExhausted, "slow down"):                                               transfer.Busy,
		status.Error(codes.Unavailable, `connection error: desc = "transport: Error while dialing: no"`): transfer.Unavailable,
		status.Error(codes.Unknown, "x"):                                                                 transfer.Internal,
		context.Canceled:                                                                                 transfer.Canceled,
		context.DeadlineExceeded:                                                                         transfer.Unavailable,
	} {
		var e *transfer.Error
		if !errors.As(FromStatus(err), &e) || e.Kind != want || e.Remote {
			t.Errorf("%v: %+v, want %v", err, e, want)
		}
	}
	err := FromStatus(status.Error(codes.Unavailable, `connection error: desc = "transport: Error while dialing: dial tcp 127.0.0.1:1: connect: connection refused"`))
	if got := err.Error(); got != "reach the service: dial tcp 127.0.0.1:1: connect: connection refused" {
		t.Error(got)
	}
	if hint := transfer.HintOf(err); !strings.Contains(hint, "the service runs") {
		t.Errorf("hint %q", hint)
	}
	err = FromStatus(status.Error(codes.Unavailable, "name resolver error: produced zero addresses"))
	if got, hint := err.Error(), transfer.HintOf(err); got != "reach the service: the name of its host has no address" || hint != "check the name" {
		t.Errorf("%s, hint %q", got, hint)
	}
}
