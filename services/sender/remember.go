package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// keepRemembered is how long an unfinished transfer is remembered: past the
// receiver's default of 24 h for partials there is nothing left to resume, and
// a receiver may keep them for longer.
const keepRemembered = 7 * 24 * time.Hour

// memory is the remembered id of one command, so that the same command resumes
// its transfer. It is locked while the command runs and removed at the receipt.
type memory struct {
	ID      transfer.ID `json:"id"`
	Created time.Time   `json:"created"`
	Command []string    `json:"command"` // what was sent where, for people who look

	path   string
	unlock func()
}

// stateDir is $XDG_STATE_HOME/sluice (XDG Base Directory Specification), or
// ~/.local/state/sluice.
func stateDir() (string, error) {
	if d := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "sluice"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(home, ".local", "state", "sluice"), nil
}

// recall returns the memory of the command that key describes, made if there is
// none. A command that is running already, and a state directory that cannot be
// written, give a memory that is not kept: the transfer gets an id of its own.
func recall(key []string, now time.Time) (*memory, error) {
	fresh := &memory{ID: transfer.NewID(), Created: now, Command: key, unlock: func() {}}
	dir, err := stateDir()
	if err != nil {
		return fresh, err
	}
	dir = filepath.Join(dir, "sends")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fresh, fmt.Errorf("remember transfer: %w", err)
	}
	forgetOld(dir, now)
	text, _ := json.Marshal(key)
	sum := sha256.Sum256(text)
	path := filepath.Join(dir, hex.EncodeToString(sum[:16])+".json")
	unlock, err := lockFile(path + ".lock")
	if err != nil {
		return fresh, fmt.Errorf("remember transfer: %w", err)
	}
	m := *fresh
	if b, err := os.ReadFile(path); err == nil {
		var old memory
		if json.Unmarshal(b, &old) == nil && !old.ID.IsZero() {
			m = old
		}
	}
	m.path, m.unlock = path, unlock
	return &m, m.save()
}

func (m *memory) save() error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	tmp := m.path + ".new"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return fmt.Errorf("remember transfer: %w", err)
	}
	return os.Rename(tmp, m.path)
}

// forget removes the memory: the transfer is done or cannot be resumed.
func (m *memory) forget() {
	if m.path != "" {
		_ = os.Remove(m.path)
		_ = os.Remove(m.path + ".lock")
	}
}

// kept reports whether the same command will find the id again.
func (m *memory) kept() bool { return m.path != "" }

func (m *memory) close() { m.unlock() }

func forgetOld(dir string, now time.Time) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && now.Sub(info.ModTime()) > keepRemembered {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

var errLocked = errors.New("the same command is running")

// lockFile makes path and locks it for this process.
func lockFile(path string) (func(), error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := tryLock(f); err != nil {
		_ = f.Close()
		if errors.Is(err, fs.ErrExist) {
			return nil, errLocked
		}
		return nil, err
	}
	return func() { _ = f.Close() }, nil
}
