package health

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"

	"github.com/e27efefb/sluice/pkg/transfer"
)

func TestReadFailures(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	f := readFailures{ctx: ctx}
	passing := fmt.Errorf("read: %w", refusedError)
	for range 10 * readErrors {
		if again, err := f.check(passing); !again || err != nil {
			t.Fatalf("an ICMP error ended it: %v", err)
		}
	}
	lasting := errors.New("no buffers")
	for range 3 {
		for range readErrors - 1 {
			if again, _ := f.check(lasting); !again {
				t.Fatal("it ended too early")
			}
		}
		_, _ = f.check(nil)
	}
	for range readErrors - 1 {
		_, _ = f.check(lasting)
	}
	if again, err := f.check(lasting); again || transfer.KindOf(err) != transfer.Unavailable || !errors.Is(err, lasting) {
		t.Errorf("%v, %v", again, err)
	}
	if again, err := f.check(net.ErrClosed); again || err != nil {
		t.Errorf("closed: %v, %v", again, err)
	}
	cancel()
	if again, err := f.check(lasting); again || err != nil {
		t.Errorf("cancelled: %v, %v", again, err)
	}
}
