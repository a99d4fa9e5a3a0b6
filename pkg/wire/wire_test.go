package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"testing"

	"github.com/e27efefb/sluice/pkg/transfer"
)

func sampleHello() (Hello, transfer.Token) {
	id, _ := transfer.ParseID("01920000-0000-7000-8000-000000000001")
	h := Hello{ID: id, Epoch: 1}
	var token transfer.Token
	for i := range h.Nonce {
		h.Nonce[i] = byte(i)
	}
	for i := range token {
		token[i] = byte(0xa0 + i)
	}
	return h, token
}

func TestGolden(t *testing.T) {
	h, token := sampleHello()
	hello := h.Append(nil, token)
	tests := []struct {
		name string
		got  []byte
		want string
	}{
		{"hello without mac", hello[:48], "534c554301000000" + "01920000000070008000000000000001" + "0000000000000001" + "000102030405060708090a0b0c0d0e0f"},
		{"header", Header{File: 7, Offset: 3 << 20, Length: 12345}.Append(nil), "01000000" + "00000007" + "0000000000300000" + "0000000000003039"},
		{"ack written", Ack{Type: AckWritten, File: 7, Chunk: 3, Count: 1}.Append(nil), "02000000" + "00000007" + "00000003" + "00000001"},
		{"ack end", Ack{Type: AckEnd, Kind: transfer.NoSpace}.Append(nil), "04060000" + "00000000" + "00000000" + "00000000"},
	}
	for _, tt := range tests {
		if got := hex.EncodeToString(tt.got); got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, got, tt.want)
		}
	}
	// Computed independently with Python's hmac module.
	const mac = "28d85272fed14203bbfe755b720900a97b20dc5f9890c4e0a2759360b6dd7f98"
	if got := hex.EncodeToString(hello[48:]); got != mac {
		t.Errorf("mac %s, want %s", got, mac)
	}
}

func TestHello(t *testing.T) {
	h, token := sampleHello()
	b := h.Append(nil, token)
	got, err := ReadHello(bytes.NewReader(b))
	if err != nil || got != h {
		t.Fatalf("ReadHello = %+v, %v; want %+v", got, err, h)
	}
	if !got.Verify(token) {
		t.Error("own MAC does not verify")
	}
	other := token
	other[31] ^= 1
	if got.Verify(other) {
		t.Error("MAC verifies under another token")
	}
	for i := 8; i < 48; i++ { // every covered octet matters
		c := bytes.Clone(b)
		c[i] ^= 0x80
		if g, err := ReadHello(bytes.NewReader(c)); err == nil && g.Verify(token) {
			t.Errorf("octet %d changed and the MAC still verifies", i)
		}
	}
	for i := range 8 {
		c := bytes.Clone(b)
		c[i] ^= 0x80
		if _, err := ReadHello(bytes.NewReader(c)); transfer.KindOf(err) != transfer.Invalid {
			t.Errorf("octet %d changed: %v, want invalid", i, err)
		}
	}
	if _, err := ReadHello(bytes.NewReader(b[:79])); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("short hello: %v", err)
	}
	h.Epoch = 0
	if _, err := ReadHello(bytes.NewReader(h.Append(nil, token))); transfer.KindOf(err) != transfer.Invalid {
		t.Errorf("epoch 0: %v", err)
	}
}

func TestHeaderCheck(t *testing.T) {
	const m = 1 << 20
	tests := []struct {
		name      string
		h         Header
		size      int64
		want      transfer.ChunkRange
		wantError bool
	}{
		{"whole small file", Header{Offset: 0, Length: 5}, 5, transfer.ChunkRange{First: 0, Count: 1}, false},
		{"one chunk", Header{Offset: m, Length: m}, 3 * m, transfer.ChunkRange{First: 1, Count: 1}, false},
		{"to the end", Header{Offset: m, Length: m + 7}, 2*m + 7, transfer.ChunkRange{First: 1, Count: 2}, false},
		{"unknown size", Header{Offset: 2 * m, Length: 9}, transfer.UnknownSize, transfer.ChunkRange{First: 2, Count: 1}, false},
		{"off a border", Header{Offset: 1, Length: 4}, 5, transfer.ChunkRange{}, true},
		{"past the end", Header{Offset: 0, Length: 6}, 5, transfer.ChunkRange{}, true},
		{"inside a chunk", Header{Offset: 0, Length: m + 1}, 3 * m, transfer.ChunkRange{}, true},
		{"empty file", Header{Offset: 0, Length: 1}, 0, transfer.ChunkRange{}, true},
		{"too many chunks", Header{Offset: m << 32, Length: m}, transfer.UnknownSize, transfer.ChunkRange{}, true},
	}
	for _, tt := range tests {
		got, err := tt.h.Check(tt.size, m)
		if (err != nil) != tt.wantError || got != tt.want {
			t.Errorf("%s: %+v, %v", tt.name, got, err)
		}
	}
}

func TestParseRejects(t *testing.T) {
	good := Header{File: 1, Offset: 0, Length: 1}.Append(nil)
	for _, change := range []func(b []byte){
		func(b []byte) { b[0] = 2 },
		func(b []byte) { b[3] = 1 },
		func(b []byte) { b[8] = 0xff },
		func(b []byte) { b[16] = 0xff },
		func(b []byte) { b[23] = 0 },
	} {
		b := bytes.Clone(good)
		change(b)
		if _, err := ParseHeader(b); transfer.KindOf(err) != transfer.Invalid {
			t.Errorf("%x: %v", b, err)
		}
	}
	ack := Ack{Type: AckWritten, File: 1, Chunk: 2, Count: 3}.Append(nil)
	for _, change := range []func(b []byte){
		func(b []byte) { b[0] = 0 },
		func(b []byte) { b[0] = 5 },
		func(b []byte) { b[1] = 200 },
		func(b []byte) { b[2] = 1 },
		func(b []byte) { b[15] = 0 },
		func(b []byte) { copy(b[8:], []byte{255, 255, 255, 255, 255, 255, 255, 255}) },
	} {
		b := bytes.Clone(ack)
		change(b)
		if _, err := ParseAck(b); transfer.KindOf(err) != transfer.Invalid {
			t.Errorf("%x: %v", b, err)
		}
	}
}

func FuzzHello(f *testing.F) {
	h, token := sampleHello()
	f.Add(h.Append(nil, token))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := ReadHello(bytes.NewReader(b))
		if err == nil && got.Verify(token) && !bytes.Equal(got.Append(nil, token), b[:HelloLen]) {
			t.Errorf("%x does not round-trip", b)
		}
	})
}

func FuzzHeader(f *testing.F) {
	f.Add(Header{File: 1, Offset: 1 << 20, Length: 99}.Append(nil), int64(2<<20), uint8(0))
	f.Fuzz(func(t *testing.T, b []byte, size int64, shift uint8) {
		if len(b) < HeaderLen {
			return
		}
		h, err := ParseHeader(b)
		if err != nil {
			return
		}
		if !bytes.Equal(h.Append(nil), b[:HeaderLen]) {
			t.Errorf("%x does not round-trip", b)
		}
		size = max(size, transfer.UnknownSize)
		c := int64(transfer.MinChunkSize) << (shift % 5)
		r, err := h.Check(size, c)
		if err != nil {
			return
		}
		if r.Count == 0 || size >= 0 && r.End() > uint64(transfer.Chunks(size, c)) {
			t.Errorf("header %+v of a file of %d gives chunks %+v", h, size, r)
		}
	})
}

func FuzzAck(f *testing.F) {
	f.Add(Ack{Type: AckWritten, File: 1, Chunk: 2, Count: 3}.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < AckLen {
			return
		}
		if a, err := ParseAck(b); err == nil && !bytes.Equal(a.Append(nil), b[:AckLen]) {
			t.Errorf("%x does not round-trip", b)
		}
	})
}

func TestCorpusIsThere(t *testing.T) {
	for _, name := range []string{"FuzzHello", "FuzzHeader", "FuzzAck"} {
		files, err := os.ReadDir("testdata/fuzz/" + name)
		if err != nil || len(files) == 0 {
			t.Errorf("%s has no checked-in corpus: %v", name, err)
		}
	}
}

func TestNoAllocations(t *testing.T) {
	b := make([]byte, 0, 64)
	if n := testing.AllocsPerRun(100, func() {
		h := Header{File: 1, Offset: 1 << 20, Length: 9}
		c := h.Append(b)
		_, _ = ParseHeader(c)
		c = Ack{Type: AckWritten, Count: 1}.Append(b)
		_, _ = ParseAck(c)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
