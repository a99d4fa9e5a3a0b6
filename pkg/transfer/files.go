package transfer

import (
	"crypto/sha256"
	"hash"
	"strconv"
)

// filesHeader begins what a FilesDigest hashes; another form would have another.
const filesHeader = "sluice-files-v1\n"

// FilesDigest is the digest over all files of a receipt, which lets a signature of
// the receipt vouch for files that it has no room for: SHA-256 over the header
// "sluice-files-v1" and a line feed, and for each file in order of index seven
// netstrings (LEN ":" OCTETS ",", LEN in decimal): index, path, published, type,
// outcome, size and digest, numbers in decimal, all as in the JSON of FileReceipt.
// The reason, a sentence for people, is left out. docs/receipts.md has an example.
//
// The zero value is ready. It is not safe for concurrent use.
type FilesDigest struct {
	h     hash.Hash
	b     []byte
	text  []byte
	files int64
}

func (d *FilesDigest) begin() {
	if d.h == nil {
		d.h = sha256.New()
		d.h.Write([]byte(filesHeader))
	}
}

// Add adds the next file.
func (d *FilesDigest) Add(f *FileReceipt) {
	d.begin()
	var digits [20]byte
	b := appendNetstring(d.b[:0], strconv.AppendUint(digits[:0], uint64(f.Index), 10))
	b = appendNetstring(b, f.Path)
	b = appendNetstring(b, f.Published)
	b = appendNetstring(b, f.Type)
	b = appendNetstring(b, f.Outcome.String())
	b = appendNetstring(b, strconv.AppendInt(digits[:0], f.Size, 10))
	d.text = f.Digest.append(d.text[:0])
	d.b = appendNetstring(b, d.text)
	d.h.Write(d.b)
	d.files++
}

func appendNetstring[S []byte | string](b []byte, s S) []byte {
	b = strconv.AppendInt(b, int64(len(s)), 10)
	b = append(b, ':')
	b = append(b, s...)
	return append(b, ',')
}

// Files returns how many were added.
func (d *FilesDigest) Files() int64 { return d.files }

// Sum returns the digest of the files so far.
func (d *FilesDigest) Sum() Digest {
	d.begin()
	return Digest{Algorithm: SHA256, Sum: d.h.Sum(nil)}
}

// CheckFiles compares all files of a transfer with its receipt. It is Corrupt when
// they are not those that the receipt is about, and Invalid when the receipt, of a
// receiver without FilesDigest and with more than InlineFiles files, cannot tell.
func (r *Receipt) CheckFiles(files *FilesDigest) error {
	const op = "check files of receipt"
	want := r.FilesDigest
	if want.IsZero() {
		if int64(len(r.Files)) != r.FileCount {
			return Errorf(Invalid, op, "", "it vouches for none of its %d files, since the receiver that made it was older", r.FileCount)
		}
		var d FilesDigest
		for i := range r.Files {
			d.Add(&r.Files[i])
		}
		want = d.Sum()
	}
	if files.Files() != r.FileCount {
		return Errorf(Corrupt, op, "", "the list has %d files, the receipt %d", files.Files(), r.FileCount)
	}
	if got := files.Sum(); !got.Equal(want) {
		return Errorf(Corrupt, op, "", "the list's digest is %s, the receipt's %s", got, want)
	}
	return nil
}
