package store

import (
	"context"
	"io"
	"time"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// Store keeps the partial and the published files of one directory.
// All methods are safe for concurrent use.
type Store interface {
	// Create makes the stage of a new transfer, durable when it returns. A known
	// id is Exists. The reservation (in octets) is checked against disk and quota
	// by Add, not here.
	Create(ctx context.Context, spec Spec) (Stage, error)
	// Open returns the stage of an unfinished transfer found on disk, or NotFound.
	// Each stage is opened at most once; the caller keeps it.
	Open(ctx context.Context, id transfer.ID) (Stage, error)
	// Unfinished lists the stages on disk, oldest first, and finishes on the way
	// every publishing that a crash interrupted (those come back as tombstones). Of
	// each it tells only Spec and Updated: that takes no time.
	Unfinished(ctx context.Context) ([]Partial, error)
	// Peek tells about the stage of an unfinished transfer without opening it, or
	// NotFound. It reads the whole journal: about a second for a million files.
	Peek(ctx context.Context, id transfer.ID) (Partial, error)
	// Tombstone returns what is remembered of a finished transfer, or NotFound.
	Tombstone(ctx context.Context, id transfer.ID) (Tombstone, error)
	// Tombstones pages through finished transfers, newest first.
	Tombstones(ctx context.Context, token string, limit int) (list []Tombstone, next string, err error)
	// ReceiptFiles pages through the files of a committed transfer in order of index.
	ReceiptFiles(ctx context.Context, id transfer.ID, token string, limit int) (transfer.FilesPage, error)
	// Clean forgets tombstones finished before the given time.
	Clean(ctx context.Context, finishedBefore time.Time) error
	// Usage tells what is reserved, stored in stages, and free.
	Usage(ctx context.Context) (Usage, error)
	// Check judges names and conflicts of entries as Add would, and leaves no
	// state: it returns every problem found and whether space would suffice.
	Check(ctx context.Context, spec Spec, entries []transfer.Entry) ([]transfer.Problem, error)
	// Close waits for running calls, syncs what is dirty and gives up the lock.
	Close() error
}

// Spec is what is fixed for a transfer when its stage is made.
type Spec struct {
	ID        transfer.ID
	Principal string
	Prefix    string // the principal's directory below the root; "" for the root
	Options   transfer.Options
	Created   time.Time
	Limit     int64 // largest total of octets for this transfer; 0: none
	// Undeclared marks a transfer of the plain protocol, whose length nobody declared.
	Undeclared bool
}

// Partial is an unfinished transfer as it is on disk.
type Partial struct {
	Spec

	Updated time.Time // of the last progress: the last checkpoint or new epoch
	Epoch   transfer.Epoch
	Held    int64 // octets
	// Of the manifest, when it was complete: path of the first entry, number of
	// entries, octets (UnknownSize when one is not known).
	First string
	Files int64
	Bytes int64
}

// Usage is the state of the disk as the store sees it, in octets.
type Usage struct {
	Free     int64 // free for us on the filesystem, after what must be kept free
	Reserved int64 // promised to unfinished transfers, not yet written
	Staged   int64 // written into stages
	Quota    int64 // 0: none
	Inodes   int64 // free inodes; -1 unknown
}

// Tombstone remembers a finished transfer.
type Tombstone struct {
	Spec     Spec
	Info     transfer.Info // State Committed, Aborted or Failed; Receipt when committed
	Finished time.Time
	// ManifestHash identifies the manifest of a committed transfer (see
	// transfer/manifest hash in Stage.ManifestHash).
	ManifestHash [32]byte
}

// FileState is what the stage knows of one entry after Add.
type FileState struct {
	ChunkSize int64
	Held      transfer.Held // durable chunks
	Skip      bool          // identical under SkipIdentical; nothing will be taken
}

// Shape is what the moving of an entry's content depends on. Held is left out.
type Shape struct {
	Type      transfer.Type
	Size      int64 // octets; UnknownSize
	ChunkSize int64
	Skip      bool            // as in FileState
	Expected  transfer.Digest // zero: none
}

// Stage is one unfinished transfer on disk. WriteChunk may be called at once
// for different chunks; everything else is serialised by the stage itself.
type Stage interface {
	Spec() Spec
	// Begin starts an epoch: it is durable when it returns. Entries must be added
	// anew; what is held of an entry that stays the same is kept.
	// With it come the transfer's options, whose conflict policy may have changed.
	Begin(ctx context.Context, epoch transfer.Epoch, opts transfer.Options) error
	// Epoch is the epoch last begun, 0 for none.
	Epoch() transfer.Epoch
	// Add takes a part of the manifest: checks names, conflicts, space and quota,
	// reserves the space and makes the entries durable. On an error nothing of the
	// part is kept; an Invalid, Exists, Denied error carries Problems for every bad entry.
	Add(ctx context.Context, entries []transfer.Entry) ([]FileState, error)
	// Seal says that the manifest is complete: entries of earlier epochs that did
	// not come again are dropped. Durable when it returns.
	Seal(ctx context.Context) error
	// Entry returns an entry of this epoch and its state, or false.
	Entry(file uint32) (transfer.Entry, FileState, bool)
	// Shape is Entry without the names and times, which take longer to find.
	Shape(file uint32) (Shape, bool)
	// Entries is how many entries were added in this epoch.
	Entries() uint32
	// WriteChunk reads exactly n octets from r, hashes them while they pass and
	// writes them to their place. When it returns nil the chunk is written (dirty),
	// not yet held. n may be short only for the last chunk of an unknown size. On
	// an error of r nothing counts. An error of the disk poisons the file: the
	// error is a *transfer.Error (NoSpace, Internal), one of r is returned as it is.
	// r may be a *net.TCPConn: with algorithm None the store may splice from it.
	WriteChunk(ctx context.Context, file, chunk uint32, n int64, r io.Reader) error
	// WriteSmall is WriteChunk for a whole one-chunk file already in memory.
	WriteSmall(ctx context.Context, file uint32, data []byte) error
	// Written reports whether the chunk is written or held in this epoch.
	Written(file, chunk uint32) bool
	// Checkpoint makes everything written so far held: data first, then journal.
	// It returns the octets that became held.
	Checkpoint(ctx context.Context) (int64, error)
	// Progress returns octets written and held of entries of this epoch; after Open
	// and until Begin, of all that is on disk.
	Progress() (written, held int64)
	// Finish tells the final size of an entry whose size was unknown.
	Finish(ctx context.Context, file uint32, size int64) error
	// Missing returns up to limit files that lack chunks.
	Missing(limit int) []uint32
	// Digest computes the digest of a complete file from its chunk hashes.
	Digest(file uint32) (transfer.Digest, error)
	// ChunkHashes returns the hashes of chunks, zeros where missing.
	ChunkHashes(file, first, count uint32) ([]byte, error)
	// Forget un-journals chunks durably, so that they can be written again.
	Forget(ctx context.Context, file uint32, chunks transfer.Held) error
	// ManifestHash identifies the sealed manifest (all entries but their modes).
	ManifestHash() [32]byte
	// OpenStaged opens a complete staged file for reading (expected digests, gates).
	OpenStaged(file uint32) (io.ReadCloser, string, error)
	// Publish makes everything durable, publishes it and leaves a tombstone. Base
	// holds the receipt's fields that the store cannot know. With exactly one root
	// that is taken (policy fail) the error is Exists and the stage stays as it is.
	Publish(ctx context.Context, base transfer.Receipt, sign func(*transfer.Receipt) error) (*transfer.Receipt, error)
	// Discard removes the stage, gives its space back and leaves a tombstone with
	// the state Aborted or Failed and the cause.
	Discard(ctx context.Context, state transfer.State, cause error) error
	// Park syncs what is dirty and closes descriptors; the stage stays on disk.
	Park(ctx context.Context) error
}
