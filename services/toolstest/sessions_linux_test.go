package toolstest

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestPing(t *testing.T) {
	t.Parallel()
	r := record(t)
	r.run(0, "", "sender", "ping", "127.0.0.1:7402", "-c", "3", "-i", "0.1", "-W", "30")
	r.run(0, "", "sender", "ping", "127.0.0.1:7402", "-c", "3", "-i", "0.1", "-W", "30", "--auth", "--control", "127.0.0.1:7400")
	r.run(2, "", "sender", "ping", "127.0.0.1:7402", "-i", "0.0001")
	r.check("ping.md", numbers)
}

// A closed UDP port is not in the recording: nothing keeps a port closed that
// another program may open at any time, so its address cannot be written down.
func TestPingUnreachable(t *testing.T) {
	t.Parallel()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() // it is open and silent
	run := startIn(t, t.TempDir(), nil, "sender", "ping", conn.LocalAddr().String(), "-c", "1", "-W", "0.1", "--json")
	if code := run.wait(t); code != 4 {
		t.Errorf("exit code %d, want 4", code)
	}
	for _, want := range []string{`{"event":"sent"`, `{"event":"lost"`, `{"event":"summary"`, `{"event":"error","kind":"unavailable"`} {
		if !strings.Contains(run.out.String(), want) {
			t.Errorf("no %s in\n%s", want, run.out)
		}
	}
}

// Interrupted, a ping still says what it found.
func TestPingInterrupted(t *testing.T) {
	t.Parallel()
	r := startReceiver(t)
	run := r.start(t, "sender", "ping", "127.0.0.1:7402", "-i", "0.05", "-W", "30")
	run.out.await(t, "seq=1 ")
	if code := run.interrupt(t); code != 0 || !strings.Contains(run.out.String(), "\nround trip ") {
		t.Errorf("exit code %d\n%s", code, run.out)
	}
}

func TestUDP(t *testing.T) {
	t.Parallel()
	r := record(t)
	r.run(0, "one\ntwo\n", "sender", "udp", "127.0.0.1:8002", "--count", "2", "--timeout", "30s")
	r.check("udp.md", numbers)
}

func TestPlain(t *testing.T) {
	t.Parallel()
	r := record(t)
	r.file("hello.txt", "hello, world\n")
	r.run(0, "", "sender", "send", "hello.txt", "--plain", "127.0.0.1:8001")
	r.run(3, "", "sender", "send", "hello.txt", "--plain", "127.0.0.1:8001")
	r.run(2, "", "sender", "send", "hello.txt", "--plain", "127.0.0.1:8001", "--into", "reports")
	r.run(0, "", "receiver", "transfers", "list", "--at", "127.0.0.1:7400", "--state", "committed")
	got, err := os.ReadFile(filepath.Join(r.r.dir, "inbox", "hello.txt"))
	if err != nil || string(got) != "hello, world\n" {
		t.Errorf("published %q, %v", got, err)
	}
	// The client's port makes the column wider or narrower.
	r.check("plain.md", numbers)
}

func TestDoctor(t *testing.T) {
	t.Parallel()
	r := record(t)
	r.run(0, "", "sender", "doctor", "127.0.0.1:7400")
	// What a check finds depends on the machine; that none fails and which there
	// are does not.
	line := regexp.MustCompile(`(?m)^(ok|warning) +`)
	advice := regexp.MustCompile(`(?m)^ .*\n`)
	r.check("doctor.md", func(text string) string {
		text, summary, _ := strings.Cut(text, "127.0.0.1:7400: ")
		_, failures, _ := strings.Cut(summary, "failures")
		return columns(line.ReplaceAllString(advice.ReplaceAllString(text, ""), "judged  "), 2) + failures
	})
}

// A receiver that is not there is a failure, and the doctor says so by its code.
func TestDoctorFails(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_ = c.Close() // whatever this is, it is no receiver
		}
	}()
	run := startIn(t, t.TempDir(), nil, "sender", "doctor", ln.Addr().String(), "--ping", ln.Addr().String())
	if code := run.wait(t); code != 1 || !strings.Contains(run.out.String(), "failure  TLS and identity") {
		t.Errorf("exit code %d\n%s", code, run.out)
	}
}

func TestCompare(t *testing.T) {
	t.Parallel()
	r := record(t)
	r.run(0, "", "sender", "compare", "127.0.0.1:7400", "--for", "2", "--most", "64MiB")
	// Figures and the sentences drawn from them differ; the rows do not.
	r.check("compare.md", func(text string) string {
		table, advice, _ := strings.Cut(text, "\n\n")
		rows := columns(table, 1)
		if strings.Contains(rows, "not measured") || strings.Contains(table, "  - ") || !strings.Contains(advice, "Files: TCP.") {
			return text
		}
		return rows
	})
	// Nothing is left behind but a line in the list.
	left, err := filepath.Glob(filepath.Join(r.r.dir, "inbox", "*compare*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	run := r.r.start(t, "receiver", "transfers", "list", "--at", "127.0.0.1:7400")
	if code := run.wait(t); code != 0 || strings.Count(run.out.String(), "aborted") != 1 || strings.Contains(run.out.String(), "open") {
		t.Errorf("exit code %d\n%s", code, run.out)
	}
}
