package recv

import (
	"github.com/e27efefb/sluice/pkg/transfer"
)

// digestSlab is how many digests are kept together.
const digestSlab = 4096

// digests keeps what a sender said of its files, in order of index and packed: 36
// octets a file with BLAKE3. The zero value is empty.
type digests struct {
	algorithm transfer.Algorithm
	index     []uint32         // manifest index of each
	sums      [][]byte         // slabs
	sizes     map[uint32]int64 // final sizes, by index, of files whose size was not offered
	starts    []int            // where each commit part begins
}

func (d *digests) len() int { return len(d.index) }

// truncate forgets the digests from the nth on.
func (d *digests) truncate(n int) {
	for _, i := range d.index[n:] {
		delete(d.sizes, i)
	}
	d.index = d.index[:n]
}

// from drops the parts from part on.
func (d *digests) from(part int) {
	if part < len(d.starts) {
		d.truncate(d.starts[part])
		d.starts = d.starts[:part]
	}
}

// add appends the digest of a file; unknown says that its size was not offered.
func (d *digests) add(f *transfer.FileDigest, unknown bool) {
	n := len(d.index)
	size := d.algorithm.Size()
	if n/digestSlab == len(d.sums) && size > 0 {
		// The first slab grows, so that a transfer of one file needs little.
		d.sums = append(d.sums, nil)
	}
	if size > 0 {
		slab := &d.sums[n/digestSlab]
		*slab = append((*slab)[:n%digestSlab*size], f.Digest.Sum...)
	}
	d.index = append(d.index, f.Index)
	if unknown {
		if d.sizes == nil {
			d.sizes = map[uint32]int64{}
		}
		d.sizes[f.Index] = f.Size
	}
}

// at returns the nth file's index and its digest, which is only lent.
func (d *digests) at(n int) (uint32, transfer.Digest) {
	dig := transfer.Digest{Algorithm: d.algorithm}
	if size := d.algorithm.Size(); size > 0 {
		at := n % digestSlab * size
		dig.Sum = d.sums[n/digestSlab][at : at+size : at+size]
	}
	return d.index[n], dig
}
