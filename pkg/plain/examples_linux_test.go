package plain_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zeebo/xxh3"
	"golang.org/x/sys/unix"

	"github.com/e27efefb/sluice/pkg/plain"
)

const big = 1 << 30

var exampleSizes = []int64{0, 1, 4095, 4096, 4097, big}

// buildExample builds examples/plain/which.
func buildExample(t *testing.T, which string) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), which)
	out, err := exec.Command("go", "build", "-o", bin, "../../examples/plain/"+which).CombinedOutput()
	if err != nil {
		t.Fatalf("build the example %s: %v\n%s", which, err, out)
	}
	return bin
}

// sample makes a file with random islands, sparse in between, and returns its
// path and digest.
func sample(t *testing.T, dir string, size int64) (path, digest string) {
	t.Helper()
	path = filepath.Join(dir, fmt.Sprintf("sample-%d.bin", size))
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	var seed [32]byte
	random := rand.NewChaCha8(seed)
	island := make([]byte, 4097)
	for at := int64(0); at < size; at += 100_000_007 {
		_, _ = random.Read(island)
		if _, err := f.WriteAt(island[:min(int64(len(island)), size-at)], at); err != nil {
			t.Fatal(err)
		}
	}
	return path, digestOf(t, f)
}

func digestOf(t *testing.T, r io.Reader) string {
	t.Helper()
	h := xxh3.New128()
	if _, err := io.CopyBuffer(h, r, make([]byte, 256<<10)); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// TestExamples shares the samples between both directions.
func TestExamples(t *testing.T) {
	var samples []sampleFile
	dir := t.TempDir()
	for _, size := range exampleSizes {
		path, digest := sample(t, dir, size)
		samples = append(samples, sampleFile{path, digest, size})
	}
	t.Run("client to our server", func(t *testing.T) { exampleClient(t, samples) })
	t.Run("our client to server", func(t *testing.T) { exampleServer(t, samples) })
}

type sampleFile struct {
	path, digest string
	size         int64
}

// exampleClient: the client written from the notes sends to our server, also through a proxy
// that cuts its name into two segments.
func exampleClient(t *testing.T, samples []sampleFile) {
	bin := buildExample(t, "client")
	r := start(t, plain.ServerConfig{})
	for _, s := range samples {
		path, digest, size := s.path, s.digest, s.size
		if out, err := exec.Command(bin, r.addr, path).CombinedOutput(); err != nil {
			t.Fatalf("%d bytes: %v\n%s", size, err, out)
		}
		// The client closes at once; the receiver publishes after that.
		if o := r.outcome(t); o.Err != nil {
			t.Fatalf("%d bytes: %v", size, o.Err)
		}
		if f, ok := r.store.get(filepath.Base(path)); !ok || f.size != size || f.digest != digest {
			t.Errorf("%d bytes: published %v, %d bytes, equal %v", size, ok, f.size, f.digest == digest)
		}
	}
	// The wide gap keeps a loaded machine from cutting the name in two.
	patient := start(t, plain.ServerConfig{NameGap: 2 * time.Second})
	path, digest := sample(t, t.TempDir(), 4098)
	if out, err := exec.Command(bin, splitter(t, patient.addr), path).CombinedOutput(); err != nil {
		t.Fatalf("name in two segments: %v\n%s", err, out)
	}
	if o := patient.outcome(t); o.Err != nil {
		t.Fatalf("name in two segments: %v", o.Err)
	}
	if f, ok := patient.store.get(filepath.Base(path)); !ok || f.digest != digest {
		t.Errorf("name in two segments: published %v, equal %v", ok, f.digest == digest)
	}
	out, err := exec.Command(bin, patient.addr, path).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "error: ") {
		t.Errorf("a second file of the same name: %v, %s", err, out)
	}
}

// splitter forwards one connection to addr, the first message in two segments.
func splitter(t *testing.T, addr string) string {
	t.Helper()
	listen, _ := fakeServer(t, func(client *net.TCPConn) {
		server, err := net.Dial("tcp", addr)
		if err != nil {
			t.Error(err)
			return
		}
		defer server.Close()
		name := readName(client)
		_, _ = io.WriteString(server, name[:len(name)/2])
		time.Sleep(10 * time.Millisecond) // makes two segments, asserts nothing
		_, _ = io.WriteString(server, name[len(name)/2:])
		back := make(chan struct{})
		go func() { defer close(back); _, _ = io.Copy(client, server) }()
		_, _ = io.Copy(server, client)
		_ = server.(*net.TCPConn).CloseWrite()
		<-back
	})
	return listen
}

// exampleServer: we send to the server written from the notes.
func exampleServer(t *testing.T, samples []sampleFile) {
	bin := buildExample(t, "server")
	inbox := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, bin, "127.0.0.1:0", inbox)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = cmd.Wait() })
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	addr := strings.TrimSpace(strings.TrimPrefix(line, "listening on "))

	for _, s := range samples {
		path, digest, size := s.path, s.digest, s.size
		at := filepath.Join(inbox, filepath.Base(path))
		got := make(chan string, 1)
		if size == big {
			// The server opens what is there: a named pipe spares the disk a GiB.
			if err := unix.Mkfifo(at, 0o600); err != nil {
				t.Fatal(err)
			}
			go func() { got <- readPipe(at) }()
		}
		sent, err := plain.Send(t.Context(), addr, path, plain.SendConfig{})
		if err != nil || sent.Bytes != size {
			t.Fatalf("%d bytes: %+v, %v", size, sent, err)
		}
		if size != big {
			got <- readPipe(at)
		}
		if d := <-got; d != digest {
			t.Errorf("%d bytes: digest %s, want %s", size, d, digest)
		}
	}
}

// readPipe returns the digest of a file or named pipe, or what went wrong.
func readPipe(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	h := xxh3.New128()
	if _, err := io.CopyBuffer(h, f, make([]byte, 256<<10)); err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}
