package stamp

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// FuzzReflect turns any datagram into a reply: nothing may panic, the values of
// unknown TLVs may not change, and a second reflection adds no flags.
func FuzzReflect(f *testing.F) {
	f.Fuzz(func(t *testing.T, in []byte) {
		mac := NewMAC(goldenKey)
		for _, base := range []int{BaseLen, AuthLen} {
			if len(in) < base {
				continue
			}
			m := mac
			if base == BaseLen {
				m = nil
			}
			seq := uint32(in[0])<<24 | uint32(in[1])<<16 | uint32(in[2])<<8 | uint32(in[3])
			reply := bytes.Clone(in)
			ReflectTLVs(reply, base, seq, m, &someStatus)
			if !bytes.Equal(reply[:base], in[:base]) {
				t.Fatal("the base packet changed")
			}
			if m != nil && in[AuthLen:] != nil && VerifyTLVs(in, m) && !VerifyTLVs(reply, m) {
				t.Fatal("a verified request got a reply that does not verify")
			}
			a, b := in[base:], reply[base:]
			for {
				was, restA, okA := NextTLV(a)
				now, restB, okB := NextTLV(b)
				if okA != okB || len(restA) != len(restB) {
					t.Fatal("the borders of the TLVs moved")
				}
				if !okA {
					break
				}
				known := now.Type == TypeHMAC || now.Type == TypeStatus
				if was.Type != now.Type || !known && !bytes.Equal(was.Value, now.Value) {
					t.Fatalf("TLV %+v became %+v", was, now)
				}
				a, b = restA, restB
			}
		}
	})
}

// FuzzParse reads any datagram as each packet; what was read must come back the
// same from what is written of it.
func FuzzParse(f *testing.F) {
	f.Fuzz(func(t *testing.T, in []byte) {
		LooksReflected(in)
		LooksAuth(in)
		FindStatus(in)
		NewMAC(goldenKey).Verify(in)
		if p, err := ParseSender(in); err == nil {
			if q, err := ParseSender(p.Append(nil)); err != nil || p != q {
				t.Fatalf("%+v became %+v, %v", p, q, err)
			}
		}
		if p, err := ParseSenderAuth(in); err == nil {
			if q, err := ParseSenderAuth(p.AppendAuth(nil)); err != nil || p != q {
				t.Fatalf("%+v became %+v, %v", p, q, err)
			}
		}
		if p, err := ParseReflected(in); err == nil {
			b := make([]byte, BaseLen)
			p.Put(b)
			if q, err := ParseReflected(b); err != nil || p != q {
				t.Fatalf("%+v became %+v, %v", p, q, err)
			}
		}
		if p, err := ParseReflectedAuth(in); err == nil {
			b := make([]byte, AuthLen)
			p.PutAuth(b)
			if q, err := ParseReflectedAuth(b); err != nil || p != q {
				t.Fatalf("%+v became %+v, %v", p, q, err)
			}
		}
	})
}

// TestCorpus asserts that the fuzz targets have something to begin with.
func TestCorpus(t *testing.T) {
	for _, target := range []string{"FuzzReflect", "FuzzParse"} {
		files, err := filepath.Glob(filepath.Join("testdata", "fuzz", target, "*"))
		if err != nil || len(files) < 5 {
			t.Errorf("%s has a corpus of %d files (%v), want at least 5", target, len(files), err)
		}
		for _, name := range files {
			b, err := os.ReadFile(name)
			if err != nil || !bytes.HasPrefix(b, []byte("go test fuzz v1\n[]byte(")) {
				t.Errorf("%s is no corpus file: %v", name, err)
			}
		}
	}
}
