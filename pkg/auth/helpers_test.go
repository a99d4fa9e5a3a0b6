package auth

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/e27efefb/sluice/internal/logtest"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// clock is a clock that stands until it is moved.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Now()} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// logger writes to a log that a test reads.
func logger(b *logtest.Buffer) *slog.Logger { return slog.New(slog.NewTextHandler(b, nil)) }

func put(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func file(t *testing.T, content string) string {
	t.Helper()
	return put(t, filepath.Join(t.TempDir(), "file"), content)
}

func must[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// wantKind fails unless err is of the kind and its text holds each part.
func wantKind(t *testing.T, err error, k transfer.Kind, parts ...string) {
	t.Helper()
	if transfer.KindOf(err) != k {
		t.Fatalf("error %v is of kind %v, want %v", err, transfer.KindOf(err), k)
	}
	for _, p := range parts {
		if all := err.Error() + " | " + transfer.HintOf(err); !strings.Contains(all, p) {
			t.Errorf("error %q does not say %q", all, p)
		}
	}
}

func wantUnauthenticated(t *testing.T, err error, parts ...string) {
	t.Helper()
	wantKind(t, err, transfer.Denied, parts...)
	if !errors.Is(err, ErrUnauthenticated) {
		t.Fatalf("error %v is not ErrUnauthenticated", err)
	}
}

func newToken(t *testing.T, p Principal, expires time.Time) (secret, line string) {
	t.Helper()
	secret, line, err := NewToken(p, expires)
	if err != nil {
		t.Fatal(err)
	}
	return secret, line
}
