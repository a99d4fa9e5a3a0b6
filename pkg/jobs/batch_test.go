package jobs

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.etcd.io/bbolt"
)

func openBatcher(t *testing.T) *batcher {
	t.Helper()
	d, err := openDB(filepath.Join(t.TempDir(), "jobs.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.bolt.Close() })
	return d.batcher
}

func putKey(key string) func(*bbolt.Tx) error {
	return func(tx *bbolt.Tx) error { return tx.Bucket(bucketMeta).Put([]byte(key), []byte("x")) }
}

func (b *batcher) has(t *testing.T, key string) (found bool) {
	t.Helper()
	if err := b.bolt.View(func(tx *bbolt.Tx) error {
		found = tx.Bucket(bucketMeta).Get([]byte(key)) != nil
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return found
}

// Changes that come while a transaction is written are the next one together,
// and one of them that fails, or panics, takes nothing of the others with it.
func TestBatchSharesTransactions(t *testing.T) {
	b := openBatcher(t)
	const others = 2 * maxBatch
	broken := errors.New("broken")
	started, release := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := b.do(func(tx *bbolt.Tx) error {
			close(started)
			<-release
			return putKey("first")(tx)
		}); err != nil {
			t.Error(err)
		}
	})
	<-started
	transactions := map[int]bool{}
	var mu sync.Mutex
	for i := range others {
		wg.Go(func() {
			err := b.do(func(tx *bbolt.Tx) error {
				mu.Lock()
				transactions[tx.ID()] = true
				mu.Unlock()
				if err := putKey(fmt.Sprint(i))(tx); err != nil {
					return err
				}
				switch i {
				case 7:
					return broken
				case 8:
					panic("eight")
				}
				return nil
			})
			switch {
			case i == 7 && !errors.Is(err, broken), i == 8 && (err == nil || !strings.Contains(err.Error(), "eight")), i != 7 && i != 8 && err != nil:
				t.Errorf("change %d: %v", i, err)
			}
			if got := b.has(t, fmt.Sprint(i)); got != (i != 7 && i != 8) {
				t.Errorf("change %d: stored %t when it returned", i, got)
			}
		})
	}
	for n := 0; n < others; { // all wait for the first
		b.mu.Lock()
		n = len(b.waiting)
		b.mu.Unlock()
	}
	close(release)
	wg.Wait()
	// Two batches, and once more for each of the two that failed; an aborted
	// transaction's number is used again.
	if len(transactions) > 4 {
		t.Errorf("%d changes took %d transactions", others, len(transactions))
	}
	if !b.has(t, "first") {
		t.Error("the first change is not stored")
	}
	if b.busy || len(b.waiting) > 0 {
		t.Error("the batcher still waits for something")
	}
}

// A change that comes alone waits for nobody, and the next one neither.
func TestBatchAlone(t *testing.T) {
	b := openBatcher(t)
	for i := range 3 {
		if err := b.do(putKey(fmt.Sprint(i))); err != nil || !b.has(t, fmt.Sprint(i)) {
			t.Errorf("change %d: %v", i, err)
		}
	}
	_ = b.bolt.Close()
	if err := b.do(putKey("late")); !errors.Is(err, bbolt.ErrDatabaseNotOpen) { //nolint:staticcheck // the same value as in bbolt/errors
		t.Errorf("after the end: %v", err)
	}
}
