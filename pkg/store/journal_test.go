package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// The documented layout: header, then one record.
func TestJournalBytes(t *testing.T) {
	table := crc32.MakeTable(crc32.Castagnoli)
	b := appendRecord(journalHeader(), table, recBoot, []byte("abc"))
	want := []byte("SLJL\x01\x00\x00\x00" + "\x03\x00\x00\x00" + "\x02" + "abc")
	want = binary.LittleEndian.AppendUint32(want, crc32.Checksum(want[8:], table))
	if !bytes.Equal(b, want) {
		t.Errorf("% x, want % x", b, want)
	}
	for cut := logHeader; cut <= len(b); cut++ {
		n := 0
		good, err := replay(bytes.NewReader(b[:cut]), func(kind byte, payload []byte) error {
			if kind != recBoot || string(payload) != "abc" {
				t.Errorf("record %d %q", kind, payload)
			}
			n++
			return nil
		})
		if err != nil || (n == 1) != (cut == len(b)) || good != int64(logHeader+n*(len(b)-logHeader)) {
			t.Errorf("cut at %d: %d records, good to %d, %v", cut, n, good, err)
		}
	}
	for i := logHeader; i < len(b); i++ {
		bad := bytes.Clone(b)
		bad[i] ^= 0x10
		if good, err := replay(bytes.NewReader(bad), func(byte, []byte) error { return nil }); err != nil || good != logHeader {
			t.Errorf("octet %d flipped: good to %d, %v", i, good, err)
		}
	}
	newer := bytes.Clone(b)
	newer[4] = logVersion + 1
	if _, err := replay(bytes.NewReader(newer), nil); transfer.KindOf(err) != transfer.Invalid || transfer.HintOf(err) == "" {
		t.Errorf("a newer format: %v", err)
	}
	if _, err := replay(bytes.NewReader([]byte("SLJX\x01\x00\x00\x00")), nil); err == nil {
		t.Error("another file was read as a journal")
	}
}

var fuzzID = transfer.ID{0x01, 0x93, 0, 0, 0, 0, 0x70, 1, 0x80, 1, 2, 3, 4, 5, 6, 7}

// records wraps fuzzed input in good checksums, so that it reaches the fields:
// type, length in two octets, payload.
func records(raw []byte) []byte {
	table := crc32.MakeTable(crc32.Castagnoli)
	b := journalHeader()
	for len(raw) >= 3 {
		n := min(int(binary.LittleEndian.Uint16(raw[1:])), len(raw)-3)
		b = appendRecord(b, table, raw[0], raw[3:3+n])
		raw = raw[3+n:]
	}
	return b
}

// fuzzStage writes a journal with content and runs a stage through its life.
func fuzzStage(tb testing.TB, root string, journal []byte) {
	d, err := Open(Config{Root: root})
	if err != nil {
		tb.Fatal(err)
	}
	defer d.Close() // a test
	dir := filepath.Join(root, transfer.StageDir, fuzzID.String())
	if err := os.MkdirAll(dir, 0o700); err != nil {
		tb.Fatal(err)
	}
	defer os.RemoveAll(dir) // a test
	if err := os.WriteFile(filepath.Join(dir, journalName), journal, 0o600); err != nil {
		tb.Fatal(err)
	}
	ctx := context.Background()
	st, err := d.Open(ctx, fuzzID)
	if err != nil {
		return
	}
	for i := range min(st.Entries(), 100) {
		e, fs, _ := st.Entry(i)
		if e.Size >= 0 {
			if err := fs.Held.Validate(e.Chunks(fs.ChunkSize)); err != nil {
				tb.Errorf("entry %d: %v", i, err)
			}
		}
	}
	_ = st.Missing(10)
	if st.Epoch() == 1<<64-1 {
		return
	}
	if err := st.Begin(ctx, st.Epoch()+1, transfer.Options{Algorithm: transfer.BLAKE3}); err != nil {
		return
	}
	if _, err := st.Add(ctx, []transfer.Entry{{Path: "a/b", Size: 3}}); err != nil {
		tb.Errorf("add: %v", err)
	}
	if err := st.Seal(ctx); err != nil {
		tb.Errorf("seal: %v", err)
	}
	if !st.Written(0, 0) {
		if err := st.WriteSmall(ctx, 0, []byte("abc")); err != nil {
			tb.Errorf("write: %v", err)
		}
	}
	if err := st.Discard(ctx, transfer.StateAborted, nil); err != nil {
		tb.Errorf("discard: %v", err)
	}
	if err := d.tombs.remove(d.done, fuzzID); err != nil {
		tb.Error(err)
	}
}

func FuzzJournal(f *testing.F) {
	root := f.TempDir()
	if dir, err := os.MkdirTemp("/dev/shm", "store"); err == nil {
		root = dir
		f.Cleanup(func() { _ = os.RemoveAll(dir) })
	}
	f.Fuzz(func(t *testing.T, wrapped bool, b []byte) {
		if wrapped {
			b = records(b)
		}
		fuzzStage(t, root, b)
	})
}

func TestJournalCorpusIsThere(t *testing.T) {
	files, err := os.ReadDir("testdata/fuzz/FuzzJournal")
	if err != nil || len(files) < 3 {
		t.Errorf("no checked-in corpus: %v", err)
	}
}

func FuzzReceiptFiles(f *testing.F) {
	f.Add(appendFile(nil, &transfer.FileReceipt{Index: 3, Path: "a", Published: "b", Type: "file", Size: -1, Outcome: transfer.Renamed, Digest: transfer.Digest{Algorithm: transfer.XXH3, Sum: make([]byte, 16)}, Reason: "r"}), int64(0))
	f.Fuzz(func(t *testing.T, b []byte, off int64) {
		if off < 0 {
			return
		}
		page, err := readFiles(bytes.NewReader(b), off, 50)
		if err != nil && transfer.KindOf(err) != transfer.Invalid {
			t.Error(err)
		}
		if len(page.Files) > 50 {
			t.Errorf("%d files", len(page.Files))
		}
	})
}

// TestTable compares the packed tree with a map.
func TestTable(t *testing.T) {
	tb := newTable()
	want := map[string]nodeID{}
	paths := []string{}
	for i := range 30000 {
		p := ""
		for v, depth := i, 0; depth == 0 || v > 0; depth++ {
			p += "/" + string(rune('a'+v%13)) + "name"
			v /= 13
		}
		paths = append(paths, p[1:])
	}
	for _, p := range paths {
		id := tb.walk(transfer.Path(p))
		if old, ok := want[p]; ok && old != id {
			t.Fatalf("%s is %d and %d", p, old, id)
		}
		want[p] = id
		if got := tb.path(id); got != p {
			t.Fatalf("path of %d is %q, want %q", id, got, p)
		}
	}
	count := tb.count
	tb.walk("new/one")
	tb.walk("new/two")
	tb.truncate(count)
	if _, ok := tb.find("new"); ok {
		t.Error("a forgotten node is found")
	}
	for p, id := range want {
		if got, ok := tb.find(transfer.Path(p)); !ok || got != id {
			t.Fatalf("%s is %d, %v after forgetting others, want %d", p, got, ok, id)
		}
	}
	if tb.walk("new") != nodeID(count) {
		t.Error("numbers are not dense after forgetting")
	}
}
