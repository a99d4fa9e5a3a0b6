package send

import (
	"path/filepath"
	"testing"
)

// TestSlowIsNotStalled: on a slow path seconds pass between two acknowledgements,
// while octets arrive all the time. No lane is replaced for that, and nothing is
// sent twice.
func TestSlowIsNotStalled(t *testing.T) {
	for _, lanes := range []int{1, 3} {
		p := filepath.Join(t.TempDir(), "file")
		write(t, p, junk(3*mib/4))
		f := newFake(t)
		cfg := config(t, f, p)
		cfg.Lanes, cfg.Limit = lanes, 128<<10
		res, err := Send(testCtx(t), cfg)
		if err != nil || res.Stats.Resent != 0 || f.lanes > lanes {
			t.Errorf("%d lanes: %d were opened, %+v, %v", lanes, f.lanes, res.Stats, err)
		}
	}
}
