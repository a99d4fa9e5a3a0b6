package send

import "testing"

// A lane's buffer is as large as what it moves, and no larger than a batch: a
// sender of 1,000 transfers has 1,000 of them.
func TestRoom(t *testing.T) {
	l := &lane{}
	for _, step := range []struct{ need, want int }{{100, 100}, {50, 100}, {150, 200}, {1000, 1000}, {laneBuf - 1, laneBuf - 1}, {laneBuf, laneBuf}, {1, laneBuf}} {
		if l.room(step.need); len(l.buf) != step.want {
			t.Errorf("room for %d octets: %d, want %d", step.need, len(l.buf), step.want)
		}
	}
}
