package control

import (
	pb "github.com/e27efefb/sluice/proto/sluice/v1"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// Kinds, algorithms and states have the same numbers on both sides, which
// TestEnumsHaveTheSameNames holds; the others are shifted by one, since the zero
// of a proto enum must mean "unspecified".

func errEnum(what string, n int32) error {
	return transfer.Errorf(transfer.Invalid, "read request", "", "%s %d is not known to this version", what, n).
		WithHint("use the same version of Sluice on both sides")
}

func kindToProto(k transfer.Kind) pb.Kind { return pb.Kind(k) }

// kindFromProto takes a kind of a newer version for Internal.
func kindFromProto(k pb.Kind) transfer.Kind {
	if k < 0 || k > 255 || !transfer.Kind(k).Valid() {
		return transfer.Internal
	}
	return transfer.Kind(k)
}

func algorithmToProto(a transfer.Algorithm) pb.Algorithm { return pb.Algorithm(a) }

func algorithmFromProto(a pb.Algorithm) (transfer.Algorithm, error) {
	if a < 0 || a > pb.Algorithm(transfer.SHA256) {
		return 0, errEnum("digest algorithm", int32(a))
	}
	return transfer.Algorithm(a), nil
}

func typeToProto(t transfer.Type) pb.EntryType { return pb.EntryType(t) + 1 }

func typeFromProto(t pb.EntryType) (transfer.Type, error) {
	switch {
	case t == pb.EntryType_ENTRY_TYPE_UNSPECIFIED:
		return transfer.Regular, nil
	case t < 0 || t > pb.EntryType_ENTRY_TYPE_LINK:
		return 0, errEnum("entry type", int32(t))
	}
	return transfer.Type(t - 1), nil
}

func conflictToProto(c transfer.Conflict) pb.Conflict { return pb.Conflict(c) + 1 }

func conflictFromProto(c pb.Conflict) (transfer.Conflict, error) {
	switch {
	case c == pb.Conflict_CONFLICT_UNSPECIFIED:
		return transfer.Fail, nil
	case c < 0 || c > pb.Conflict_CONFLICT_SKIP_IDENTICAL:
		return 0, errEnum("conflict policy", int32(c))
	}
	return transfer.Conflict(c - 1), nil
}

func namesToProto(n transfer.Names) pb.Names { return pb.Names(n) + 1 }

func namesFromProto(n pb.Names) (transfer.Names, error) {
	switch {
	case n == pb.Names_NAMES_UNSPECIFIED:
		return transfer.Posix, nil
	case n < 0 || n > pb.Names_NAMES_PORTABLE:
		return 0, errEnum("rule for names", int32(n))
	}
	return transfer.Names(n - 1), nil
}

func stateToProto(s transfer.State) pb.TransferState { return pb.TransferState(s) }

func stateFromProto(s pb.TransferState) (transfer.State, error) {
	if s < 0 || s > pb.TransferState_TRANSFER_STATE_FAILED {
		return 0, errEnum("transfer state", int32(s))
	}
	return transfer.State(s), nil
}

func outcomeToProto(o transfer.Outcome) pb.Outcome { return pb.Outcome(o) + 1 }

func outcomeFromProto(o pb.Outcome) (transfer.Outcome, error) {
	if o < pb.Outcome_OUTCOME_PUBLISHED || o > pb.Outcome_OUTCOME_MERGED {
		return 0, errEnum("outcome", int32(o))
	}
	return transfer.Outcome(o - 1), nil
}

// Receipts carry types and algorithms by name, as their JSON does.

func typeNameToProto(s string) pb.EntryType {
	for _, t := range []transfer.Type{transfer.Regular, transfer.Directory, transfer.Symlink} {
		if t.String() == s {
			return typeToProto(t)
		}
	}
	return pb.EntryType_ENTRY_TYPE_UNSPECIFIED
}

func typeNameFromProto(t pb.EntryType) (string, error) {
	if t == pb.EntryType_ENTRY_TYPE_UNSPECIFIED {
		return "", nil
	}
	d, err := typeFromProto(t)
	return d.String(), err
}

func algorithmNameToProto(s string) pb.Algorithm {
	a, _ := transfer.ParseAlgorithm(s)
	return algorithmToProto(a)
}
