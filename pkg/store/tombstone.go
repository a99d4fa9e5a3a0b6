package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// A tombstone is a directory done/<time>.<id> (time in 16 hexadecimal digits of
// nanoseconds since 1970) with the files
//
//	receipt   JSON of tombstoneFile
//	files     for a committed transfer: records of its files, see appendFile
const (
	receiptName = "receipt"
	filesName   = "files"

	tombVersion = 1
	maxPage     = 1000
	defaultPage = 100
)

type tombstoneFile struct {
	Version   int
	Tombstone Tombstone
}

type tombKey struct {
	at int64
	id transfer.ID
}

func (k tombKey) name() string { return fmt.Sprintf("%016x.%s", k.at, k.id) }

func parseTombKey(s string) (tombKey, bool) {
	at, rest, ok := strings.Cut(s, ".")
	n, err := strconv.ParseInt(at, 16, 64)
	id, idErr := transfer.ParseID(rest)
	return tombKey{n, id}, ok && err == nil && idErr == nil
}

func (k tombKey) compare(o tombKey) int {
	if k.at != o.at {
		if k.at < o.at {
			return -1
		}
		return 1
	}
	return bytes.Compare(k.id[:], o.id[:])
}

// tombIndex knows the names of all tombstones, oldest first.
type tombIndex struct {
	mu   sync.Mutex
	keys []tombKey
	at   map[transfer.ID]int64
}

func (x *tombIndex) load(done *dir) error {
	names, err := done.names()
	if err != nil {
		return err
	}
	x.at = make(map[transfer.ID]int64, len(names))
	for _, n := range names {
		k, ok := parseTombKey(n)
		if !ok {
			continue
		}
		if old, twice := x.at[k.id]; twice && old > k.at {
			continue
		}
		x.at[k.id] = k.at
		x.keys = append(x.keys, k)
	}
	slices.SortFunc(x.keys, tombKey.compare)
	return nil
}

func (x *tombIndex) has(id transfer.ID) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	_, ok := x.at[id]
	return ok
}

func (x *tombIndex) key(id transfer.ID) (tombKey, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	at, ok := x.at[id]
	return tombKey{at, id}, ok
}

func (x *tombIndex) add(k tombKey) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.at[k.id] = k.at
	i, _ := slices.BinarySearchFunc(x.keys, k, tombKey.compare)
	x.keys = slices.Insert(x.keys, i, k)
}

func (x *tombIndex) remove(done *dir, id transfer.ID) error {
	k, ok := x.key(id)
	if !ok {
		return nil
	}
	if err := errors.Join(done.removeAll(k.name()), done.sync()); err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.at, id)
	if i, ok := slices.BinarySearchFunc(x.keys, k, tombKey.compare); ok {
		x.keys = slices.Delete(x.keys, i, i+1)
	}
	return nil
}

func (x *tombIndex) get(done *dir, id transfer.ID) (Tombstone, error) {
	k, ok := x.key(id)
	if !ok {
		return Tombstone{}, transfer.Errorf(transfer.NotFound, "find transfer", id.String(), "it is unknown here, or its receipt was forgotten")
	}
	return readTombstone(done, k)
}

func readTombstone(done *dir, k tombKey) (Tombstone, error) {
	fail := func(err error) (Tombstone, error) {
		return Tombstone{}, transfer.Errorf(transfer.Internal, "read receipt", k.id.String(), "%w", err)
	}
	d, err := done.sub(k.name())
	if err != nil {
		return fail(err)
	}
	defer d.close() // only read
	b, err := readFile(d, receiptName)
	if err != nil {
		return fail(err)
	}
	var f tombstoneFile
	if err := json.Unmarshal(b, &f); err != nil {
		return fail(err)
	}
	if f.Version > tombVersion {
		return fail(fmt.Errorf("format %d is newer than %d", f.Version, tombVersion))
	}
	return f.Tombstone, nil
}

func readFile(d *dir, name string) ([]byte, error) {
	f, err := d.file(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read
	return io.ReadAll(f)
}

// writeFile makes a file below d and makes its content durable.
func writeFile(d *dir, name string, write func(io.Writer) error) error {
	f, err := d.file(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	err = write(f)
	if err == nil {
		err = syncData(f)
	}
	return errors.Join(err, f.Close())
}

// Tombstone returns what is remembered of a finished transfer.
func (d *Disk) Tombstone(ctx context.Context, id transfer.ID) (Tombstone, error) {
	if err := ctx.Err(); err != nil {
		return Tombstone{}, canceled(err)
	}
	return d.tombs.get(d.done, id)
}

// Tombstones pages through finished transfers, newest first. A limit of 0 is 100,
// the most is 1,000.
func (d *Disk) Tombstones(ctx context.Context, token string, limit int) ([]Tombstone, string, error) {
	limit = pageLimit(limit)
	d.tombs.mu.Lock()
	end := len(d.tombs.keys)
	if token != "" {
		k, ok := parseTombKey(token)
		if !ok {
			d.tombs.mu.Unlock()
			return nil, "", badToken()
		}
		end, _ = slices.BinarySearchFunc(d.tombs.keys, k, tombKey.compare)
	}
	first := max(0, end-limit)
	keys := slices.Clone(d.tombs.keys[first:end])
	d.tombs.mu.Unlock()
	slices.Reverse(keys)
	var list []Tombstone
	for _, k := range keys {
		if err := ctx.Err(); err != nil {
			return nil, "", canceled(err)
		}
		t, err := readTombstone(d.done, k)
		if err != nil {
			if d.tombs.has(k.id) {
				d.log.Warn("cannot read a receipt", "transfer", k.id.String(), "error", err)
			}
			continue
		}
		list = append(list, t)
	}
	next := ""
	if first > 0 && len(keys) > 0 {
		next = keys[len(keys)-1].name()
	}
	return list, next, nil
}

func pageLimit(limit int) int {
	if limit <= 0 {
		return defaultPage
	}
	return min(limit, maxPage)
}

func badToken() error {
	return transfer.Errorf(transfer.Invalid, "read page token", "", "it was not made by this list")
}

// Clean forgets tombstones finished before the given time.
func (d *Disk) Clean(ctx context.Context, finishedBefore time.Time) error {
	d.tombs.mu.Lock()
	i, _ := slices.BinarySearchFunc(d.tombs.keys, tombKey{at: finishedBefore.UnixNano()}, tombKey.compare)
	old := slices.Clone(d.tombs.keys[:i])
	d.tombs.mu.Unlock()
	for _, k := range old {
		if err := ctx.Err(); err != nil {
			return canceled(err)
		}
		if err := d.tombs.remove(d.done, k.id); err != nil {
			return transfer.Errorf(transfer.Internal, "forget receipt", k.id.String(), "%w", err)
		}
	}
	return nil
}

// appendFile writes one file of a receipt as a record of the files file.
func appendFile(b []byte, f *transfer.FileReceipt) []byte {
	start := len(b)
	b = append(b, make([]byte, binary.MaxVarintLen64)...) // room for the length
	body := len(b)
	b = binary.AppendUvarint(b, uint64(f.Index))
	b = appendString(b, f.Path)
	b = appendString(b, f.Published)
	b = appendString(b, f.Type)
	b = append(b, byte(f.Outcome), byte(f.Digest.Algorithm))
	b = binary.AppendVarint(b, f.Size)
	b = append(binary.AppendUvarint(b, uint64(len(f.Digest.Sum))), f.Digest.Sum...)
	b = appendString(b, f.Reason)
	n := start + binary.PutUvarint(b[start:body], uint64(len(b)-body))
	return b[:n+copy(b[n:], b[body:])]
}

func (r *reader) fileReceipt() (f transfer.FileReceipt) {
	f.Index, f.Path, f.Published, f.Type = r.uint32(), r.string(), r.string(), r.string()
	if b := r.bytes(2); len(b) == 2 {
		f.Outcome, f.Digest.Algorithm = transfer.Outcome(b[0]), transfer.Algorithm(b[1])
	}
	f.Size = r.int()
	if sum := r.string(); sum != "" {
		f.Digest.Sum = []byte(sum)
	}
	f.Reason = r.string()
	return f
}

// ReceiptFiles pages through the files of a committed transfer. The token is an
// offset into the stored list.
func (d *Disk) ReceiptFiles(ctx context.Context, id transfer.ID, token string, limit int) (transfer.FilesPage, error) {
	if err := ctx.Err(); err != nil {
		return transfer.FilesPage{}, canceled(err)
	}
	limit = pageLimit(limit)
	var off int64
	if token != "" {
		n, err := strconv.ParseUint(token, 10, 62)
		if err != nil {
			return transfer.FilesPage{}, badToken()
		}
		off = int64(n) //nolint:gosec // 62 bits
	}
	k, ok := d.tombs.key(id)
	if !ok {
		return transfer.FilesPage{}, transfer.Errorf(transfer.NotFound, "find transfer", id.String(), "it is unknown here, or its receipt was forgotten")
	}
	s, err := d.done.sub(k.name())
	if err != nil {
		return transfer.FilesPage{}, transfer.Errorf(transfer.Internal, "read receipt", id.String(), "%w", err)
	}
	defer s.close() // only read
	f, err := s.file(filesName, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return transfer.FilesPage{}, nil
	}
	if err != nil {
		return transfer.FilesPage{}, transfer.Errorf(transfer.Internal, "read receipt", id.String(), "%w", err)
	}
	defer f.Close() // only read
	return readFiles(f, off, limit)
}

// readFiles reads up to limit records from an offset.
func readFiles(f io.ReaderAt, off int64, limit int) (transfer.FilesPage, error) {
	var page transfer.FilesPage
	r := newOffsetReader(f, off)
	for len(page.Files) < limit {
		n, err := binary.ReadUvarint(r)
		if errors.Is(err, io.EOF) {
			return page, nil
		}
		if err != nil || n > 1<<16 {
			return transfer.FilesPage{}, badToken()
		}
		body := make([]byte, n)
		if _, err := io.ReadFull(r, body); err != nil {
			return transfer.FilesPage{}, badToken()
		}
		fields := reader{b: body}
		file := fields.fileReceipt()
		if fields.bad {
			return transfer.FilesPage{}, badToken()
		}
		page.Files = append(page.Files, file)
	}
	if _, err := r.ReadByte(); err == nil {
		page.Next = strconv.FormatInt(r.off()-1, 10)
	}
	return page, nil
}
