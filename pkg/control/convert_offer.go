package control

import (
	"math"

	pb "github.com/e27efefb/sluice/proto/sluice/v1"

	"github.com/e27efefb/sluice/pkg/transfer"
)

func optionsToProto(o *transfer.Options) *pb.Options {
	out := &pb.Options{
		Into: o.Into, Conflict: conflictToProto(o.Conflict), Names: namesToProto(o.Names),
		Algorithm: algorithmToProto(o.Algorithm), Lanes: clampInt32(o.Lanes), Label: o.Label,
		TotalFiles: o.TotalFiles, MaxBytes: o.MaxBytes, KeepPartial: durationToProto(o.KeepPartial),
	}
	if o.TotalBytes >= 0 {
		out.TotalBytes = &o.TotalBytes
	}
	return out
}

// optionsFromProto reads options; none chosen means BLAKE3.
func optionsFromProto(o *pb.Options) (transfer.Options, error) {
	fail := func(err error) (transfer.Options, error) { return transfer.Options{}, err }
	conflict, err := conflictFromProto(o.GetConflict())
	if err != nil {
		return fail(err)
	}
	names, err := namesFromProto(o.GetNames())
	if err != nil {
		return fail(err)
	}
	algorithm, err := algorithmFromProto(o.GetAlgorithm())
	if err != nil {
		return fail(err)
	}
	if algorithm == transfer.NoAlgorithm {
		algorithm = transfer.BLAKE3
	}
	keep, err := durationFromProto(o.GetKeepPartial())
	if err != nil {
		return fail(err)
	}
	out := transfer.Options{
		Into: o.GetInto(), Conflict: conflict, Names: names, Algorithm: algorithm, Lanes: int(o.GetLanes()),
		Label: o.GetLabel(), TotalFiles: o.GetTotalFiles(), TotalBytes: transfer.UnknownSize,
		MaxBytes: o.GetMaxBytes(), KeepPartial: keep,
	}
	if o != nil && o.TotalBytes != nil {
		out.TotalBytes = o.GetTotalBytes()
	}
	if out.Lanes < 0 || out.TotalFiles < 0 || out.MaxBytes < 0 || out.TotalBytes < transfer.UnknownSize {
		return fail(transfer.Errorf(transfer.Invalid, opRead, "", "lanes, totals and limits of the options may not be negative"))
	}
	return out, nil
}

func offerToProto(p *transfer.OfferPart) *pb.NegotiateRequest {
	out := &pb.NegotiateRequest{
		TransferId: p.ID.String(), Session: sessionToProto(p.Session), Part: p.Part, Last: p.Last, Plan: p.Plan, Brief: p.Brief,
		Entries: make([]*pb.Entry, len(p.Entries)),
	}
	if p.Part == 0 {
		out.Options = optionsToProto(&p.Options)
	}
	for i := range p.Entries {
		out.Entries[i] = entryToProto(&p.Entries[i])
	}
	return out
}

func offerFromProto(m *pb.NegotiateRequest) (*transfer.OfferPart, error) {
	id, err := idFromProto(m.GetTransferId())
	if err != nil {
		return nil, err
	}
	session, err := sessionFromProto(m.GetSession())
	if err != nil {
		return nil, err
	}
	out := &transfer.OfferPart{
		ID: id, Session: session, Part: m.GetPart(), Last: m.GetLast(), Plan: m.GetPlan(), Brief: m.GetBrief(),
		Entries: make([]transfer.Entry, len(m.GetEntries())),
	}
	if out.Part == 0 {
		if out.Options, err = optionsFromProto(m.GetOptions()); err != nil {
			return nil, err
		}
	}
	for i, e := range m.GetEntries() {
		if out.Entries[i], err = entryFromProto(e); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func answerToProto(a *transfer.Answer) *pb.NegotiateResponse {
	out := &pb.NegotiateResponse{
		Ok: true, Epoch: uint64(a.Epoch), TokenTtl: durationToProto(a.TokenTTL), DataAddresses: a.DataAddrs,
		MaxLanes: clampInt32(a.MaxLanes), DataTls: a.DataTLS, Principal: a.Principal, FreeBytes: a.FreeBytes,
		Durable: a.Durable, Committed: receiptToProto(a.Committed), Incarnation: a.Incarnation, Sums: a.Sums,
		Files: make([]*pb.FileAnswer, len(a.Files)),
	}
	if a.Token != (transfer.Token{}) {
		out.Token = a.Token[:]
	}
	for i, f := range a.Files {
		out.Files[i] = &pb.FileAnswer{Index: f.Index, ChunkSize: f.ChunkSize, Held: heldToProto(f.Held), Skip: f.Skip}
	}
	return out
}

// answerFromProto reads an answer; a refusal becomes the *transfer.Error that it
// was.
func answerFromProto(m *pb.NegotiateResponse) (*transfer.Answer, error) {
	if !m.GetOk() {
		return nil, refusalFromProto(m.GetRefusal())
	}
	ttl, err := durationFromProto(m.GetTokenTtl())
	if err != nil {
		return nil, err
	}
	committed, err := receiptFromProto(m.GetCommitted())
	if err != nil {
		return nil, err
	}
	out := &transfer.Answer{
		Epoch: transfer.Epoch(m.GetEpoch()), TokenTTL: ttl, DataAddrs: m.GetDataAddresses(), MaxLanes: int(m.GetMaxLanes()),
		DataTLS: m.GetDataTls(), Principal: m.GetPrincipal(), FreeBytes: m.GetFreeBytes(), Durable: m.GetDurable(),
		Committed: committed, Incarnation: m.GetIncarnation(), Sums: m.GetSums(), Files: make([]transfer.FileAnswer, len(m.GetFiles())),
	}
	if b := m.GetToken(); len(b) != 0 && copy(out.Token[:], b) != len(out.Token) {
		return nil, transfer.Errorf(transfer.Invalid, "read answer", "", "the token has %d octets, want %d", len(b), len(out.Token))
	}
	for i, f := range m.GetFiles() {
		held, err := heldFromProto(f.GetHeld())
		if err != nil {
			return nil, err
		}
		out.Files[i] = transfer.FileAnswer{Index: f.GetIndex(), ChunkSize: f.GetChunkSize(), Held: held, Skip: f.GetSkip()}
	}
	return out, nil
}

// refusable reports the kinds that are said by ok = false rather than by a
// status: the offer was understood, judged and not taken.
func refusable(k transfer.Kind) bool {
	switch k {
	case transfer.Invalid, transfer.Exists, transfer.Denied, transfer.NoSpace:
		return true
	}
	return false
}

// MaxProblems bounds the files that one refusal names.
const MaxProblems = 10_000

func refusalToProto(e *transfer.Error) *pb.NegotiateResponse {
	r := &pb.Refusal{
		Kind: kindToProto(e.Kind), Message: reason(e), Hint: transfer.HintOf(e), Op: e.Op, Path: e.Path,
		RetryAfter: durationToProto(e.RetryAfter), ProblemCount: int64(len(e.Problems)),
	}
	size := 0
	for _, p := range e.Problems[:min(len(e.Problems), MaxProblems)] {
		if size += len(p.Path) + len(p.Reason) + 16; size > maxRefusal {
			break
		}
		r.Problems = append(r.Problems, &pb.Problem{Path: utf8Text(p.Path), Kind: kindToProto(p.Kind), Reason: utf8Text(p.Reason)})
	}
	return &pb.NegotiateResponse{Refusal: r}
}

// maxRefusal keeps a refusal below what a message may have (4 MiB), in octets.
const maxRefusal = 3 << 20

func refusalFromProto(r *pb.Refusal) error {
	if r == nil {
		return transfer.Errorf(transfer.Internal, "read answer", "", "the receiver refused without saying why")
	}
	e := &transfer.Error{
		Kind: kindFromProto(r.GetKind()), Op: r.GetOp(), Path: r.GetPath(), Msg: r.GetMessage(), Hint: r.GetHint(),
		RetryAfter: r.GetRetryAfter().AsDuration(), Remote: true,
	}
	for _, p := range r.GetProblems() {
		e.Problems = append(e.Problems, transfer.Problem{Path: p.GetPath(), Kind: kindFromProto(p.GetKind()), Reason: p.GetReason()})
	}
	return e
}

func clampInt32(n int) int32 { return int32(max(math.MinInt32, min(n, math.MaxInt32))) } //nolint:gosec // clamped
