package store_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/e27efefb/sluice/pkg/store"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// benchRoot prefers memory, where the store's own cost shows.
func benchRoot(b *testing.B) string {
	root, err := os.MkdirTemp("/dev/shm", "store")
	if err != nil {
		return b.TempDir()
	}
	b.Cleanup(func() { _ = os.RemoveAll(root) })
	return root
}

func benchStage(b *testing.B, a transfer.Algorithm, entries []transfer.Entry) store.Stage {
	ctx := context.Background()
	d, err := store.Open(store.Config{Root: benchRoot(b)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = d.Close() })
	spec := store.Spec{ID: transfer.NewID(), Options: transfer.Options{Algorithm: a}, Created: time.Now()}
	st, err := d.Create(ctx, spec)
	if err == nil {
		err = st.Begin(ctx, 1, spec.Options)
	}
	if err == nil {
		_, err = st.Add(ctx, entries)
	}
	if err == nil {
		err = st.Seal(ctx)
	}
	if err != nil {
		b.Fatal(err)
	}
	return st
}

func smallEntries(n int, size int64) []transfer.Entry {
	list := make([]transfer.Entry, n)
	for i := range list {
		list[i] = transfer.Entry{Index: uint32(i), Path: transfer.Path(fmt.Sprintf("tree/d%03d/file%05d", i/200, i)), Size: size, Mode: 0o644, ModTime: time.Unix(1700000000, int64(i))}
	}
	return list
}

func BenchmarkSmall(b *testing.B) {
	const count = 20000
	data := random(4096)
	for _, lanes := range []int{1, 2, 4} {
		b.Run(fmt.Sprintf("lanes=%d", lanes), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				entries := smallEntries(count, 4096)
				st := benchStage(b, transfer.BLAKE3, entries)
				b.StartTimer()
				begin := time.Now()
				var wg sync.WaitGroup
				for l := range lanes {
					wg.Go(func() {
						for i := l * count / lanes; i < (l+1)*count/lanes; i++ {
							if err := st.WriteSmall(context.Background(), uint32(i), data); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64(time.Since(begin).Microseconds())/count, "us/file")
				begin = time.Now()
				if _, err := st.Checkpoint(context.Background()); err != nil {
					b.Error(err)
				}
				b.ReportMetric(float64(time.Since(begin).Microseconds()), "us/checkpoint")
				begin = time.Now()
				if _, err := st.Publish(context.Background(), transfer.Receipt{}, nil); err != nil {
					b.Error(err)
				}
				b.ReportMetric(float64(time.Since(begin).Microseconds()), "us/publish")
			}
		})
	}
}

func BenchmarkAdd(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		entries := smallEntries(20000, 4096)
		b.StartTimer()
		benchStage(b, transfer.BLAKE3, entries)
	}
}

type zero struct{}

func (zero) Read(p []byte) (int, error) { return len(p), nil }

func BenchmarkWriteChunk(b *testing.B) {
	const size = 512 << 20
	for _, a := range []transfer.Algorithm{transfer.BLAKE3, transfer.XXH3, transfer.None} {
		b.Run(a.String(), func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				b.StopTimer()
				st := benchStage(b, a, []transfer.Entry{{Path: "f", Size: size}})
				b.StartTimer()
				for i := range uint32(size >> 20) {
					if err := st.WriteChunk(context.Background(), 0, i, 1<<20, zero{}); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

func BenchmarkSocket(b *testing.B) {
	const size = 512 << 20
	for _, a := range []transfer.Algorithm{transfer.XXH3, transfer.None} {
		b.Run(a.String(), func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				b.StopTimer()
				st := benchStage(b, a, []transfer.Entry{{Path: "f", Size: size}})
				l, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					b.Fatal(err)
				}
				go func() {
					c, err := net.Dial("tcp", l.Addr().String())
					if err != nil {
						return
					}
					buf := bytes.Repeat([]byte{7}, 1<<20)
					for range size >> 20 {
						_, _ = c.Write(buf)
					}
					_ = c.Close()
				}()
				c, err := l.Accept()
				if err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				var r io.Reader = c
				for i := range uint32(size >> 20) {
					if err := st.WriteChunk(context.Background(), 0, i, 1<<20, r); err != nil {
						b.Fatal(err)
					}
				}
				_ = c.Close()
				_ = l.Close()
			}
		})
	}
}
