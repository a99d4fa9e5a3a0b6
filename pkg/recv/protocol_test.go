package recv_test

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/zeebo/blake3"

	"github.com/e27efefb/sluice/pkg/recv/recvtest"
	"github.com/e27efefb/sluice/pkg/transfer"
	"github.com/e27efefb/sluice/pkg/wire"
)

func TestProtocol(t *testing.T) {
	recvtest.Run(t, protocolDoc, func(t *testing.T, gate *recvtest.Gate) *recvtest.Fixture {
		h := newHouse(t, func(h *house) { h.cfg.OnVerified = gate.Verified })
		return fixture(h)
	})
}

// TestWorkedExample asserts the octets in docs/protocol.md.
func TestWorkedExample(t *testing.T) {
	doc := map[string][]byte{}
	for _, line := range recvtest.Section(t, protocolDoc, "worked example")[2:] {
		name, octets, _ := strings.Cut(strings.Trim(line, "| "), "|")
		b, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(octets), " ", ""))
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		doc[strings.TrimSpace(name)] = b
	}
	h := wire.Hello{ID: transfer.ID(doc["transfer"]), Epoch: 1, Nonce: [16]byte(doc["nonce"])}
	content := doc["octets"]
	sum := blake3.Sum256(content)
	want := map[string][]byte{
		"token": doc["token"], "transfer": h.ID[:], "epoch": {0, 0, 0, 0, 0, 0, 0, 1}, "nonce": h.Nonce[:],
		"hello":          h.Append(nil, transfer.Token(doc["token"])),
		"hello accepted": wire.Ack{Type: wire.AckHello}.Append(nil),
		"frame header":   wire.Header{Length: int64(len(content))}.Append(nil),
		"octets":         []byte("hello\n"),
		"chunk written":  wire.Ack{Type: wire.AckWritten, Count: 1}.Append(nil),
		"digest":         sum[:],
	}
	if len(doc) != len(want) {
		t.Errorf("the example has %d lines, want %d", len(doc), len(want))
	}
	for name, b := range want {
		if got := hex.EncodeToString(doc[name]); got != hex.EncodeToString(b) {
			t.Errorf("%s: the document has\n %s, want\n %x", name, got, b)
		}
	}
}
