package control

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/e27efefb/sluice/pkg/auth"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// Domain of ErrorInfo: whoever sees it may read the reason as a kind.
const Domain = "sluice"

const (
	// internalMessage is all that a caller hears of a fault of ours.
	internalMessage = "internal error; the cause is in the service's log"

	maxViolations = 100     // files that one status names
	maxDetails    = 4 << 10 // octets of all details of a status, which travel as a trailer
	maxMessage    = 1 << 10 // octets of a status message
	maxMeta       = 512     // octets of one value in ErrorInfo.metadata
)

// kindCodes is the table of kinds and codes, in the order of the kinds.
var kindCodes = [...]codes.Code{ //nolint:gochecknoglobals // a table, never written
	transfer.OK:          codes.OK,
	transfer.Internal:    codes.Internal,
	transfer.Invalid:     codes.InvalidArgument,
	transfer.NotFound:    codes.NotFound,
	transfer.Exists:      codes.AlreadyExists,
	transfer.Denied:      codes.PermissionDenied, // Unauthenticated when no identity was given
	transfer.NoSpace:     codes.ResourceExhausted,
	transfer.Busy:        codes.ResourceExhausted,
	transfer.Changed:     codes.FailedPrecondition,
	transfer.Fenced:      codes.Aborted,
	transfer.Corrupt:     codes.DataLoss,
	transfer.Unavailable: codes.Unavailable,
	transfer.Canceled:    codes.Canceled,
}

// codeKind is the kind of a status without ErrorInfo: one that grpc itself, a
// proxy or another program made.
func codeKind(c codes.Code) transfer.Kind {
	switch c {
	case codes.OK:
		return transfer.OK
	case codes.Canceled:
		return transfer.Canceled
	case codes.InvalidArgument, codes.OutOfRange, codes.Unimplemented:
		return transfer.Invalid
	case codes.DeadlineExceeded, codes.Unavailable:
		return transfer.Unavailable
	case codes.NotFound:
		return transfer.NotFound
	case codes.AlreadyExists:
		return transfer.Exists
	case codes.PermissionDenied, codes.Unauthenticated:
		return transfer.Denied
	case codes.ResourceExhausted:
		return transfer.Busy
	case codes.FailedPrecondition:
		return transfer.Changed
	case codes.Aborted:
		return transfer.Fenced
	case codes.DataLoss:
		return transfer.Corrupt
	}
	return transfer.Internal
}

// ToStatus turns an error of an engine into what a caller gets; nil stays nil
// and a gRPC status stays as it is. A fault of ours becomes a fixed message: log
// the error itself.
func ToStatus(err error) error {
	if err == nil {
		return nil
	}
	var e *transfer.Error
	if !errors.As(err, &e) {
		if s, ok := status.FromError(err); ok {
			return s.Err()
		}
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			return status.Error(codes.DeadlineExceeded, "the call's deadline passed")
		case errors.Is(err, context.Canceled):
			return newStatus(codes.Canceled, &transfer.Error{Kind: transfer.Canceled, Msg: "the call was cancelled"}).Err()
		}
		e = &transfer.Error{Kind: transfer.Internal}
	}
	code := codes.Internal
	if e.Kind.Valid() {
		code = kindCodes[e.Kind]
	}
	switch {
	case code == codes.OK, code == codes.Internal:
		return newStatus(codes.Internal, &transfer.Error{Kind: transfer.Internal, Msg: internalMessage}).Err()
	case e.Kind == transfer.Denied && errors.Is(err, auth.ErrUnauthenticated):
		code = codes.Unauthenticated
	}
	return newStatus(code, e).Err()
}

func newStatus(code codes.Code, e *transfer.Error) *status.Status {
	shown := transfer.Error{Kind: e.Kind, Op: e.Op, Path: e.Path, Msg: reason(e)}
	s := status.New(code, cut(utf8Text(shown.Error()), maxMessage))
	info := &errdetails.ErrorInfo{Reason: e.Kind.String(), Domain: Domain, Metadata: map[string]string{}}
	for k, v := range map[string]string{"op": e.Op, "path": e.Path, "hint": transfer.HintOf(e)} {
		if v != "" {
			info.Metadata[k] = cut(utf8Text(v), maxMeta)
		}
	}
	details := []protoadapt.MessageV1{info}
	left := maxDetails - proto.Size(info)
	if wait := retryAfter(e); wait > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(wait)})
	}
	if e.Kind == transfer.NoSpace {
		details = append(details, &errdetails.QuotaFailure{Violations: []*errdetails.QuotaFailure_Violation{
			{Subject: "space", Description: cut(utf8Text(reason(e)), maxMeta)},
		}})
		left -= maxMeta
	}
	if len(e.Problems) > 0 {
		info.Metadata["problems"] = strconv.Itoa(len(e.Problems))
		details = append(details, badRequest(e.Problems, left))
	}
	if with, err := s.WithDetails(details...); err == nil {
		return with
	}
	return s
}

// retryAfter is the advice that comes with what passes by itself.
func retryAfter(e *transfer.Error) time.Duration {
	if e.RetryAfter > 0 {
		return e.RetryAfter
	}
	switch e.Kind {
	case transfer.Busy, transfer.Unavailable:
		return time.Second
	}
	return 0
}

// badRequest names files until left octets are used, at most maxViolations.
func badRequest(problems []transfer.Problem, left int) *errdetails.BadRequest {
	b := &errdetails.BadRequest{}
	for _, p := range problems[:min(len(problems), maxViolations)] {
		v := &errdetails.BadRequest_FieldViolation{
			Field: utf8Text(p.Path), Description: utf8Text(p.Reason), Reason: strings.ToUpper(p.Kind.String()),
		}
		if left -= proto.Size(v) + 4; left < 0 {
			break
		}
		b.FieldViolations = append(b.FieldViolations, v)
	}
	return b
}

// reason is the message of e without op and path. The cause is shown only where
// there is no message.
func reason(e *transfer.Error) string {
	c := transfer.Error{Kind: e.Kind, Msg: e.Msg}
	if e.Msg == "" {
		c.Err = e.Err
	}
	return utf8Text(c.Error())
}

// FromStatus is the inverse of ToStatus. The result is a *transfer.Error, or nil.
func FromStatus(err error) error {
	if err == nil {
		return nil
	}
	var known *transfer.Error
	if errors.As(err, &known) {
		return err
	}
	s, ok := status.FromError(err)
	if !ok {
		s = status.FromContextError(err)
	}
	if s.Code() == codes.OK {
		return nil
	}
	e := &transfer.Error{Kind: codeKind(s.Code()), Msg: s.Message()}
	for _, d := range s.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			if d.GetDomain() != Domain {
				continue
			}
			e.Remote, e.Kind = true, transfer.ParseKind(d.GetReason())
			m := d.GetMetadata()
			e.Op, e.Path, e.Hint = m["op"], m["path"], m["hint"]
			e.Msg = withoutPrefix(s.Message(), e.Op, e.Path)
		case *errdetails.RetryInfo:
			e.RetryAfter = max(0, d.GetRetryDelay().AsDuration())
		case *errdetails.BadRequest:
			for _, v := range d.GetFieldViolations() {
				e.Problems = append(e.Problems, transfer.Problem{
					Path: v.GetField(), Kind: transfer.ParseKind(strings.ToLower(v.GetReason())), Reason: v.GetDescription(),
				})
			}
		}
	}
	if !e.Remote {
		explain(e, s)
	}
	return e
}

// explain words what grpc or something between made.
func explain(e *transfer.Error, s *status.Status) {
	e.Op = "call the service"
	switch s.Code() {
	case codes.Unimplemented:
		e.Hint = "check the address and the versions: the far side does not know this call"
	case codes.DeadlineExceeded:
		e.Msg = "no answer within the time given"
	case codes.ResourceExhausted:
		if strings.Contains(s.Message(), "larger than max") {
			e.Kind = transfer.Invalid // grpc's own: repeating does not make it smaller
		}
	case codes.Unavailable:
		e.Op = "reach the service"
		if i := strings.LastIndex(s.Message(), "desc = "); i >= 0 {
			e.Msg = strings.Trim(s.Message()[i+len("desc = "):], `"`)
		}
		e.Msg = strings.TrimPrefix(strings.TrimPrefix(e.Msg, "transport: "), "Error while dialing: ")
		switch {
		case strings.Contains(e.Msg, "handshake failed"):
			e.Hint = "check --tls-ca and the names in the certificate, and that both sides use TLS"
		case strings.Contains(e.Msg, "error reading server preface"):
			e.Hint = "check the port, and that both sides use TLS or neither does"
		case strings.Contains(e.Msg, "produced zero addresses"):
			e.Msg, e.Hint = "the name of its host has no address", "check the name"
		case strings.Contains(e.Msg, "connection refused"):
			e.Hint = "check that the service runs and the address is right (sender doctor HOST:PORT examines a receiver)"
		}
	}
}

func withoutPrefix(message, op, path string) string {
	prefix := (&transfer.Error{Op: op, Path: path, Msg: "."}).Error()
	return strings.TrimPrefix(message, strings.TrimSuffix(prefix, "."))
}

// utf8Text makes s fit a proto string.
func utf8Text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// cut shortens s to n octets, between two characters.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	const dots = "…"
	return strings.ToValidUTF8(s[:n-len(dots)], "") + dots
}
