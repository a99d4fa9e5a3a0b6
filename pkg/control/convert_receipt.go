package control

import (
	"maps"

	pb "github.com/e27efefb/sluice/proto/sluice/v1"

	"github.com/e27efefb/sluice/pkg/netdiag"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// ReceiptToProto converts a receipt, nil to nil. The sender service uses it for
// its jobs.
func ReceiptToProto(r *transfer.Receipt) *pb.Receipt { return receiptToProto(r) }

// ReceiptFromProto is the inverse of ReceiptToProto; the error is Invalid.
func ReceiptFromProto(r *pb.Receipt) (*transfer.Receipt, error) { return receiptFromProto(r) }

func receiptToProto(r *transfer.Receipt) *pb.Receipt {
	if r == nil {
		return nil
	}
	return &pb.Receipt{
		TransferId: r.ID.String(), Principal: r.Principal, Into: r.Into, Algorithm: algorithmNameToProto(r.Algorithm),
		Verified: r.Verified, Durable: r.Durable, DataTls: r.DataTLS, FileCount: r.FileCount, Bytes: r.Bytes,
		Counts: maps.Clone(r.Counts), Started: timeToProto(r.Started), Committed: timeToProto(r.Committed),
		Repairs: r.Repairs, Files: filesToProto(r.Files), Envelope: r.Envelope, FilesDigest: digestToProto(r.FilesDigest),
	}
}

func receiptFromProto(r *pb.Receipt) (*transfer.Receipt, error) {
	if r == nil {
		return nil, nil //nolint:nilnil // absent is not an error
	}
	id, err := idFromProto(r.GetTransferId())
	if err != nil {
		return nil, err
	}
	algorithm, err := algorithmFromProto(r.GetAlgorithm())
	if err != nil {
		return nil, err
	}
	started, err := timeFromProto(r.GetStarted())
	if err != nil {
		return nil, err
	}
	committed, err := timeFromProto(r.GetCommitted())
	if err != nil {
		return nil, err
	}
	files, err := filesFromProto(r.GetFiles())
	if err != nil {
		return nil, err
	}
	all, err := digestFromProto(r.GetFilesDigest())
	if err != nil {
		return nil, err
	}
	return &transfer.Receipt{
		ID: id, Principal: r.GetPrincipal(), Into: r.GetInto(), Algorithm: algorithm.String(), Verified: r.GetVerified(),
		Durable: r.GetDurable(), DataTLS: r.GetDataTls(), FileCount: r.GetFileCount(), Bytes: r.GetBytes(),
		Counts: r.GetCounts(), Started: started, Committed: committed, Repairs: r.GetRepairs(), Files: files, Envelope: r.GetEnvelope(), FilesDigest: all,
	}, nil
}

// FilesFromProto returns the files of a page of ListTransferFiles; the error is
// Invalid.
func FilesFromProto(files []*pb.FileReceipt) ([]transfer.FileReceipt, error) {
	return filesFromProto(files)
}

func filesToProto(files []transfer.FileReceipt) []*pb.FileReceipt {
	if len(files) == 0 {
		return nil
	}
	out := make([]*pb.FileReceipt, len(files))
	for i := range files {
		f := &files[i]
		out[i] = &pb.FileReceipt{
			Index: f.Index, Path: f.Path, Published: f.Published, Type: typeNameToProto(f.Type), Outcome: outcomeToProto(f.Outcome),
			Size: f.Size, Digest: digestToProto(f.Digest), Reason: utf8Text(f.Reason),
		}
	}
	return out
}

func filesFromProto(files []*pb.FileReceipt) ([]transfer.FileReceipt, error) {
	if len(files) == 0 {
		return nil, nil
	}
	out := make([]transfer.FileReceipt, len(files))
	for i, f := range files {
		typ, err := typeNameFromProto(f.GetType())
		if err != nil {
			return nil, err
		}
		outcome, err := outcomeFromProto(f.GetOutcome())
		if err != nil {
			return nil, err
		}
		digest, err := digestFromProto(f.GetDigest())
		if err != nil {
			return nil, err
		}
		out[i] = transfer.FileReceipt{
			Index: f.GetIndex(), Path: f.GetPath(), Published: f.GetPublished(), Type: typ, Outcome: outcome,
			Size: f.GetSize(), Digest: digest, Reason: f.GetReason(),
		}
	}
	return out, nil
}

func infoToProto(i *transfer.Info) *pb.Transfer {
	return &pb.Transfer{
		Id: i.ID.String(), State: stateToProto(i.State), Principal: i.Principal, Label: utf8Text(i.Label), Into: i.Into, FirstPath: i.First,
		Epoch: uint64(i.Epoch), Lanes: clampInt32(i.Lanes), Files: i.Files, Bytes: i.Bytes, BytesAcked: i.BytesAcked, BytesHeld: i.BytesHeld,
		Created: timeToProto(i.Created), Updated: timeToProto(i.Updated), Kind: kindToProto(i.Kind), Reason: utf8Text(i.Reason),
		Receipt: receiptToProto(i.Receipt), LengthUndeclared: i.Undeclared,
	}
}

func infoFromProto(t *pb.Transfer) (transfer.Info, error) {
	fail := func(err error) (transfer.Info, error) { return transfer.Info{}, err }
	id, err := idFromProto(t.GetId())
	if err != nil {
		return fail(err)
	}
	state, err := stateFromProto(t.GetState())
	if err != nil {
		return fail(err)
	}
	created, err := timeFromProto(t.GetCreated())
	if err != nil {
		return fail(err)
	}
	updated, err := timeFromProto(t.GetUpdated())
	if err != nil {
		return fail(err)
	}
	receipt, err := receiptFromProto(t.GetReceipt())
	if err != nil {
		return fail(err)
	}
	return transfer.Info{
		ID: id, State: state, Principal: t.GetPrincipal(), Label: t.GetLabel(), Into: t.GetInto(), First: t.GetFirstPath(),
		Epoch: transfer.Epoch(t.GetEpoch()), Lanes: int(t.GetLanes()), Files: t.GetFiles(), Bytes: t.GetBytes(),
		BytesAcked: t.GetBytesAcked(), BytesHeld: t.GetBytesHeld(), Created: created, Updated: updated,
		Kind: kindFromProto(t.GetKind()), Reason: t.GetReason(), Receipt: receipt, Undeclared: t.GetLengthUndeclared(),
	}, nil
}

// ConnectionsToProto converts the list of TCP connections; both services use it.
func ConnectionsToProto(list []netdiag.Conn) []*pb.Connection {
	out := make([]*pb.Connection, len(list))
	for i, c := range list {
		m := &pb.Connection{
			Local: c.Local.String(), Remote: c.Remote.String(), State: string(c.State),
			RecvQueue: c.RecvQueue, SendQueue: c.SendQueue, Label: c.Label,
		}
		if t := c.Info; t != nil {
			m.TcpInfo = &pb.TcpInfo{
				RttNs: t.RTT.Nanoseconds(), RttvarNs: t.RTTVar.Nanoseconds(), MinRttNs: t.MinRTT.Nanoseconds(), Congestion: t.Congestion,
				Cwnd: t.Window, Mss: t.MSS, PeerWindow: t.PeerWindow, Retransmits: t.Retransmits, Segments: t.Segments, Lost: t.Lost,
				DeliveryRate: t.DeliveryRate, BytesAcked: t.BytesAcked, BytesReceived: t.BytesReceived,
			}
		}
		out[i] = m
	}
	return out
}
