package recv

import "github.com/e27efefb/sluice/pkg/transfer"

// digests keeps what a sender said of its files: a bit for each whose digest was
// right when it came, the digest of every other. A chunk that is written does not
// change until it is forgotten (see forget). The zero value is empty.
type digests struct {
	given  []uint64                   // a bit for each file, by index
	open   map[uint32]transfer.Digest // of files that differed or were not complete
	sizes  map[uint32]int64           // final sizes of files whose size was not offered
	starts []int64                    // where each commit part may begin
	next   int64                      // the least index that may come
}

// from drops the parts from part on.
func (d *digests) from(part int) {
	if part < len(d.starts) {
		d.cut(d.starts[part])
		d.starts = d.starts[:part]
	}
}

// cut forgets files from index on.
func (d *digests) cut(index int64) {
	d.next = index
	if word := int(index / 64); word < len(d.given) {
		d.given = d.given[:word+1]
		d.given[word] &= 1<<(index%64) - 1
	}
	for i := range d.open {
		if int64(i) >= index {
			delete(d.open, i)
		}
	}
	for i := range d.sizes {
		if int64(i) >= index {
			delete(d.sizes, i)
		}
	}
}

// add takes the digest of a file, whose index is at least next. Right says that it
// is the digest of what was received; unknown, that its size was not offered.
func (d *digests) add(f *transfer.FileDigest, right, unknown bool) {
	for word := int(f.Index / 64); word >= len(d.given); {
		d.given = append(d.given, 0)
	}
	d.given[f.Index/64] |= 1 << (f.Index % 64)
	d.next = int64(f.Index) + 1
	if !right {
		if d.open == nil {
			d.open = map[uint32]transfer.Digest{}
		}
		d.open[f.Index] = f.Digest
	}
	if unknown {
		if d.sizes == nil {
			d.sizes = map[uint32]int64{}
		}
		d.sizes[f.Index] = f.Size
	}
}

// has reports whether a file's digest came.
func (d *digests) has(file uint32) bool {
	word := int(file / 64)
	return word < len(d.given) && d.given[word]&(1<<(file%64)) != 0
}

// forget is called before chunks of a file are given up: what was said of it has to
// be compared anew, so if only its bit is left, all parts have to come again.
func (d *digests) forget(file uint32) {
	if _, kept := d.open[file]; d.has(file) && !kept {
		*d = digests{}
	}
}
