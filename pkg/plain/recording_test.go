package plain_test

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/e27efefb/sluice/pkg/plain"
)

// With -update the recording in docs/plain.md is written anew.
var update = flag.Bool("update", false, "rewrite the recordings in docs/")

const recordingDoc = "../../docs/plain.md"

// TestRecordedConversations holds the conversations that the documentation
// shows, with a running server.
func TestRecordedConversations(t *testing.T) {
	r := start(t, plain.ServerConfig{MaxSize: 20})
	// The wide gap gives a client on a loaded machine the time to close.
	patient := start(t, plain.ServerConfig{NameGap: patience})
	var out strings.Builder
	hold := func(r *running, what string, steps ...string) {
		fmt.Fprintf(&out, "# %s\n", what)
		c := dial(t, r.addr)
		told := func() {
			said, err := io.ReadAll(c)
			if len(said) > 0 {
				fmt.Fprintf(&out, "server  %q\n", said)
			}
			switch {
			case err == nil:
				fmt.Fprintf(&out, "server  FIN\n")
			case !errors.Is(err, syscall.ECONNRESET):
				t.Fatal(err)
			}
		}
		for _, step := range steps {
			switch step {
			case "ok":
				fmt.Fprintf(&out, "server  %q\n", answer(t, c, 2))
			case "FIN":
				fmt.Fprintf(&out, "client  FIN\n")
				_ = c.CloseWrite()
			case "RST":
				fmt.Fprintf(&out, "client  RST\n")
				_ = c.SetLinger(0)
				_ = c.Close()
			case "end":
				told()
			default:
				fmt.Fprintf(&out, "client  %q\n", step)
				write(t, c, step)
			}
		}
		_ = c.Close()
		switch o := r.outcome(t); o.Err {
		case nil:
			fmt.Fprintf(&out, "        published %s, %d bytes, length undeclared\n\n", o.Receipt.Name, o.Receipt.Size)
		default:
			fmt.Fprintf(&out, "        nothing published\n\n")
		}
	}
	hold(r, "a file", "hello.txt", "ok", "hello, world", "FIN", "end")
	hold(r, "an empty file", "empty.txt", "ok", "FIN", "end")
	hold(r, "a second file of the same name, where the policy is to fail", "hello.txt", "end")
	hold(r, "a path", "../etc/passwd", "end")
	hold(r, "name and content without waiting", "a.txtline one\nline two\n", "end")
	hold(patient, "name and content without waiting, and closed", "a.txthello", "FIN", "end")
	hold(r, "more than the limit, 20 bytes here", "big.bin", "ok", "twenty bytes and some more", "end")
	hold(r, "given up in mid-file", "cut.bin", "ok", "half of it", "RST")

	page, err := os.ReadFile(recordingDoc)
	if err != nil {
		t.Fatal(err)
	}
	const open, shut = "<!-- recording: pkg/plain -update -->\n```\n", "```\n<!-- end of recording -->"
	before, rest, ok1 := strings.Cut(string(page), open)
	old, after, ok2 := strings.Cut(rest, shut)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no marks of a recording", recordingDoc)
	}
	now := strings.TrimSuffix(out.String(), "\n")
	if *update {
		if err := os.WriteFile(recordingDoc, []byte(before+open+now+shut+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if old != now {
		t.Errorf("%s shows\n%s\nnow:\n%s", recordingDoc, old, now)
	}
}
