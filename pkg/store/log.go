package store

import (
	"bufio"
	"encoding/binary"
	"hash/crc32"
	"io"
	"os"
	"sync"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// The journal is a header and records:
//
//	octets  header
//	0-3     magic 53 4c 4a 4c ("SLJL")
//	4-7     format version, little-endian
//
//	octets  record
//	0-3     length n of the payload, little-endian, at most maxRecord
//	4       type
//	5-      payload
//	+n      crc32c (Castagnoli) over octets 0 to 4+n, little-endian
const (
	logMagic   = "SLJL"
	logVersion = 1
	logHeader  = 8
	maxRecord  = 8 << 20
	recordOver = 9
)

// record types; only added, never renumbered.
const (
	recSpec      = 1  // JSON of the Spec
	recBoot      = 2  // boot id of the machine that writes from here on
	recBegin     = 3  // epoch, JSON of the options
	recEntries   = 4  // entries that are new or changed; a change drops the chunks
	recSeal      = 5  // nodes of the manifest in order
	recChunks    = 6  // chunks of large files with hashes
	recSmall     = 7  // files of one chunk with hashes
	recDrop      = 8  // nodes that are gone
	recForget    = 9  // chunks that are no longer held
	recFinish    = 10 // final size of a file of unknown size
	recIntent    = 11 // names about to be renamed
	recCommitted = 12 // everything is published, the tombstone is written
	recPoison    = 13 // a sync failed: hash again what is held
)

// journal appends records. Append only buffers; Sync writes and makes durable.
type journal struct {
	mu    sync.Mutex
	f     *os.File
	table *crc32.Table
	buf   []byte
	err   error // sticky: a failed sync is never retried
}

func newJournal(f *os.File) *journal {
	return &journal{f: f, table: crc32.MakeTable(crc32.Castagnoli)}
}

// header returns the first octets of a new journal.
func journalHeader() []byte {
	return binary.LittleEndian.AppendUint32([]byte(logMagic), logVersion)
}

func appendRecord(b []byte, table *crc32.Table, kind byte, payload []byte) []byte {
	start := len(b)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(payload))) //nolint:gosec // bounded by callers
	b = append(b, kind)
	b = append(b, payload...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], table))
}

func (j *journal) append(kind byte, payload []byte) {
	j.mu.Lock()
	j.buf = appendRecord(j.buf, j.table, kind, payload)
	j.mu.Unlock()
}

// sync writes what was appended and makes it durable. After a failure every
// further call fails with the same error.
func (j *journal) sync() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil {
		return j.err
	}
	if len(j.buf) == 0 {
		return nil
	}
	if _, err := j.f.Write(j.buf); err != nil {
		j.err = err
		return err
	}
	if cap(j.buf) > 1<<20 {
		j.buf = nil
	}
	j.buf = j.buf[:0]
	j.err = syncData(j.f)
	return j.err
}

// replay reads a journal from its start and calls fn for each good record. It
// returns the length of the good part: the rest, from the first bad record on,
// was never acknowledged. A newer format is Invalid.
func replay(r io.Reader, fn func(kind byte, payload []byte) error) (int64, error) {
	br := bufio.NewReaderSize(r, 1<<20)
	table := crc32.MakeTable(crc32.Castagnoli)
	var h [logHeader]byte
	if _, err := io.ReadFull(br, h[:]); err != nil || string(h[:4]) != logMagic {
		return 0, transfer.Errorf(transfer.Internal, "read journal", "", "this is no journal of Sluice")
	}
	if v := binary.LittleEndian.Uint32(h[4:]); v != logVersion {
		return 0, transfer.Errorf(transfer.Invalid, "read journal", "", "format %d is newer than %d, which this program knows", v, logVersion).
			WithHint("start the version of sluice that wrote it, or remove the directory of this transfer")
	}
	good := int64(logHeader)
	var rec []byte
	for {
		var head [5]byte
		if _, err := io.ReadFull(br, head[:]); err != nil {
			return good, nil //nolint:nilerr // a cut record is the end
		}
		n := binary.LittleEndian.Uint32(head[:])
		if n > maxRecord {
			return good, nil
		}
		total := int(n) + recordOver
		if cap(rec) < total {
			rec = make([]byte, total+total/2)
		}
		rec = rec[:total]
		copy(rec, head[:])
		if _, err := io.ReadFull(br, rec[5:]); err != nil {
			return good, nil //nolint:nilerr // a cut record is the end
		}
		if crc32.Checksum(rec[:total-4], table) != binary.LittleEndian.Uint32(rec[total-4:]) {
			return good, nil
		}
		if err := fn(rec[4], rec[5:total-4]); err != nil {
			return good, err
		}
		good += int64(total)
	}
}
