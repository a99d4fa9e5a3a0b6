package transfer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParsePath(t *testing.T) {
	good := []string{"a", "a/b", "a b", "ünï/日本", "..a", "a..", "...", ".hidden", "a\\b", "CON", "x.", "-rf", strings.Repeat("a", 255), "a/.sluice"}
	for _, s := range good {
		if _, err := ParsePath(s, Posix); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
	bad := []string{
		"", "/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/./b", "./a", "a\x00b", "a\nb", "a\x1b[31m", "\xff", "a\u202eb", "a\u2066b", "a\u200fb",
		".sluice", ".sluice/x", ".SLUICE/x", strings.Repeat("a", 256), strings.Repeat("abc/", 1024) + "a", "a\u0085b", "a\u2028b",
	}
	for _, s := range bad {
		if _, err := ParsePath(s, Posix); KindOf(err) != Invalid {
			t.Errorf("%q: %v, want invalid", s, err)
		}
	}
	for _, s := range []string{"CON", "con.txt", "a/NUL.tar.gz", "COM1", "lpt9.x", "a\\b", "a:b", "x.", "x ", "a?b", "COM¹"} {
		if _, err := ParsePath(s, Portable); KindOf(err) != Invalid {
			t.Errorf("portable %q: %v, want invalid", s, err)
		}
	}
	for _, s := range []string{"CONSOLE", "COM", "COM10", "a/b.txt", "日本"} {
		if _, err := ParsePath(s, Portable); err != nil {
			t.Errorf("portable %q: %v", s, err)
		}
	}
}

func FuzzParsePath(f *testing.F) {
	f.Add("a/b", false)
	f.Fuzz(func(t *testing.T, s string, portable bool) {
		names := Posix
		if portable {
			names = Portable
		}
		p, err := ParsePath(s, names)
		if err != nil {
			if KindOf(err) != Invalid || strings.ContainsAny(err.Error(), "\x00\x1b\n") {
				t.Errorf("%q: error %q", s, err)
			}
			return
		}
		if strings.HasPrefix(s, "/") || strings.Contains("/"+s+"/", "/../") || strings.ContainsAny(s, "\x00\n\x1b\x7f") || p.Base() == "" {
			t.Errorf("%q was accepted", s)
		}
	})
}

func TestCorpusIsThere(t *testing.T) {
	files, err := os.ReadDir("testdata/fuzz/FuzzParsePath")
	if err != nil || len(files) == 0 {
		t.Errorf("no checked-in corpus: %v", err)
	}
}

func TestFoldKey(t *testing.T) {
	if FoldKey("Straße/É") != FoldKey("STRASSE/e\u0301") {
		t.Errorf("%q and %q differ", FoldKey("Straße/É"), FoldKey("STRASSE/e\u0301"))
	}
	if FoldKey("a") == FoldKey("b") {
		t.Error("a and b collide")
	}
}

func TestChunkSizes(t *testing.T) {
	const g = 1 << 30
	for _, tt := range []struct{ size, want int64 }{
		{UnknownSize, 1 << 20},
		{0, 1 << 20},
		{g, 1 << 20},
		{g + 1, 2 << 20},
		{2 * g, 2 << 20},
		{2*g + 1, 4 << 20},
		{4*g + 1, 8 << 20},
		{8 * g, 8 << 20},
		{8*g + 1, 16 << 20},
		{1 << 50, 16 << 20},
	} {
		if got := ChunkSizeFor(tt.size); got != tt.want || !ValidChunkSize(got) {
			t.Errorf("ChunkSizeFor(%d) = %d, want %d", tt.size, got, tt.want)
		}
	}
	if n := Chunks(MaxFileSize, MaxChunkSize); int64(n) != MaxFileSize/MaxChunkSize {
		t.Errorf("%d chunks", n)
	}
}

func TestHeldProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bits := rapid.SliceOfN(rapid.Bool(), 1, 200).Draw(t, "bits")
		size := int64(len(bits))*MinChunkSize - rapid.Int64Range(0, MinChunkSize-1).Draw(t, "short")
		var h Held
		var bytes int64
		var count uint64
		for i, b := range bits {
			if b {
				h = h.Add(uint32(i))
				bytes += ChunkLen(size, MinChunkSize, uint32(i))
				count++
			}
		}
		if err := h.Validate(uint32(len(bits))); err != nil {
			t.Fatal(err)
		}
		for i, b := range bits {
			if h.Has(uint32(i)) != b {
				t.Fatalf("Has(%d) = %v", i, !b)
			}
		}
		if h.Count() != count || h.Bytes(size, MinChunkSize) != bytes {
			t.Fatalf("count %d bytes %d, want %d, %d", h.Count(), h.Bytes(size, MinChunkSize), count, bytes)
		}
	})
	for _, bad := range []Held{{{0, 0}}, {{0, 1}, {1, 1}}, {{5, 1}, {2, 1}}, {{0, 11}}} {
		if bad.Validate(10) == nil {
			t.Errorf("%v is valid", bad)
		}
	}
}

func TestIDs(t *testing.T) {
	id := NewID()
	got, err := ParseID(id.String())
	if err != nil || got != id {
		t.Errorf("%v, %v", got, err)
	}
	for _, s := range []string{"", "x", "00000000-0000-0000-0000-000000000000", "urn:uuid:" + id.String(), "c2f6f1d8-8f5e-4d4e-9f53-0b7a6a3e6f00"} {
		if _, err := ParseID(s); KindOf(err) != Invalid {
			t.Errorf("%q: %v", s, err)
		}
	}
	token := NewToken()
	if s := fmt.Sprint(token); s != "token(hidden)" {
		t.Errorf("token prints as %s", s)
	}
}

func TestDigestText(t *testing.T) {
	for _, s := range []string{"", "none", "xxh3:" + strings.Repeat("0a", 16), "sha256:" + strings.Repeat("ff", 32), "blake3:" + strings.Repeat("01", 32)} {
		d, err := ParseDigest(s)
		if err != nil || d.String() != s || d.Validate() != nil {
			t.Errorf("%q: %v, %v", s, d, err)
		}
	}
	for _, s := range []string{"md5:00", "sha256:00", "blake3", "none:00", "blake3:" + strings.Repeat("zz", 32)} {
		if _, err := ParseDigest(s); KindOf(err) != Invalid {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestErrors(t *testing.T) {
	err := Errorf(Exists, "publish file", "a\x1bb", "name is taken")
	if got := err.Error(); got != `publish file "a\x1bb": name is taken` {
		t.Error(got)
	}
	wrapped := fmt.Errorf("commit: %w", err.WithHint("use %s", "--as"))
	if KindOf(wrapped) != Exists || HintOf(wrapped) != "use --as" || !errors.Is(wrapped, &Error{Kind: Exists}) || errors.Is(wrapped, &Error{Kind: Denied}) {
		t.Errorf("%v: kind %v hint %q", wrapped, KindOf(wrapped), HintOf(wrapped))
	}
	cause := Errorf(Internal, "write", "", "disk: %w", io.ErrShortWrite)
	if !errors.Is(cause, io.ErrShortWrite) || cause.Error() != "write: disk: short write" {
		t.Error(cause)
	}
	if KindOf(nil) != OK || KindOf(io.EOF) != Internal {
		t.Error("kinds of foreign errors")
	}
	for k := OK; k <= Canceled; k++ {
		b, _ := json.Marshal(k)
		var back Kind
		if json.Unmarshal(b, &back) != nil || back != k || !k.Valid() {
			t.Errorf("%v does not round-trip: %s", k, b)
		}
	}
}

func TestNamesOfEnums(t *testing.T) {
	for c := Fail; c <= SkipIdentical; c++ {
		if got, err := ParseConflict(c.String()); err != nil || got != c {
			t.Errorf("%v: %v, %v", c, got, err)
		}
	}
	for o := Published; o <= DirExisted; o++ {
		var got Outcome
		if got.UnmarshalText([]byte(o.String())) != nil || got != o {
			t.Errorf("outcome %v", o)
		}
	}
	for _, n := range []Names{Posix, Portable} {
		if got, err := ParseNames(n.String()); err != nil || got != n {
			t.Errorf("names %v", n)
		}
	}
}

// TestValidElement compares elements with whole paths that end in them.
func TestValidElement(t *testing.T) {
	letter := rapid.OneOf(rapid.RuneFrom([]rune("ab.:*/\\~ \x00\x1f\x7f\u0085\u061c\u200e\u202a\u2069\ufffdçß日")), rapid.Rune())
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.OneOf(rapid.StringOf(letter), rapid.Just("\xff"), rapid.Just("con.txt"), rapid.Just(strings.Repeat("x", MaxElement+1))).Draw(t, "name")
		for _, rule := range []Names{Posix, Portable} {
			_, err := ParsePath("dir/"+name, rule)
			if got, want := ValidElement(name, rule), err == nil && !strings.Contains(name, "/"); got != want {
				t.Fatalf("%q by rule %v: %v, and dir/%q gives %v", name, rule, got, name, err)
			}
		}
	})
}
