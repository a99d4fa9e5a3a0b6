//go:build interop

package control

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestPythonExample sends files with examples/python/send_one.py into a real
// receiver. It needs python3-grpcio, python3-protobuf and b3sum.
func TestPythonExample(t *testing.T) {
	engine, dir := realEngine(t)
	from := t.TempDir()
	s := serve(t, ServerConfig{}, ReceiverConfig{View: ReceiverView(engine)}, time.Second)
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
