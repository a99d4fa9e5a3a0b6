package recv_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/zeebo/blake3"

	"github.com/e27efefb/sluice/pkg/digest"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// tree offers files, a directory and an empty file between them, and sends the files.
func tree(t *testing.T, h *house, a transfer.Algorithm, brief bool) (j *job, files []string) {
	t.Helper()
	files = []string{"first", "second", strings.Repeat("third", mib/4), "fourth"}
	j = &job{t: t, h: h, id: transfer.NewID(), session: transfer.NewSession()}
	p := &transfer.OfferPart{ID: j.id, Session: j.session, Last: true, Brief: brief, Options: transfer.Options{Algorithm: a, TotalBytes: transfer.UnknownSize}}
	add := func(path string, y transfer.Type, n int) {
		p.Entries = append(p.Entries, transfer.Entry{Index: uint32(len(p.Entries)), Path: transfer.Path(path), Type: y, Size: int64(n)})
	}
	add("t", transfer.Directory, 0)
	add("t/0", transfer.Regular, len(files[0]))
	add("t/empty", transfer.Regular, 0)
	for i, f := range files[1:] {
		add("t/"+string(rune('1'+i)), transfer.Regular, len(f))
	}
	var err error
	if j.a, err = h.as("alice").Negotiate(testContext(t), p); err != nil {
		t.Fatal(err)
	}
	l := j.lane()
	for i, index := range []uint32{1, 3, 4, 5} {
		if err := l.Frame(index, 0, []byte(files[i])); err != nil {
			t.Fatal(err)
		}
		for got := uint32(0); got < transfer.Chunks(int64(len(files[i])), mib); {
			r, err := l.Ack()
			if err != nil || r.File != index {
				t.Fatalf("record %+v, %v", r, err)
			}
			got += r.Count
		}
	}
	return j, files
}

func sumsOf(a transfer.Algorithm, files []string) (sums []byte) {
	for _, f := range files {
		if a == transfer.BLAKE3 {
			d := blake3.Sum256([]byte(f))
			sums = append(sums, d[:]...)
			continue
		}
		var hashes []byte
		for c := range slices.Chunk([]byte(f), mib) {
			hashes = digest.SumChunk(hashes, a, 0, mib, len(f) <= mib, c)
		}
		sums = append(sums, digest.Root(a, int64(len(f)), mib, hashes).Sum...)
	}
	return sums
}

// TestSums commits by digests alone, in one part and in parts, and with wrong ones.
func TestSums(t *testing.T) {
	h := newHouse(t, nil)
	for _, a := range []transfer.Algorithm{transfer.BLAKE3, transfer.XXH3, transfer.None} {
		j, files := tree(t, h, a, true)
		if !j.a.Sums {
			t.Fatal("the answer does not say that sums are understood")
		}
		call := func(part uint32, last bool, sums []byte) (*transfer.CommitResult, error) {
			return h.as("alice").Commit(testContext(t), &transfer.CommitPart{ID: j.id, Session: j.session, Part: part, Last: last, Sums: sums})
		}
		sums, n := sumsOf(a, files), digest.HashSize(a)
		if a != transfer.None {
			for what, bad := range map[string][]byte{
				"half a digest": sums[:n+1], "one too many": slices.Concat(sums, sums[:n]), "too much": make([]byte, transfer.MaxSums+n),
			} {
				_, err := call(0, true, bad)
				if kindOf(t, err, transfer.Invalid); err == nil {
					t.Errorf("%v: %s was taken", a, what)
				}
			}
			_, err := call(0, true, sums[:3*n])
			if kindOf(t, err, transfer.Invalid); err == nil || !strings.Contains(err.Error(), "t/3") || !strings.Contains(err.Error(), "its digest is missing") {
				t.Errorf("%v, want t/3 and what is missing", err)
			}
			wrong := slices.Clone(sums)
			wrong[2*n] ^= 1
			if r, err := call(0, true, wrong); err != nil || !slices.Equal(r.Mismatch, []uint32{4}) {
				t.Errorf("%v: %+v, %v, want file 4 to differ", a, r, err)
			}
			if r, err := call(0, false, sums[:2*n]); err != nil || r.Receipt != nil {
				t.Fatalf("%v: %+v, %v", a, r, err)
			}
			sums = sums[2*n:]
		} else {
			_, err := call(0, true, make([]byte, 32))
			kindOf(t, err, transfer.Invalid)
			if _, err := call(0, false, nil); err != nil {
				t.Fatal(err)
			}
		}
		_, err := h.as("alice").Commit(testContext(t), &transfer.CommitPart{
			ID: j.id, Session: j.session, Part: 1, Last: true, Sums: slices.Concat(sums), Files: []transfer.FileDigest{{Index: 1, Size: 5}},
		})
		kindOf(t, err, transfer.Invalid)
		r, err := call(1, true, sums)
		if err != nil || r.Receipt == nil || r.Receipt.FileCount != 6 {
			t.Fatalf("%v: %+v, %v", a, r, err)
		}
		for _, f := range r.Receipt.Files {
			if a == transfer.BLAKE3 && f.Index == 4 {
				if want := blake3.Sum256([]byte(files[2])); !slices.Equal(f.Digest.Sum, want[:]) {
					t.Errorf("the receipt has %v, want %x", f.Digest, want)
				}
			}
		}
		h = newHouse(t, nil)
	}
}

// TestBriefAnswer sees which files an answer may leave out.
func TestBriefAnswer(t *testing.T) {
	h := newHouse(t, nil)
	indexes := func(a *transfer.Answer) (list []uint32) {
		for _, f := range a.Files {
			list = append(list, f.Index)
		}
		return list
	}
	j, _ := tree(t, h, transfer.BLAKE3, false)
	if got := indexes(j.a); !slices.Equal(got, []uint32{1, 3, 4, 5}) {
		t.Errorf("a long answer has files %v, want 1, 3, 4, 5", got)
	}
	j, _ = tree(t, newHouse(t, nil), transfer.BLAKE3, true)
	if got := indexes(j.a); !slices.Equal(got, []uint32{4}) {
		t.Errorf("a brief answer has files %v, want 4, which has two chunks", got)
	}
	// In a new session all is held, and said to be.
	h = j.h
	p := &transfer.OfferPart{
		ID: j.id, Session: transfer.NewSession(), Last: true, Brief: true, Options: transfer.Options{Algorithm: transfer.BLAKE3, TotalBytes: transfer.UnknownSize},
		Entries: []transfer.Entry{{Path: "t", Type: transfer.Directory}, {Index: 1, Path: "t/0", Size: 5}, {Index: 2, Path: "t/new", Size: 5}},
	}
	a, err := h.as("alice").Negotiate(testContext(t), p)
	if err != nil || !slices.Equal(indexes(a), []uint32{1}) || a.Files[0].Held.Count() != 1 {
		t.Errorf("%+v, %v, want file 1, which is held", a, err)
	}
}
