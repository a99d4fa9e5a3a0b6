package auth

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// rfcSigner has the secret key of RFC 8032 section 7.1, TEST 1, that everyone
// knows, so that anyone can make the example of docs/receipts.md.
func rfcSigner(t *testing.T) *Signer {
	t.Helper()
	seed := must(hex.DecodeString("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"))(t)
	return NewSigner(ed25519.NewKeyFromSeed(seed))
}

func TestSignerFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "receipt.key")
	_, err := LoadSigner(path)
	wantKind(t, err, transfer.NotFound, "receipt.key", "first start")
	signers := make([]*Signer, 8)
	var wg sync.WaitGroup
	for i := range signers {
		wg.Go(func() {
			var err error
			if signers[i], err = LoadOrCreateSigner(path); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	for _, s := range signers {
		if s.KeyID() != signers[0].KeyID() {
			t.Error("two keys were made")
		}
	}
	wantMode(t, path, 0o600)
	if entries := must(os.ReadDir(filepath.Dir(path)))(t); len(entries) != 1 {
		t.Errorf("files are left over: %v", entries)
	}
	ca := must(GenerateCA("", 0, nil))(t)
	for _, bad := range []string{"", "x", string(ca.Pair().Cert), string(ca.Pair().Key)} {
		put(t, path, bad)
		_, err := LoadOrCreateSigner(path)
		wantKind(t, err, transfer.Invalid, "receipt.key", "restore")
		if got := must(os.ReadFile(path))(t); string(got) != bad {
			t.Error("a file that could not be read was replaced")
		}
	}
}

func TestSignVerify(t *testing.T) {
	s := rfcSigner(t)
	// RFC 8032 section 7.1, TEST 1: the empty message.
	sig := s.Sign(nil)
	want := "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
	if got := hex.EncodeToString(sig.Sig); got != want {
		t.Errorf("signature %s, want %s", got, want)
	}
	if !Verify(s.Public(), nil, sig) {
		t.Error("our own signature does not fit")
	}
	other := sig
	other.Algorithm = "none"
	if Verify(s.Public(), []byte("x"), sig) || Verify(s.Public(), nil, other) || Verify(nil, nil, sig) || Verify(s.Public(), nil, Signature{Algorithm: AlgorithmEd25519}) {
		t.Error("a wrong signature fits")
	}
	der := must(x509.MarshalPKIXPublicKey(s.Public()))(t)
	if !bytes.Equal(der, spki(s.Public())) {
		t.Error("spki differs from crypto/x509's")
	}
	keys := must(ParsePublicKeys(append(s.PublicPEM(), s.PublicPEM()...)))(t)
	if len(keys) != 2 || !keys[1].Equal(s.Public()) {
		t.Errorf("keys %v", keys)
	}
	ca := must(GenerateCA("", 0, nil))(t)
	ecPub := must(x509.MarshalPKIXPublicKey(ca.cert.PublicKey))(t)
	for _, bad := range [][]byte{nil, ca.Pair().Cert, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: ecPub}), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der[:20]})} {
		_, err := ParsePublicKeys(bad)
		wantKind(t, err, transfer.Invalid)
	}
}

func TestEnvelope(t *testing.T) {
	s := rfcSigner(t)
	other, err := LoadOrCreateSigner(filepath.Join(t.TempDir(), "k"))
	if err != nil {
		t.Fatal(err)
	}
	env := must(s.SignEnvelope(ReceiptType, []byte(`{"a":1}`)))(t)
	payload, keyID, err := OpenEnvelope(env, ReceiptType, other.Public(), s.Public())
	if err != nil || string(payload) != `{"a":1}` || keyID != s.KeyID() {
		t.Fatalf("payload %s, key %s, %v", payload, keyID, err)
	}
	_, _, err = OpenEnvelope(env, ReceiptType, other.Public())
	wantKind(t, err, transfer.Corrupt, "none of the given keys", s.KeyID())
	_, _, err = OpenEnvelope(env, ReceiptType)
	wantKind(t, err, transfer.Corrupt, "none of the given keys")
	_, _, err = OpenEnvelope(env, "text/plain", s.Public())
	wantKind(t, err, transfer.Invalid, "text/plain")

	change := func(f func(*Envelope)) []byte {
		var e Envelope
		if err := json.Unmarshal(env, &e); err != nil {
			t.Fatal(err)
		}
		f(&e)
		return must(json.Marshal(e))(t)
	}
	for name, bad := range map[string][]byte{
		"payload":   change(func(e *Envelope) { e.Payload[5] = '2' }),
		"signature": change(func(e *Envelope) { e.Signatures[0].Sig[0] ^= 1 }),
		"short":     change(func(e *Envelope) { e.Signatures[0].Sig = e.Signatures[0].Sig[:63] }),
	} {
		if _, _, err := OpenEnvelope(bad, ReceiptType, s.Public()); transfer.KindOf(err) != transfer.Corrupt || !strings.Contains(err.Error(), "changed") {
			t.Errorf("%s: %v, want Corrupt", name, err)
		}
	}
	// The same octets signed as another type are no receipt.
	typed := must(s.SignEnvelope("text/plain", []byte(`{"a":1}`)))(t)
	_, _, err = OpenEnvelope(bytes.Replace(typed, []byte("text/plain"), []byte(ReceiptType), 1), ReceiptType, s.Public())
	wantKind(t, err, transfer.Corrupt)
	// A wrong key id does no harm, and unknown fields neither.
	fine := change(func(e *Envelope) { e.Signatures[0].KeyID = "" })
	fine = bytes.Replace(fine, []byte(`{"payloadType"`), []byte(`{"more":1,"payloadType"`), 1)
	if _, _, err := OpenEnvelope(fine, ReceiptType, s.Public()); err != nil {
		t.Errorf("a good envelope of another maker: %v", err)
	}
	for _, text := range []string{"+/+/AA==", "-_-_AA=="} {
		var b Base64
		if err := b.UnmarshalText([]byte(text)); err != nil || !bytes.Equal(b, []byte{0xfb, 0xff, 0xbf, 0}) {
			t.Errorf("%s: %x, %v", text, []byte(b), err)
		}
	}
	many := change(func(e *Envelope) {
		for range maxSignatures {
			e.Signatures = append(e.Signatures, e.Signatures[0])
		}
	})
	for _, bad := range [][]byte{nil, []byte("{"), []byte(`{}`), change(func(e *Envelope) { e.Signatures = nil }), many, []byte(`{"payload":"*"}`), make([]byte, MaxEnvelope+1)} {
		_, _, err := OpenEnvelope(bad, ReceiptType, s.Public())
		wantKind(t, err, transfer.Invalid)
	}
}

// TestPAE asserts the example of the DSSE specification.
func TestPAE(t *testing.T) {
	want := "DSSEv1 29 http://example.com/HelloWorld 11 hello world"
	if got := string(PAE("http://example.com/HelloWorld", []byte("hello world"))); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// exampleReceipt is the receipt of docs/receipts.md.
func exampleReceipt(t *testing.T) *transfer.Receipt {
	t.Helper()
	r := &transfer.Receipt{
		ID:        must(transfer.ParseID("0198f3c2-7a10-7c4e-8b5d-3f6a1e2d4c5b"))(t),
		Principal: "build-farm",
		Into:      "nightly",
		Algorithm: transfer.BLAKE3.String(),
		Verified:  true, Durable: true, DataTLS: true,
		FileCount: 1, Bytes: 0,
		Counts:    map[string]int64{"published": 1},
		Started:   time.Date(2026, 11, 27, 9, 0, 0, 0, time.UTC),
		Committed: time.Date(2026, 11, 27, 9, 0, 1, 500_000_000, time.UTC),
		Files: []transfer.FileReceipt{{
			Path: "empty.bin", Type: "file",
			// BLAKE3 of the empty input, from the test vectors of its authors.
			Digest: must(transfer.ParseDigest("blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"))(t),
		}},
	}
	var all transfer.FilesDigest
	all.Add(&r.Files[0])
	r.FilesDigest = all.Sum()
	return r
}

// TestOldReceiptVerifies: a receipt from before files_digest is good as it was.
func TestOldReceiptVerifies(t *testing.T) {
	env := must(os.ReadFile("testdata/receipt-without-files-digest.json"))(t)
	r, _, err := OpenReceipt(env, rfcSigner(t).Public())
	if err != nil {
		t.Fatal(err)
	}
	var all transfer.FilesDigest
	all.Add(&r.Files[0])
	if !r.FilesDigest.IsZero() || r.CheckFiles(&all) != nil {
		t.Errorf("%+v: %v", r, r.CheckFiles(&all))
	}
	all.Add(&r.Files[0])
	wantKind(t, r.CheckFiles(&all), transfer.Corrupt, "2 files")
	r.Files = nil
	wantKind(t, r.CheckFiles(&all), transfer.Invalid, "older")
}

func TestReceiptRoundTrip(t *testing.T) {
	s, r := rfcSigner(t), exampleReceipt(t)
	r.Files = append(r.Files, transfer.FileReceipt{Index: 1, Path: "dir", Type: "directory", Outcome: transfer.DirExisted})
	if err := s.SignReceipt(r); err != nil {
		t.Fatal(err)
	}
	first := bytes.Clone(r.Envelope)
	if err := s.SignReceipt(r); err != nil || !bytes.Equal(first, r.Envelope) {
		t.Errorf("signing again differs, %v", err)
	}
	got, keyID, err := OpenReceipt(r.Envelope, s.Public())
	if err != nil || keyID != s.KeyID() || !reflect.DeepEqual(got, r) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, r)
	}
	env := must(s.SignEnvelope(ReceiptType, []byte(`[]`)))(t)
	_, _, err = OpenReceipt(env, s.Public())
	wantKind(t, err, transfer.Invalid, "not a receipt")
}

// TestDocumentedVector asserts each value of the example in docs/receipts.md.
func TestDocumentedVector(t *testing.T) {
	doc := string(must(os.ReadFile("../../docs/receipts.md"))(t))
	block := func(name string) string {
		m := regexp.MustCompile("(?s)<!-- vector: " + name + " -->\n+```[a-z]*\n(.*?)\n```").FindStringSubmatch(doc)
		if m == nil {
			t.Fatalf("docs/receipts.md has no vector %q", name)
		}
		return m[1]
	}
	s, r := rfcSigner(t), exampleReceipt(t)
	payload := must(json.Marshal(r))(t)
	if err := s.SignReceipt(r); err != nil {
		t.Fatal(err)
	}
	pae := PAE(ReceiptType, payload)
	for name, got := range map[string]string{
		"public key": strings.TrimSpace(string(s.PublicPEM())),
		"key id":     s.KeyID(),
		"payload":    string(payload),
		"pae":        string(pae),
		"signature":  hex.EncodeToString(s.Sign(pae).Sig),
		"envelope":   string(r.Envelope),

		"files digest": r.FilesDigest.String(),
	} {
		if want := block(name); got != want {
			t.Errorf("%s\n got  %s\n want %s", name, got, want)
		}
	}
	if got := sha256.Sum256([]byte(block("files"))); "sha256:"+hex.EncodeToString(got[:]) != block("files digest") {
		t.Error("the octets of all files have another digest")
	}
	keys := must(ParsePublicKeys([]byte(block("public key"))))(t)
	if _, _, err := OpenReceipt([]byte(block("envelope")), keys...); err != nil {
		t.Errorf("the documented envelope: %v", err)
	}
}
