package cmdtest

import (
	"context"
	"testing"

	"github.com/e27efefb/sluice/internal/soak"
)

// TestKillService kills the sender service twice and the receiver once in the
// middle of 20 jobs; tools/soakjobs does the same with 1,000.
func TestKillService(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	result, err := soak.Run(ctx, soak.Config{Bin: bin, Dir: t.TempDir(), Jobs: 20, Size: 1 << 20, SenderKills: 2, ReceiverKills: 1, Running: 2, Seed: 7, Log: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	t.Log(result)
}
