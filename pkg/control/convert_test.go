package control

import (
	"bytes"
	"io/fs"
	"math"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"pgregory.net/rapid"

	pb "github.com/e27efefb/sluice/proto/sluice/v1"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// wired sends m through its octets.
func wired[M proto.Message](t rapid.TB, m M) M {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	out := m.ProtoReflect().New().Interface().(M) //nolint:forcetypeassert // its own type
	if err := proto.Unmarshal(b, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// same compares and takes nil and empty slices and maps for equal.
func same(t rapid.TB, got, want any) {
	t.Helper()
	if g, w := normal(reflect.ValueOf(got)), normal(reflect.ValueOf(want)); !reflect.DeepEqual(g, w) {
		t.Fatalf("got  %+v\nwant %+v", g, w)
	}
}

func normal(v reflect.Value) any {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return normal(v.Elem())
	case reflect.Struct:
		if tm, ok := v.Interface().(time.Time); ok {
			return tm.UTC().Round(0)
		}
		m := map[string]any{}
		for i := range v.NumField() {
			m[v.Type().Field(i).Name] = normal(v.Field(i))
		}
		return m
	case reflect.Slice, reflect.Array:
		list := []any{}
		for i := range v.Len() {
			list = append(list, normal(v.Index(i)))
		}
		return list
	case reflect.Map:
		m := map[any]any{}
		for _, k := range v.MapKeys() {
			m[k.Interface()] = normal(v.MapIndex(k))
		}
		return m
	default:
		return v.Interface()
	}
}

var (
	genText = rapid.StringMatching(`[a-zé日/ .-]{0,20}`)
	genSize = rapid.Int64Range(-1, transfer.MaxFileSize)
	genTime = rapid.Custom(func(t *rapid.T) time.Time {
		if rapid.Bool().Draw(t, "zero time") {
			return time.Time{}
		}
		return time.Unix(0, rapid.Int64().Draw(t, "ns")).UTC()
	})
	genDigest = rapid.Custom(func(t *rapid.T) transfer.Digest {
		a := transfer.Algorithm(rapid.IntRange(0, 4).Draw(t, "algorithm"))
		return transfer.Digest{Algorithm: a, Sum: rapid.SliceOfN(rapid.Byte(), a.Size(), a.Size()).Draw(t, "sum")}
	})
	genHeld = rapid.Custom(func(t *rapid.T) (h transfer.Held) {
		next := uint32(0)
		for range rapid.IntRange(0, 4).Draw(t, "ranges") {
			r := transfer.ChunkRange{First: next + rapid.Uint32Range(1, 1000).Draw(t, "gap"), Count: rapid.Uint32Range(1, 1000).Draw(t, "count")}
			h, next = append(h, r), r.First+r.Count
		}
		return h
	})
	genEntry = rapid.Custom(func(t *rapid.T) transfer.Entry {
		return transfer.Entry{
			Index: rapid.Uint32().Draw(t, "index"), Path: transfer.Path(genText.Draw(t, "path")), Type: transfer.Type(rapid.IntRange(0, 2).Draw(t, "type")),
			Size: genSize.Draw(t, "size"), Mode: fs.FileMode(rapid.Uint32Range(0, 0o777).Draw(t, "mode")), ModTime: genTime.Draw(t, "mtime"),
			Link: genText.Draw(t, "link"), Expected: genDigest.Draw(t, "expected"),
		}
	})
	genOptions = rapid.Custom(func(t *rapid.T) transfer.Options {
		return transfer.Options{
			Into: genText.Draw(t, "into"), Conflict: transfer.Conflict(rapid.IntRange(0, 3).Draw(t, "conflict")), Names: transfer.Names(rapid.IntRange(0, 1).Draw(t, "names")),
			Algorithm: transfer.Algorithm(rapid.IntRange(1, 4).Draw(t, "algorithm")), Lanes: rapid.IntRange(0, 64).Draw(t, "lanes"), Label: genText.Draw(t, "label"),
			TotalFiles: rapid.Int64Range(0, math.MaxInt64).Draw(t, "files"), TotalBytes: genSize.Draw(t, "bytes"),
			MaxBytes: rapid.Int64Range(0, math.MaxInt64).Draw(t, "max"), KeepPartial: time.Duration(rapid.Int64Range(0, math.MaxInt64).Draw(t, "keep")),
		}
	})
	genID = rapid.Custom(func(t *rapid.T) (id transfer.ID) {
		copy(id[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
		id[6], id[8] = id[6]&0x0f|0x70, id[8]&0x3f|0x80
		return id
	})
	genSession = rapid.Custom(func(t *rapid.T) (s transfer.Session) {
		copy(s[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "session"))
		return s
	})
	genFile = rapid.Custom(func(t *rapid.T) transfer.FileReceipt {
		return transfer.FileReceipt{
			Index: rapid.Uint32().Draw(t, "index"), Path: genText.Draw(t, "path"), Published: genText.Draw(t, "published"),
			Type: transfer.Type(rapid.IntRange(0, 2).Draw(t, "type")).String(), Outcome: transfer.Outcome(rapid.IntRange(0, 6).Draw(t, "outcome")),
			Size: genSize.Draw(t, "size"), Digest: genDigest.Draw(t, "digest"), Reason: genText.Draw(t, "reason"),
		}
	})
	genReceipt = rapid.Custom(func(t *rapid.T) *transfer.Receipt {
		return &transfer.Receipt{
			ID: genID.Draw(t, "id"), Principal: genText.Draw(t, "principal"), Into: genText.Draw(t, "into"),
			Algorithm: transfer.Algorithm(rapid.IntRange(0, 4).Draw(t, "algorithm")).String(), Verified: rapid.Bool().Draw(t, "verified"),
			Durable: rapid.Bool().Draw(t, "durable"), DataTLS: rapid.Bool().Draw(t, "tls"), FileCount: rapid.Int64().Draw(t, "count"), Bytes: rapid.Int64().Draw(t, "bytes"),
			Counts:  rapid.MapOf(genText, rapid.Int64()).Draw(t, "counts"),
			Started: genTime.Draw(t, "started"), Committed: genTime.Draw(t, "committed"), Repairs: rapid.Int64().Draw(t, "repairs"), FilesDigest: genDigest.Draw(t, "all"),
			Files: rapid.SliceOfN(genFile, 0, 3).Draw(t, "files"), Envelope: rapid.SliceOf(rapid.Byte()).Draw(t, "envelope"),
		}
	})
)

func TestOffersRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := &transfer.OfferPart{
			ID: genID.Draw(t, "id"), Session: genSession.Draw(t, "session"), Part: rapid.Uint32Range(0, 2).Draw(t, "part"), Last: rapid.Bool().Draw(t, "last"),
			Plan: rapid.Bool().Draw(t, "plan"), Entries: rapid.SliceOfN(genEntry, 0, 3).Draw(t, "entries"),
		}
		if p.Part == 0 {
			p.Options = genOptions.Draw(t, "options")
		}
		got, err := offerFromProto(wired(t, offerToProto(p)))
		if err != nil {
			t.Fatal(err)
		}
		same(t, got, p)
	})
}

func TestAnswersRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := &transfer.Answer{
			Epoch: transfer.Epoch(rapid.Uint64().Draw(t, "epoch")), TokenTTL: time.Duration(rapid.Int64Range(0, math.MaxInt64).Draw(t, "ttl")),
			DataAddrs: rapid.SliceOfN(genText, 0, 3).Draw(t, "addrs"), MaxLanes: rapid.IntRange(0, 64).Draw(t, "lanes"), DataTLS: rapid.Bool().Draw(t, "tls"),
			Principal: genText.Draw(t, "principal"), FreeBytes: rapid.Int64().Draw(t, "free"), Durable: rapid.Bool().Draw(t, "durable"), Incarnation: rapid.Uint64().Draw(t, "incarnation"),
		}
		copy(a.Token[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "token"))
		for i := range rapid.IntRange(0, 3).Draw(t, "files") {
			a.Files = append(a.Files, transfer.FileAnswer{Index: uint32(i), ChunkSize: 1 << 20, Held: genHeld.Draw(t, "held"), Skip: rapid.Bool().Draw(t, "skip")})
		}
		if rapid.Bool().Draw(t, "committed") {
			a.Committed = genReceipt.Draw(t, "receipt")
		}
		got, err := answerFromProto(wired(t, answerToProto(a)))
		if err != nil {
			t.Fatal(err)
		}
		same(t, got, a)
	})
}

func TestCommitsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := &transfer.CommitPart{ID: genID.Draw(t, "id"), Session: genSession.Draw(t, "session")}
		n := rapid.Uint32Range(1, 9)
		switch rapid.IntRange(0, 2).Draw(t, "use") {
		case 0:
			p.Part, p.Last = n.Draw(t, "part"), rapid.Bool().Draw(t, "last")
			for i := range rapid.IntRange(0, 3).Draw(t, "files") {
				p.Files = append(p.Files, transfer.FileDigest{Index: uint32(i), Size: max(0, genSize.Draw(t, "size")), Digest: genDigest.Draw(t, "digest")})
			}
		case 1:
			p.Query = &transfer.ChunkHashQuery{File: n.Draw(t, "file"), First: n.Draw(t, "first"), Count: n.Draw(t, "count")}
		case 2:
			p.Repair = &transfer.Repair{File: n.Draw(t, "file"), Chunks: genHeld.Draw(t, "chunks")}
		}
		got, err := commitFromProto(wired(t, commitToProto(p)))
		if err != nil {
			t.Fatal(err)
		}
		same(t, got, p)

		r := &transfer.CommitResult{}
		switch rapid.IntRange(0, 3).Draw(t, "result") {
		case 0:
			r.Receipt = genReceipt.Draw(t, "receipt")
		case 1:
			r.Mismatch, r.Round = rapid.SliceOfN(rapid.Uint32(), 1, 9).Draw(t, "mismatch"), rapid.IntRange(1, 3).Draw(t, "round")
		case 2:
			r.Hashes = &transfer.ChunkHashes{File: n.Draw(t, "file"), First: n.Draw(t, "first"), Hashes: rapid.SliceOf(rapid.Byte()).Draw(t, "hashes")}
		}
		back, err := resultFromProto(wired(t, resultToProto(r)))
		if err != nil {
			t.Fatal(err)
		}
		same(t, back, r)
	})
}

func TestInfosRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64()
		i := transfer.Info{
			ID: genID.Draw(t, "id"), State: transfer.State(rapid.IntRange(0, 6).Draw(t, "state")), Principal: genText.Draw(t, "principal"), Label: genText.Draw(t, "label"),
			Into: genText.Draw(t, "into"), First: genText.Draw(t, "first"), Epoch: transfer.Epoch(rapid.Uint64().Draw(t, "epoch")), Lanes: rapid.IntRange(0, 99).Draw(t, "lanes"),
			Files: n.Draw(t, "files"), Bytes: n.Draw(t, "bytes"), BytesAcked: n.Draw(t, "acked"), BytesHeld: n.Draw(t, "held"), Created: genTime.Draw(t, "created"),
			Updated: genTime.Draw(t, "updated"), Kind: transfer.Kind(rapid.IntRange(0, 12).Draw(t, "kind")), Reason: genText.Draw(t, "reason"), Undeclared: rapid.Bool().Draw(t, "undeclared"),
		}
		if rapid.Bool().Draw(t, "committed") {
			i.Receipt = genReceipt.Draw(t, "receipt")
		}
		got, err := infoFromProto(wired(t, infoToProto(&i)))
		if err != nil {
			t.Fatal(err)
		}
		same(t, got, i)
	})
}

func TestZeroOptionsAreTheDefaults(t *testing.T) {
	got, err := optionsFromProto(nil)
	if err != nil {
		t.Fatal(err)
	}
	same(t, got, transfer.Options{Algorithm: transfer.BLAKE3, TotalBytes: transfer.UnknownSize})
}

func TestBadMessagesAreInvalid(t *testing.T) {
	id, session := transfer.NewID().String(), make([]byte, 16)
	offer := func(change func(*pb.NegotiateRequest)) error {
		m := &pb.NegotiateRequest{TransferId: id, Session: session, Options: &pb.Options{}, Entries: []*pb.Entry{{Path: "a"}}}
		change(m)
		_, err := offerFromProto(m)
		return err
	}
	if err := offer(func(*pb.NegotiateRequest) {}); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*pb.NegotiateRequest){
		"id":             func(m *pb.NegotiateRequest) { m.TransferId = "x" },
		"no session":     func(m *pb.NegotiateRequest) { m.Session = nil },
		"long session":   func(m *pb.NegotiateRequest) { m.Session = make([]byte, 17) },
		"size":           func(m *pb.NegotiateRequest) { m.Entries[0].Size = -2 },
		"huge":           func(m *pb.NegotiateRequest) { m.Entries[0].Size = math.MaxInt64 },
		"mode":           func(m *pb.NegotiateRequest) { m.Entries[0].Mode = 0o4755 },
		"type":           func(m *pb.NegotiateRequest) { m.Entries[0].Type = 99 },
		"negative type":  func(m *pb.NegotiateRequest) { m.Entries[0].Type = -1 },
		"digest":         func(m *pb.NegotiateRequest) { m.Entries[0].Expected = &pb.Digest{Algorithm: 1, Sum: []byte{1}} },
		"conflict":       func(m *pb.NegotiateRequest) { m.Options.Conflict = 99 },
		"names":          func(m *pb.NegotiateRequest) { m.Options.Names = 99 },
		"algorithm":      func(m *pb.NegotiateRequest) { m.Options.Algorithm = 99 },
		"negative lanes": func(m *pb.NegotiateRequest) { m.Options.Lanes = -1 },
	} {
		if err := offer(change); transfer.KindOf(err) != transfer.Invalid {
			t.Errorf("%s: %v, want invalid", name, err)
		}
	}
	for name, m := range map[string]*pb.CommitRequest{
		"no use":     {TransferId: id, Session: session},
		"no session": {TransferId: id},
		"final size": {TransferId: id, Session: session, Use: &pb.CommitRequest_Digests{Digests: &pb.DigestPart{Files: []*pb.FileDigest{{Size: -1}}}}},
		"overlap":    {TransferId: id, Session: session, Use: &pb.CommitRequest_Repair{Repair: &pb.Repair{Chunks: []*pb.ChunkRange{{First: 1, Count: 2}, {First: 2, Count: 1}}}}},
	} {
		if _, err := commitFromProto(m); transfer.KindOf(err) != transfer.Invalid {
			t.Errorf("%s: %v, want invalid", name, err)
		}
	}
}

// FuzzOffer: whatever comes is either Invalid or a part that converts back.
func FuzzOffer(f *testing.F) {
	b, _ := proto.Marshal(offerToProto(&transfer.OfferPart{ID: transfer.NewID(), Entries: []transfer.Entry{{Path: "a", Size: 1}}}))
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		m := &pb.NegotiateRequest{}
		if proto.Unmarshal(b, m) != nil {
			return
		}
		p, err := offerFromProto(m)
		if err != nil {
			if transfer.KindOf(err) != transfer.Invalid {
				t.Errorf("%v", err)
			}
			return
		}
		again, err := offerFromProto(offerToProto(p))
		if err != nil {
			t.Fatal(err)
		}
		same(t, again, p)
	})
}

func TestTimesOutsideAreMoved(t *testing.T) {
	for _, y := range []int{1, 1600, 2500, 9999} {
		e := transfer.Entry{Path: "a", ModTime: time.Date(y, 2, 3, 0, 0, 0, 0, time.UTC)}
		m := entryToProto(&e)
		if want := int64(math.MinInt64); y < 1970 && m.GetMtimeNs() != want || y > 1970 && m.GetMtimeNs() != math.MaxInt64 {
			t.Errorf("year %d: %d", y, m.GetMtimeNs())
		}
	}
}

// TestEnumsHaveTheSameNames compares the names of both sides, value by value, so
// that casting between them stays right when either grows.
func TestEnumsHaveTheSameNames(t *testing.T) {
	check := func(e protoreflect.EnumDescriptor, prefix string, number int, want string) {
		t.Helper()
		v := e.Values().ByNumber(protoreflect.EnumNumber(number))
		if v == nil {
			t.Errorf("%s has no %d (%s)", e.Name(), number, want)
			return
		}
		got := strings.ToLower(strings.TrimPrefix(string(v.Name()), prefix))
		if got = strings.ReplaceAll(got, "_", "-"); got != strings.ReplaceAll(want, "_", "-") {
			t.Errorf("%s %d is %s, want %s", e.Name(), number, got, want)
		}
	}
	for k := transfer.Internal; k.Valid(); k++ {
		check(pb.Kind(0).Descriptor(), "KIND_", int(kindToProto(k)), k.String())
	}
	for a := transfer.BLAKE3; a <= transfer.SHA256; a++ {
		check(pb.Algorithm(0).Descriptor(), "ALGORITHM_", int(algorithmToProto(a)), a.String())
	}
	for y := transfer.Regular; y <= transfer.Symlink; y++ {
		check(pb.EntryType(0).Descriptor(), "ENTRY_TYPE_", int(typeToProto(y)), y.String())
	}
	for c := transfer.Fail; c <= transfer.SkipIdentical; c++ {
		check(pb.Conflict(0).Descriptor(), "CONFLICT_", int(conflictToProto(c)), c.String())
	}
	for n := transfer.Posix; n <= transfer.Portable; n++ {
		check(pb.Names(0).Descriptor(), "NAMES_", int(namesToProto(n)), n.String())
	}
	for s := transfer.StateOffering; s <= transfer.StateFailed; s++ {
		check(pb.TransferState(0).Descriptor(), "TRANSFER_STATE_", int(stateToProto(s)), s.String())
	}
	for o := transfer.Published; o <= transfer.DirExisted; o++ {
		check(pb.Outcome(0).Descriptor(), "OUTCOME_", int(outcomeToProto(o)), o.String())
	}
}

// TestPythonDescription compares the description that the Python example reads
// with what this program was built from.
func TestPythonDescription(t *testing.T) {
	b, err := os.ReadFile("../../examples/python/sluice.binpb")
	if err != nil {
		t.Fatal(err)
	}
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(b, &set); err != nil {
		t.Fatal(err)
	}
	ours := map[string]protoreflect.FileDescriptor{}
	for _, f := range []protoreflect.FileDescriptor{pb.File_sluice_v1_transfer_proto, pb.File_sluice_v1_receiver_proto, pb.File_sluice_v1_sender_proto} {
		ours[f.Path()] = f
	}
	for _, f := range set.GetFile() {
		want := ours[f.GetName()]
		if want == nil {
			continue
		}
		delete(ours, f.GetName())
		d := protodesc.ToFileDescriptorProto(want)
		d.Options, f.Options, d.SourceCodeInfo, f.SourceCodeInfo = nil, nil, nil, nil
		x, _ := proto.MarshalOptions{Deterministic: true}.Marshal(d)
		f.ProtoReflect().SetUnknown(nil)
		y, _ := proto.MarshalOptions{Deterministic: true}.Marshal(f)
		if !bytes.Equal(x, y) {
			t.Errorf("%s differs: run buf build --exclude-source-info -o examples/python/sluice.binpb", f.GetName())
		}
	}
	if len(ours) > 0 {
		t.Errorf("the description lacks %v", ours)
	}
}
