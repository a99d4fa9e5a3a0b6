package control

import (
	pb "github.com/e27efefb/sluice/proto/sluice/v1"

	"github.com/e27efefb/sluice/pkg/transfer"
)

func commitToProto(p *transfer.CommitPart) *pb.CommitRequest {
	out := &pb.CommitRequest{TransferId: p.ID.String(), Session: sessionToProto(p.Session)}
	switch {
	case p.Query != nil:
		out.Use = &pb.CommitRequest_Query{Query: &pb.ChunkHashQuery{File: p.Query.File, First: p.Query.First, Count: p.Query.Count}}
	case p.Repair != nil:
		out.Use = &pb.CommitRequest_Repair{Repair: &pb.Repair{File: p.Repair.File, Chunks: heldToProto(p.Repair.Chunks)}}
	default:
		d := &pb.DigestPart{Part: p.Part, Last: p.Last, Sums: p.Sums, Files: make([]*pb.FileDigest, len(p.Files))}
		for i, f := range p.Files {
			d.Files[i] = &pb.FileDigest{Index: f.Index, Size: f.Size, Digest: digestToProto(f.Digest)}
		}
		out.Use = &pb.CommitRequest_Digests{Digests: d}
	}
	return out
}

func commitFromProto(m *pb.CommitRequest) (*transfer.CommitPart, error) {
	id, err := idFromProto(m.GetTransferId())
	if err != nil {
		return nil, err
	}
	session, err := sessionFromProto(m.GetSession())
	if err != nil {
		return nil, err
	}
	out := &transfer.CommitPart{ID: id, Session: session}
	switch use := m.GetUse().(type) {
	case *pb.CommitRequest_Digests:
		d := use.Digests
		out.Part, out.Last, out.Sums, out.Files = d.GetPart(), d.GetLast(), d.GetSums(), make([]transfer.FileDigest, len(d.GetFiles()))
		for i, f := range d.GetFiles() {
			digest, err := digestFromProto(f.GetDigest())
			if err != nil {
				return nil, err
			}
			if size := f.GetSize(); size < 0 || size > transfer.MaxFileSize {
				return nil, transfer.Errorf(transfer.Invalid, opRead, "", "final size %d of file %d is out of range", size, f.GetIndex())
			}
			out.Files[i] = transfer.FileDigest{Index: f.GetIndex(), Size: f.GetSize(), Digest: digest}
		}
	case *pb.CommitRequest_Query:
		q := use.Query
		out.Query = &transfer.ChunkHashQuery{File: q.GetFile(), First: q.GetFirst(), Count: q.GetCount()}
	case *pb.CommitRequest_Repair:
		chunks, err := heldFromProto(use.Repair.GetChunks())
		if err != nil {
			return nil, err
		}
		out.Repair = &transfer.Repair{File: use.Repair.GetFile(), Chunks: chunks}
	default:
		return nil, transfer.Errorf(transfer.Invalid, opRead, "", "one of digests, query and repair must be given")
	}
	return out, nil
}

func resultToProto(r *transfer.CommitResult) *pb.CommitResponse {
	switch {
	case r.Receipt != nil:
		return &pb.CommitResponse{Result: &pb.CommitResponse_Receipt{Receipt: receiptToProto(r.Receipt)}}
	case len(r.Mismatch) > 0:
		return &pb.CommitResponse{Result: &pb.CommitResponse_Mismatch{Mismatch: &pb.Mismatch{Files: r.Mismatch, Round: clampInt32(r.Round)}}}
	case r.Hashes != nil:
		h := &pb.ChunkHashes{File: r.Hashes.File, First: r.Hashes.First, Hashes: r.Hashes.Hashes}
		return &pb.CommitResponse{Result: &pb.CommitResponse_Hashes{Hashes: h}}
	}
	return &pb.CommitResponse{}
}

func resultFromProto(m *pb.CommitResponse) (*transfer.CommitResult, error) {
	switch r := m.GetResult().(type) {
	case *pb.CommitResponse_Receipt:
		receipt, err := receiptFromProto(r.Receipt)
		if err != nil {
			return nil, err
		}
		return &transfer.CommitResult{Receipt: receipt}, nil
	case *pb.CommitResponse_Mismatch:
		return &transfer.CommitResult{Mismatch: r.Mismatch.GetFiles(), Round: int(r.Mismatch.GetRound())}, nil
	case *pb.CommitResponse_Hashes:
		h := r.Hashes
		return &transfer.CommitResult{Hashes: &transfer.ChunkHashes{File: h.GetFile(), First: h.GetFirst(), Hashes: h.GetHashes()}}, nil
	}
	return &transfer.CommitResult{}, nil
}
