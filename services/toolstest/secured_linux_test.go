package toolstest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// secured is a receiver that speaks TLS and knows callers by token, and the flags
// with which alice reaches it.
func secured(t *testing.T, flags ...string) (r *receiver, alice []string) {
	t.Helper()
	dir := t.TempDir()
	for _, args := range [][]string{
		{"receiver", "cert", "keys"},
		{"receiver", "token", "alice", "--tokens", "tokens", "--out", "alice.token"},
	} {
		if run := startIn(t, dir, nil, args...); run.wait(t) != 0 {
			t.Fatalf("%v: %s", args, run.out)
		}
	}
	key := func(name string) string { return filepath.Join("keys", name) }
	r = startReceiverIn(t, dir, append([]string{"--tls-cert", key("server.pem"), "--tls-key", key("server-key.pem"), "--tokens", "tokens"}, flags...)...)
	return r, []string{"--tls-ca", key("ca.pem"), "--token-file", "alice.token"}
}

// run runs a command to its end.
func (r *receiver) run(t *testing.T, code int, args ...string) string {
	t.Helper()
	run := r.start(t, args...)
	if got := run.wait(t); got != code {
		t.Errorf("%v: exit code %d, want %d", args, got, code)
	}
	return run.out.String()
}

// TestToolsOverTLS runs each tool against a receiver with TLS and tokens: by one
// whom it knows, by one whom it does not know, and by one who forgot TLS.
func TestToolsOverTLS(t *testing.T) {
	t.Parallel()
	r, alice := secured(t)
	with := func(args ...string) []string { return append(args, alice...) }
	stranger := []string{"--tls-ca", filepath.Join("keys", "ca.pem")}

	t.Run("doctor", func(t *testing.T) {
		out := r.run(t, 0, with("sender", "doctor", "127.0.0.1:7400")...)
		for _, want := range []string{`TLS and identity`, "by TLS, as alice", "lanes by TLS", "free for transfers", "failures: 0"} {
			if !strings.Contains(out, want) {
				t.Errorf("no %q in\n%s", want, out)
			}
		}
		var report struct {
			Checks []struct{ Name, Status string } `json:"checks"`
		}
		text := r.run(t, 0, with("sender", "doctor", "127.0.0.1:7400", "--json")...)
		if err := json.Unmarshal([]byte(text), &report); err != nil || len(report.Checks) != 9 {
			t.Errorf("%d checks, %v in %s", len(report.Checks), err, text)
		}
		out = r.run(t, 1, append([]string{"sender", "doctor", "127.0.0.1:7400"}, stranger...)...)
		if !strings.Contains(out, "failure  TLS and identity") || !strings.Contains(out, "--token-file") {
			t.Errorf("a stranger hears\n%s", out)
		}
		out = r.run(t, 1, "sender", "doctor", "127.0.0.1:7400")
		if !strings.Contains(out, "failure  TLS and identity") || !strings.Contains(out, "--tls-ca") {
			t.Errorf("one without TLS hears\n%s", out)
		}
	})
	t.Run("compare", func(t *testing.T) {
		out := r.run(t, 0, with("sender", "compare", "127.0.0.1:7400", "--for", "0.5", "--most", "16MiB")...)
		if strings.Contains(out, "not measured") || !strings.Contains(out, "Files: TCP.") {
			t.Errorf("%s", out)
		}
		out = r.run(t, 3, append([]string{"sender", "compare", "127.0.0.1:7400", "--for", "0.5", "--most", "16MiB"}, stranger...)...)
		if !strings.Contains(out, "--token-file") {
			t.Errorf("a stranger hears\n%s", out)
		}
	})
	t.Run("connections", func(t *testing.T) {
		out := r.run(t, 0, with("sender", "connections", "--to", "127.0.0.1:7400")...)
		if !strings.Contains(out, "ESTABLISHED") || strings.Contains(out, "note:") {
			t.Errorf("%s", out)
		}
		out = r.run(t, 0, with("receiver", "connections", "--at", "127.0.0.1:7400")...)
		if strings.Count(out, "LISTEN") != 3 || strings.Contains(out, "ESTABLISHED") { // the control connections are nobody's transfer
			t.Errorf("%s", out)
		}
		out = r.run(t, 0, append([]string{"sender", "connections", "--to", "127.0.0.1:7400"}, stranger...)...)
		if !strings.Contains(out, "note:") {
			t.Errorf("a stranger hears\n%s", out)
		}
	})
	t.Run("ping", func(t *testing.T) {
		ping := []string{"sender", "ping", "127.0.0.1:7402", "-c", "2", "-i", "0.05", "-W", "30", "--auth", "--control", "127.0.0.1:7400"}
		if out := r.run(t, 0, with(ping...)...); !strings.Contains(out, "2 received") {
			t.Errorf("%s", out)
		}
		// The receiver names its reflector, whose port nobody could guess here. A host
		// that is given stays.
		for _, args := range [][]string{{"--control", "127.0.0.1:7400"}, {"127.0.0.1", "--control", "127.0.0.1:7400"}} {
			out := r.run(t, 0, with(append([]string{"sender", "ping", "-c", "2", "-i", "0.05", "-W", "30"}, args...)...)...)
			if !strings.Contains(out, "2 received") || !strings.Contains(out, "ping "+r.ports["127.0.0.1:7402"]+" by STAMP (RFC 8762), authenticated") {
				t.Errorf("%v: %s", args, out)
			}
		}
		if out := r.run(t, 2, "sender", "ping"); !strings.Contains(out, "--control") {
			t.Errorf("%s", out)
		}
		if out := r.run(t, 3, append(ping, stranger...)...); !strings.Contains(out, "--token-file") {
			t.Errorf("a stranger hears\n%s", out)
		}
	})
	left, err := os.ReadDir(filepath.Join(r.dir, "inbox"))
	if err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
