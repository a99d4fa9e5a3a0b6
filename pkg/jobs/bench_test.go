package jobs

import (
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// A page of 100 finished jobs of one file each.
func BenchmarkPage(b *testing.B) {
	d, err := openDB(filepath.Join(b.TempDir(), "jobs.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer d.bolt.Close()
	if err := d.bolt.Update(func(tx *bbolt.Tx) error {
		for i := range 1000 {
			at := time.Unix(1_800_000_000+int64(i), 123456789).UTC()
			j := Job{
				ID: transfer.NewID(), State: Succeeded, Attempts: 1, Created: at, Updated: at, Finished: at,
				Spec:     Spec{RequestID: "request", Receiver: "far", Algorithm: transfer.BLAKE3, Sources: []Source{{Path: "/outbox/source", As: "file"}}},
				Progress: Progress{Bytes: 4096, Acked: 4096, Files: 1, To: "far", At: at},
			}
			j.Receipt = &transfer.Receipt{
				ID: j.ID, Algorithm: "blake3", Verified: true, Durable: true, FileCount: 1, Bytes: 4096, Counts: map[string]int64{"published": 1}, Started: at, Committed: at,
				Files: []transfer.FileReceipt{{Path: "file", Type: "file", Size: 4096, Digest: transfer.Digest{Algorithm: transfer.BLAKE3, Sum: make([]byte, 32)}}},
			}
			if err := put(tx, nil, &j); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if p, err := d.list(Filter{}); err != nil || len(p.Jobs) != defaultPage {
			b.Fatal(len(p.Jobs), err)
		}
	}
}
