package auth

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// ReloadEvery is how often, at most, a configuration file is read again: a
// change is in force for every use that begins this long after it was made.
const ReloadEvery = time.Second

// MaxFile bounds a configuration file in octets: 10,000 tokens of about 120
// octets are 1.2 MB, so 4 MiB leaves room for comments and long names.
const MaxFile = 4 << 20

// Options hold what everything that is loaded from files needs.
type Options struct {
	Log *slog.Logger     // gets one error for each broken new file; nil: nothing is logged
	Now func() time.Time // the clock for expiry and reloading; nil: time.Now
}

func (o Options) filled() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// watched is a value parsed from a few small files. It reads them again on use,
// at most once in ReloadEvery, and compares their content; so it needs no
// goroutine, and neither a coarse time stamp nor a swapped symbolic link (as
// Kubernetes makes them) hides a change. A new content that cannot be read or
// parsed leaves the value as it was and is reported once.
type watched[T any] struct {
	paths []string
	parse func(files [][]byte) (T, error)
	opts  Options

	mu    sync.Mutex // held by the one that reads the files
	state atomic.Pointer[watchState[T]]
}

type watchState[T any] struct {
	value   T
	content [][]byte  // what value was parsed from
	next    time.Time // when the files are due
	err     error     // why the newest content is not in force; nil: it is
}

func watch[T any](opts Options, parse func(files [][]byte) (T, error), paths ...string) (*watched[T], error) {
	w := &watched[T]{paths: paths, parse: parse, opts: opts.filled()}
	now := w.opts.Now()
	content, err := w.read()
	if err != nil {
		return nil, err
	}
	v, err := parse(content)
	if err != nil {
		return nil, w.wrap(err)
	}
	w.state.Store(&watchState[T]{value: v, content: content, next: now.Add(ReloadEvery)})
	return w, nil
}

// get returns the value in force. Callers that find the files due wait for the
// one that reads them, so a removed credential is not accepted by a race.
func (w *watched[T]) get() T {
	now := w.opts.Now()
	if s := w.state.Load(); now.Before(s.next) {
		return s.value
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	old := w.state.Load()
	if now.Before(old.next) {
		return old.value
	}
	s := w.reload(old)
	s.next = now.Add(ReloadEvery)
	w.state.Store(s)
	return s.value
}

func (w *watched[T]) reload(old *watchState[T]) *watchState[T] {
	s := &watchState[T]{value: old.value, content: old.content}
	content, err := w.read()
	if err == nil && !equalFiles(content, old.content) {
		var v T
		if v, err = w.parse(content); err == nil {
			s.value, s.content = v, content
			w.opts.Log.Info("configuration file reloaded", "files", w.paths)
		} else {
			err = w.wrap(err)
		}
	}
	s.err = err
	if err != nil && (old.err == nil || old.err.Error() != err.Error()) {
		w.opts.Log.Error("configuration file is broken, the one before stays in force", "files", w.paths, "error", err)
	}
	return s
}

// stale returns why the files as they are now are not in force, or nil.
func (w *watched[T]) stale() error {
	w.get()
	return w.state.Load().err
}

func (w *watched[T]) read() ([][]byte, error) {
	content := make([][]byte, len(w.paths))
	for i, p := range w.paths {
		b, err := readSmall(p)
		if err != nil {
			return nil, err
		}
		content[i] = b
	}
	return content, nil
}

func (w *watched[T]) wrap(err error) error {
	path := w.paths[0]
	var e *transfer.Error
	if errors.As(err, &e) && e.Path != "" {
		return err
	}
	if e != nil {
		c := *e
		c.Path = path
		return &c
	}
	return transfer.Errorf(transfer.Invalid, "read", path, "%w", err)
}

func equalFiles(a, b [][]byte) bool {
	for i := range a {
		if !bytes.Equal(a[i], b[i]) {
			return false
		}
	}
	return true
}

// readSmall reads a whole file of at most MaxFile octets.
func readSmall(path string) ([]byte, error) {
	fail := func(err error) error {
		e := transfer.Errorf(transfer.Invalid, "read", path, "%w", err)
		if errors.Is(err, os.ErrPermission) {
			return e.WithHint("let the user of the service read the file")
		}
		if errors.Is(err, os.ErrNotExist) {
			return e.WithHint("check the path, or make the file first")
		}
		return e
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fail(cause(err))
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, fail(cause(err))
	}
	if len(b) > MaxFile {
		return nil, fail(fmt.Errorf("the file is larger than %d octets", MaxFile))
	}
	return b, nil
}

// cause strips the path from an error of package os; the caller names it.
func cause(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	var le *os.LinkError
	if errors.As(err, &le) {
		return le.Err
	}
	return err
}
