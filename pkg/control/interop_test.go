//go:build interop

package control

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/e27efefb/sluice/pkg/recv"
	"github.com/e27efefb/sluice/pkg/store"
)

// TestPythonExample sends files with examples/python/send_one.py into a real
// receiver. It needs python3-grpcio, python3-protobuf and b3sum.
func TestPythonExample(t *testing.T) {
	dir, from := t.TempDir(), t.TempDir()
	st, err := store.Open(store.Config{Root: dir})
	if err != nil {
		t.Fatal(err)
	}
	lanes, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(lanes.Addr().String())
	engine, err := recv.New(recv.Config{Store: st, DataAddrs: func() []string { return []string{":" + port} }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- engine.ServeLanes(ctx, lanes) }()
	s := serve(t, ServerConfig{}, ReceiverConfig{View: ReceiverView(engine)}, time.Second)
	defer func() {
		s.stop()
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		engine.Close()
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	}()
	python := func(file string) (string, error) {
		out, err := exec.CommandContext(within(t), "/usr/bin/python3", "../../examples/python/send_one.py", s.addr, file).CombinedOutput()
		return string(out), err
	}
	for name, size := range map[string]int{"empty": 0, "small ü.txt": 6, "chunks": 5<<20 + 1} {
		content := bytes.Repeat([]byte("sluice"), size/6+1)[:size]
		file := filepath.Join(from, name)
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := python(file); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
			continue
		}
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s: %d octets arrived, %v", name, len(got), err)
		}
	}
	if out, err := python(filepath.Join(from, "chunks")); err == nil {
		t.Errorf("a taken name was accepted: %s", out)
	} else if !bytes.Contains([]byte(out), []byte("taken")) && !bytes.Contains([]byte(out), []byte("exists")) && !bytes.Contains([]byte(out), []byte("is there")) {
		t.Errorf("the refusal does not say why: %s", out)
	}
}
