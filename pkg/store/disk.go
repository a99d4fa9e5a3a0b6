package store

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/e27efefb/sluice/pkg/digest"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// DefaultKeepReceipts is how long tombstones are kept unless Config says.
const DefaultKeepReceipts = 7 * 24 * time.Hour

// Config is what a store needs. Only Root must be set.
type Config struct {
	Root         string           // directory that receives; made (0755 less umask) if missing. Trusted: may be reached by links
	KeepFree     int64            // octets to leave free on the filesystem; 0: none
	MaxTotal     int64            // largest total of all unfinished transfers, in octets; 0: no quota
	MaxTransfer  int64            // largest total of one transfer, in octets; 0: no limit
	KeepReceipts time.Duration    // how long tombstones are kept; 0: DefaultKeepReceipts; negative: for ever
	Logger       *slog.Logger     // nil: nothing is logged
	Now          func() time.Time // nil: time.Now
	// Sign signs receipts of transfers whose publishing a crash interrupted and
	// which Open or Unfinished finishes; nil: they stay unsigned.
	Sign func(*transfer.Receipt) error
}

// Disk is the Store in a directory.
type Disk struct {
	cfg     Config
	log     *slog.Logger
	now     func() time.Time
	root    *dir // the receiving directory
	private *dir // .sluice
	done    *dir // .sluice/done
	lock    *os.File
	boot    string
	umask   fs.FileMode
	memory  bool // tmpfs: nothing survives anyway, so nothing is preallocated
	acct    account
	space   sync.Mutex // serialises reservations
	pool    sync.Pool  // of *scratch
	// poisoned has the ids of stages that failed and were not opened anew since. It
	// has a lock of its own: a stage can fail while it is opened, under mu.
	poisoned sync.Map

	mu     sync.Mutex
	stages map[transfer.ID]*stage
	closed bool
	tombs  tombIndex
}

var _ Store = (*Disk)(nil)

// scratch is what one lane needs while it writes a chunk.
type scratch struct {
	buf  []byte
	hash *digest.ChunkHasher
	sum  [32]byte
}

// pieceSize is how much of a chunk is read, hashed and written at once: it stays
// in the second-level cache (see BenchmarkWriteChunk).
const pieceSize = 256 << 10

const (
	doneName  = "done"
	lockName  = "lock"
	trashName = "trash"
)

// Open opens the store of a directory and takes its lock. A second store on the
// same directory is Busy.
func Open(cfg Config) (*Disk, error) {
	if cfg.Root == "" {
		return nil, transfer.Errorf(transfer.Invalid, "open store", "", "no directory is given").WithHint("name one with --dir")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.KeepReceipts == 0 {
		cfg.KeepReceipts = DefaultKeepReceipts
	}
	d := &Disk{
		cfg: cfg, log: cfg.Logger, now: cfg.Now, boot: bootID(), umask: umask(),
		stages: map[transfer.ID]*stage{},
	}
	d.pool.New = func() any {
		return &scratch{buf: make([]byte, pieceSize), hash: digest.NewChunk(transfer.None, 0, transfer.MinChunkSize, true)}
	}
	if err := d.open(); err != nil {
		d.closeDirs()
		return nil, err
	}
	return d, nil
}

func (d *Disk) open() error {
	fail := func(err error) error {
		return transfer.Errorf(transfer.Internal, "open store", d.cfg.Root, "%w", err).
			WithHint("check that the directory exists and that this user may write there")
	}
	if err := os.MkdirAll(d.cfg.Root, 0o755); err != nil { //nolint:gosec // received files are for others to read; the umask decides
		return fail(err)
	}
	var err error
	if d.root, err = openDir(d.cfg.Root); err != nil {
		return fail(err)
	}
	d.memory = d.root.inMemory()
	if d.private, err = d.root.make(transfer.StageDir); err != nil {
		return fail(err)
	}
	if d.lock, err = d.private.lockFile(lockName); err != nil {
		if isLocked(err) {
			return transfer.Errorf(transfer.Busy, "open store", d.cfg.Root, "another receiver serves this directory").
				WithHint("stop the other receiver, or give this one a directory of its own with --dir")
		}
		return fail(err)
	}
	if d.done, err = d.private.make(doneName); err != nil {
		return fail(err)
	}
	if err := errors.Join(d.root.sync(), d.private.sync()); err != nil {
		return fail(err)
	}
	if err := d.tombs.load(d.done); err != nil {
		return fail(err)
	}
	if d.cfg.KeepReceipts > 0 {
		if err := d.Clean(context.Background(), d.now().Add(-d.cfg.KeepReceipts)); err != nil {
			d.log.Warn("cannot forget old receipts", "error", err)
		}
	}
	return d.emptyTrash()
}

// make opens a directory below d and makes it if it is missing.
func (d *dir) make(name string) (*dir, error) {
	s, err := d.sub(name)
	if !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	if err := d.mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return d.sub(name)
}

// emptyTrash removes what a crash left of stages that were given up: trashed
// ones, and stages whose tombstone is written already.
func (d *Disk) emptyTrash() error {
	names, err := d.private.names()
	if err != nil {
		return transfer.Errorf(transfer.Internal, "open store", d.cfg.Root, "%w", err)
	}
	for _, n := range names {
		id, err := transfer.ParseID(n)
		if strings.HasPrefix(n, trashName) || (err == nil && d.tombs.has(id)) {
			if err := d.private.removeAll(n); err != nil {
				d.log.Warn("cannot remove what is left of a transfer", "name", n, "error", err)
			}
		}
	}
	return nil
}

// removeAll removes a name and everything below it and never follows a link.
func (d *dir) removeAll(name string) error {
	err := d.unlink(name)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	s, subErr := d.sub(name)
	if subErr != nil {
		return err
	}
	names, err := s.names()
	for _, n := range names {
		if e := s.removeAll(n); err == nil {
			err = e
		}
	}
	_ = s.close()
	if err != nil {
		return err
	}
	return d.rmdir(name)
}

// Create makes the stage of a new transfer.
func (d *Disk) Create(ctx context.Context, spec Spec) (Stage, error) {
	if err := ctx.Err(); err != nil {
		return nil, canceled(err)
	}
	if err := checkSpec(&spec); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch t, err := d.tombs.get(d.done, spec.ID); {
	case d.closed:
		return nil, errClosed()
	case err == nil && t.Info.State == transfer.StateCommitted:
		return nil, transfer.Errorf(transfer.Exists, "begin transfer", spec.ID.String(), "it is committed already")
	case err == nil:
		if err := d.tombs.remove(d.done, spec.ID); err != nil {
			return nil, transfer.Errorf(transfer.Internal, "begin transfer", spec.ID.String(), "%w", err)
		}
	}
	if d.stages[spec.ID] != nil {
		return nil, transfer.Errorf(transfer.Exists, "begin transfer", spec.ID.String(), "it is open already")
	}
	s, err := d.createStage(&spec)
	if err != nil {
		return nil, err
	}
	d.stages[spec.ID] = s
	return s, nil
}

func checkSpec(spec *Spec) error {
	if spec.ID.IsZero() {
		return transfer.Errorf(transfer.Invalid, "begin transfer", "", "no id is given")
	}
	for _, p := range []string{spec.Prefix, spec.Options.Into} {
		if p == "" {
			continue
		}
		if _, err := transfer.ParsePath(p, spec.Options.Names); err != nil {
			return err
		}
	}
	return nil
}

// Open returns the stage of an unfinished transfer found on disk.
func (d *Disk) Open(ctx context.Context, id transfer.ID) (Stage, error) {
	if err := ctx.Err(); err != nil {
		return nil, canceled(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, errClosed()
	}
	if d.stages[id] != nil {
		return nil, transfer.Errorf(transfer.Busy, "open transfer", id.String(), "it is open already")
	}
	s, err := d.loadStage(ctx, id)
	if err != nil {
		return nil, err
	}
	if s.marked {
		// A crash interrupted its publishing: finish that first.
		err := s.resumePublish(ctx)
		if err == nil {
			return nil, transfer.Errorf(transfer.NotFound, "open transfer", id.String(), "it is committed")
		}
		s.acct.clear()
		_ = s.closeFiles()
		if s.marked {
			return nil, err
		}
		// Its name is taken: it stays open for another policy.
		if s, err = d.loadStage(ctx, id); err != nil {
			return nil, err
		}
	}
	d.stages[id] = s
	return s, nil
}

// Unfinished lists the stages on disk and finishes interrupted publishing.
func (d *Disk) Unfinished(ctx context.Context) ([]Partial, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, errClosed()
	}
	names, err := d.private.names()
	if err != nil {
		return nil, transfer.Errorf(transfer.Internal, "list transfers", "", "%w", err)
	}
	var list []Partial
	for _, n := range names {
		id, err := transfer.ParseID(n)
		if err != nil || d.tombs.has(id) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, canceled(err)
		}
		p, marked, err := d.peek(id)
		if s := d.stages[id]; s != nil {
			p.Spec = s.Spec()
			list = append(list, p)
			continue
		}
		if err == nil && marked {
			err = d.finish(ctx, id)
			if err == nil {
				continue
			}
		}
		if err != nil {
			d.log.Error("cannot read an unfinished transfer", "transfer", id.String(), "error", err)
			if p.ID.IsZero() {
				continue
			}
		}
		list = append(list, p)
	}
	sortPartials(list)
	return list, nil
}

// finish publishes what a crash interrupted. The caller holds d.mu.
func (d *Disk) finish(ctx context.Context, id transfer.ID) error {
	s, err := d.loadStage(ctx, id)
	if err != nil {
		return err
	}
	if err := s.resumePublish(ctx); err != nil {
		s.acct.clear()
		_ = s.closeFiles()
		return err
	}
	return nil
}

// Close parks every open stage, and gives up the lock.
func (d *Disk) Close() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil
	}
	d.closed = true
	open := make([]*stage, 0, len(d.stages))
	for _, s := range d.stages {
		open = append(open, s)
	}
	d.mu.Unlock()
	var err error
	for _, s := range open {
		err = errors.Join(err, s.Park(context.Background()))
	}
	d.closeDirs()
	return err
}

func (d *Disk) closeDirs() {
	for _, x := range []*dir{d.done, d.private, d.root} {
		if x != nil {
			_ = x.close()
		}
	}
	if d.lock != nil {
		_ = d.lock.Close()
	}
}

// forget takes a stage out of the register.
func (d *Disk) forget(id transfer.ID) {
	d.mu.Lock()
	delete(d.stages, id)
	d.mu.Unlock()
}

func canceled(err error) error {
	return transfer.Errorf(transfer.Canceled, "wait", "", "%w", err)
}

func errClosed() error {
	return transfer.Errorf(transfer.Unavailable, "use store", "", "the receiver is stopping").WithHint("try again when it has started again")
}
