package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"go.uber.org/goleak"

	"github.com/e27efefb/sluice/pkg/transfer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestBytesAndRates(t *testing.T) {
	for s, want := range map[string]Bytes{"0": 0, "512": 512, "64KiB": 65536, "1.5GiB": 3 << 29, "2GB": 2e9, "1m": 1 << 20, "3 MiB": 3 << 20} {
		var b Bytes
		if err := b.UnmarshalText([]byte(s)); err != nil || b != want {
			t.Errorf("%q = %d, %v; want %d", s, int64(b), err, int64(want))
		}
		text, _ := b.MarshalText()
		var back Bytes
		if back.UnmarshalText(text) != nil || back != b {
			t.Errorf("%q does not round-trip as %s", s, text)
		}
	}
	for s, want := range map[string]Rate{"10MiB/s": 10 << 20, "1000": 1000, "400Mbit/s": 50e6, "400Mbit": 50e6, "8bit/s": 1, "8Kibit/s": 1024} {
		var r Rate
		if err := r.UnmarshalText([]byte(s)); err != nil || r != want {
			t.Errorf("%q = %d, %v; want %d", s, int64(r), err, int64(want))
		}
	}
	for _, s := range []string{"", "x", "-1", "5 apples", "1e9TB", "9999999TiB"} {
		if _, err := ParseBytes(s); err == nil {
			t.Errorf("%q is a size", s)
		}
	}
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1536: "1.5 KiB", 1 << 30: "1 GiB", -1: "unknown", 1023 << 20: "0.999 GiB"} {
		if got := Size(n); got != want {
			t.Errorf("Size(%d) = %q, want %q", n, got, want)
		}
	}
	if got := Duration(61500 * time.Millisecond); got != "1m2s" {
		t.Error(got)
	}
}

func TestExitCodes(t *testing.T) {
	for kind, want := range map[transfer.Kind]int{
		transfer.Internal: 1, transfer.Invalid: 3, transfer.NotFound: 3, transfer.Exists: 3, transfer.Denied: 3, transfer.NoSpace: 3,
		transfer.Busy: 3, transfer.Fenced: 3, transfer.Unavailable: 4, transfer.Corrupt: 5, transfer.Changed: 6, transfer.Canceled: 130,
	} {
		if got := ExitCode(fmt.Errorf("x: %w", transfer.Errorf(kind, "", "", "x"))); got != want {
			t.Errorf("%v: exit %d, want %d", kind, got, want)
		}
	}
	for err, want := range map[error]int{nil: 0, Usagef("x"): 2, context.Canceled: 130, Code(7): 7, errors.New("x"): 1, context.DeadlineExceeded: 4} { // keys, not comparisons
		if got := ExitCode(err); got != want {
			t.Errorf("%v: exit %d, want %d", err, got, want)
		}
	}
}

func TestFail(t *testing.T) {
	e := transfer.Errorf(transfer.Invalid, "offer files", "", "25 names are refused").WithHint("rename them")
	for i := range 25 {
		e.Problems = append(e.Problems, transfer.Problem{Path: fmt.Sprintf("a\x1b%d", i), Kind: transfer.Invalid, Reason: "the name has a control character"})
	}
	var b bytes.Buffer
	if code := Fail(&b, "sender", e, false); code != 3 {
		t.Errorf("exit %d", code)
	}
	out := b.String()
	for _, want := range []string{"sender: offer files: 25 names are refused\n", `"a\x1b0"`, "… and 5 more", "hint: rename them\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q lacks %q", out, want)
		}
	}
	if strings.Contains(out, "\x1b") {
		t.Error("an escape reached the terminal")
	}
	b.Reset()
	Fail(&b, "sender", e, true)
	if !strings.HasPrefix(b.String(), `{"event":"error","kind":"invalid","message":"offer files: 25 names are refused","hint":"rename them","exit_code":3,"problems":[`) {
		t.Error(b.String())
	}
}

// What a message names already is not listed once more.
func TestFailOnce(t *testing.T) {
	e := transfer.Errorf(transfer.Exists, "take offer", "a.txt", "the name is taken")
	e.Problems = []transfer.Problem{{Path: "a.txt", Kind: transfer.Exists, Reason: "the name is taken"}}
	var b bytes.Buffer
	Fail(&b, "sender", e, false)
	if got := b.String(); strings.Count(got, "the name is taken") != 1 || !strings.HasPrefix(got, "sender: take offer a.txt: the name is taken\nhint: ") {
		t.Errorf("%q", got)
	}
}

func TestTable(t *testing.T) {
	columns := []Column{{Head: "ID"}, {Head: "NAME", Min: 5}, {Head: "AGE", Drop: 1}, {Head: "X", Drop: 2}}
	rows := [][]string{{"1", "ü", "3s", "long"}, {"12345", "a/long/name", "12m", ""}}
	for width, want := range map[int]string{
		// Columns go, the highest of Drop first, and only then a name is cut, to
		// what is left for it; the id is whole even where nothing can help.
		80: "ID     NAME         AGE  X\n1      ü            3s   long\n12345  a/long/name  12m  \n",
		29: "ID     NAME         AGE  X\n1      ü            3s   long\n12345  a/long/name  12m  \n",
		28: "ID     NAME        AGE  X\n1      ü           3s   long\n12345  …long/name  12m  \n",
		23: "ID     NAME   AGE  X\n1      ü      3s   long\n12345  …name  12m  \n",
		22: "ID     NAME        AGE\n1      ü           3s\n12345  …long/name  12m\n",
		16: "ID     NAME\n1      ü\n12345  …ong/name\n",
		3:  "ID     NAME\n1      ü\n12345  …name\n",
	} {
		var b bytes.Buffer
		if err := Table(&b, width, columns, rows); err != nil || b.String() != want {
			t.Errorf("%d columns: %v\n%s\nwant\n%s", width, err, b.String(), want)
		}
	}
}

// TestWidth: the variable wins, and nonsense in it does not count.
func TestWidth(t *testing.T) {
	for columns, want := range map[string]int{"": unlimited, "132": 132, "0": unlimited, "-5": unlimited, "wide": unlimited} {
		t.Setenv("COLUMNS", columns)
		if got := Width(&bytes.Buffer{}); got != want {
			t.Errorf("COLUMNS=%q: %d columns, want %d", columns, got, want)
		}
	}
}

// TestParseBuildsWhatIsNeeded sees that a command is read as if all others had been
// built beside it, and that what is no command still meets all of them.
func TestParseBuildsWhatIsNeeded(t *testing.T) {
	type command struct {
		N int `default:"3"`
	}
	type grammar struct {
		PublicKey   command          `cmd:""`
		Token       command          `cmd:""`
		ShowVersion kong.VersionFlag `name:"version"`
	}
	var g grammar
	ctx, _, err := Parse(&g, "receiver", "", []string{"public-key", "--n", "5"}, io.Discard, io.Discard)
	if err != nil || g.PublicKey.N != 5 || g.Token.N != 0 {
		t.Errorf("read %+v, %v, want 5 for public-key and nothing for token", g, err)
	}
	if got := ctx.Selected().Target.Interface(); got != (command{5}) {
		t.Errorf("the selected command is %+v, want what was read", got)
	}
	for args, want := range map[string]string{
		"publickey":        "publickey",
		"tokn":             `did you mean "token"`,
		"--bad token":      "unknown flag --bad",
		"token public-key": "unexpected argument public-key",
	} {
		if _, _, err := Parse(&g, "receiver", "", strings.Fields(args), io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", args, err, want)
		}
	}
	var out strings.Builder
	if _, done, err := Parse(&g, "receiver", "", []string{"--version"}, &out, io.Discard); !done || err != nil || strings.TrimSpace(out.String()) != Version() {
		t.Errorf("--version said %q, %v", out.String(), err)
	}
}
