package control

import (
	"io/fs"
	"math"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/e27efefb/sluice/proto/sluice/v1"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// Converters to messages never fail. Those from messages check what a later
// reader of the domain type relies on (lengths of identifiers and digests, known
// enums, sizes in range) and leave the rest, such as the grammar of paths, to
// the engine, which reports it for each file. Their errors are Invalid.

const opRead = "read request"

func idFromProto(s string) (transfer.ID, error) { return transfer.ParseID(s) }

func sessionToProto(s transfer.Session) []byte { return s[:] }

func sessionFromProto(b []byte) (s transfer.Session, err error) {
	if copy(s[:], b) != len(s) || len(b) != len(s) {
		return s, transfer.Errorf(transfer.Invalid, opRead, "", "the session has %d octets, want %d", len(b), len(s))
	}
	return s, nil
}

func timeToProto(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func timeFromProto(t *timestamppb.Timestamp) (time.Time, error) {
	if t == nil {
		return time.Time{}, nil
	}
	if err := t.CheckValid(); err != nil {
		return time.Time{}, transfer.Errorf(transfer.Invalid, opRead, "", "time: %w", err)
	}
	return t.AsTime(), nil
}

func durationToProto(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

func durationFromProto(d *durationpb.Duration) (time.Duration, error) {
	if d == nil {
		return 0, nil
	}
	if err := d.CheckValid(); err != nil || d.AsDuration() < 0 {
		return 0, transfer.Errorf(transfer.Invalid, opRead, "", "duration %v is out of range", d)
	}
	return d.AsDuration(), nil
}

func digestToProto(d transfer.Digest) *pb.Digest {
	if d.IsZero() {
		return nil
	}
	return &pb.Digest{Algorithm: algorithmToProto(d.Algorithm), Sum: d.Sum}
}

func digestFromProto(d *pb.Digest) (transfer.Digest, error) {
	if d == nil {
		return transfer.Digest{}, nil
	}
	a, err := algorithmFromProto(d.GetAlgorithm())
	if err != nil {
		return transfer.Digest{}, err
	}
	out := transfer.Digest{Algorithm: a, Sum: d.GetSum()}
	if len(out.Sum) == 0 {
		out.Sum = nil
	}
	return out, out.Validate()
}

func heldToProto(h transfer.Held) []*pb.ChunkRange {
	if len(h) == 0 {
		return nil
	}
	all := make([]pb.ChunkRange, len(h))
	out := make([]*pb.ChunkRange, len(h))
	for i, r := range h {
		all[i].First, all[i].Count = r.First, r.Count
		out[i] = &all[i]
	}
	return out
}

func heldFromProto(list []*pb.ChunkRange) (transfer.Held, error) {
	if len(list) == 0 {
		return nil, nil
	}
	h := make(transfer.Held, len(list))
	for i, r := range list {
		h[i] = transfer.ChunkRange{First: r.GetFirst(), Count: r.GetCount()}
	}
	return h, h.Validate(math.MaxUint32)
}

// EntryToProto converts one entry of a manifest. Modification times outside
// the years 1678 to 2261 are moved to the nearest that fits 64 bits.
func entryToProto(e *transfer.Entry) *pb.Entry {
	out := &pb.Entry{
		Index: e.Index, Path: string(e.Path), Type: typeToProto(e.Type), Size: e.Size,
		Mode: uint32(e.Mode.Perm()), Link: e.Link, Expected: digestToProto(e.Expected),
	}
	if !e.ModTime.IsZero() {
		ns := clampNano(e.ModTime)
		out.MtimeNs = &ns
	}
	return out
}

// clampNano returns the time in nanoseconds since 1970. time.Time.UnixNano is
// undefined outside the range of int64.
func clampNano(t time.Time) int64 {
	switch {
	case t.Before(time.Unix(0, math.MinInt64)):
		return math.MinInt64
	case t.After(time.Unix(0, math.MaxInt64)):
		return math.MaxInt64
	}
	return t.UnixNano()
}

func entryFromProto(e *pb.Entry) (transfer.Entry, error) {
	typ, err := typeFromProto(e.GetType())
	if err != nil {
		return transfer.Entry{}, err
	}
	expected, err := digestFromProto(e.GetExpected())
	if err != nil {
		return transfer.Entry{}, err
	}
	if size := e.GetSize(); size < transfer.UnknownSize || size > transfer.MaxFileSize {
		return transfer.Entry{}, transfer.Errorf(transfer.Invalid, opRead, e.GetPath(), "size %d is out of range", size)
	}
	if mode := e.GetMode(); mode&^0o777 != 0 {
		return transfer.Entry{}, transfer.Errorf(transfer.Invalid, opRead, e.GetPath(), "mode %o has more than permission bits", mode)
	}
	out := transfer.Entry{
		Index: e.GetIndex(), Path: transfer.Path(e.GetPath()), Type: typ, Size: e.GetSize(),
		Mode: fs.FileMode(e.GetMode()), Link: e.GetLink(), Expected: expected,
	}
	if e.MtimeNs != nil {
		out.ModTime = time.Unix(0, e.GetMtimeNs()).UTC()
	}
	return out, nil
}
