package recv

import (
	"time"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// Observer is told what happens, for metrics. Methods are called from many
// goroutines, must not block and must not call the receiver.
type Observer interface {
	// Bytes: n more octets were hashed and written.
	Bytes(n int64)
	// Lane: the number of open lanes changed by delta (+1 or -1). For -1, kind
	// says why: OK for a half-close by the sender.
	Lane(delta int, kind transfer.Kind)
	// Checkpoint: n octets became held in d, or err says why not.
	Checkpoint(d time.Duration, n int64, err error)
	// Commit: verifying and publishing took d and ended with kind (Corrupt also
	// for a round that asks for repair); repairs chunks were forgotten since the
	// last report.
	Commit(d time.Duration, kind transfer.Kind, repairs int64)
	// State: a transfer went from one state to another. StateUnknown comes before
	// the first; kind says why it is Failed or Aborted.
	State(from, to transfer.State, kind transfer.Kind)
}

type nobody struct{}

func (nobody) Bytes(int64)                                         {}
func (nobody) Lane(int, transfer.Kind)                             {}
func (nobody) Checkpoint(time.Duration, int64, error)              {}
func (nobody) Commit(time.Duration, transfer.Kind, int64)          {}
func (nobody) State(transfer.State, transfer.State, transfer.Kind) {}
