package store_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/e27efefb/sluice/pkg/store"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// BenchmarkMillion shows what a manifest of a million entries costs.
func BenchmarkMillion(b *testing.B) {
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		begin := time.Now()
		st := benchParts(b, 1_000_000)
		took := time.Since(begin)
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "heapMB")
		b.ReportMetric(took.Seconds(), "s/add")
		if st.Entries() != 1_000_000 {
			b.Errorf("%d entries", st.Entries())
		}
	}
}

// benchParts adds n entries in parts of 10,000.
func benchParts(b *testing.B, n int) store.Stage {
	ctx := context.Background()
	d, err := store.Open(store.Config{Root: benchRoot(b)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = d.Close() })
	opts := transfer.Options{Algorithm: transfer.BLAKE3}
	st, err := d.Create(ctx, store.Spec{ID: transfer.NewID(), Options: opts})
	if err == nil {
		err = st.Begin(ctx, 1, opts)
	}
	for first := 0; err == nil && first < n; first += 10_000 {
		part := make([]transfer.Entry, 10_000)
		for i := range part {
			k := first + i
			part[i] = transfer.Entry{Index: uint32(k), Path: transfer.Path(fmt.Sprintf("tree/directory%04d/a-file-%06d.dat", k/200, k)), Size: 100, Mode: 0o644, ModTime: time.Unix(1700000000, int64(k))}
		}
		_, err = st.Add(ctx, part)
	}
	if err == nil {
		err = st.Seal(ctx)
	}
	if err != nil {
		b.Fatal(err)
	}
	return st
}
