package auth

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"os"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// AlgorithmEd25519 is the one algorithm of signatures (RFC 8032 section 5.1).
const AlgorithmEd25519 = "ed25519"

// Signature is a signature and the key that is said to have made it.
type Signature struct {
	KeyID     string // see KeyID; a hint for choosing the key, no proof
	Algorithm string // AlgorithmEd25519
	Sig       []byte // 64 octets
}

// Signer holds the key by which a receiver signs its receipts. It is safe for
// concurrent use.
type Signer struct {
	key   ed25519.PrivateKey
	keyID string
}

// NewSigner returns a signer for a key.
func NewSigner(key ed25519.PrivateKey) *Signer {
	pub, _ := key.Public().(ed25519.PublicKey) // its documented type
	return &Signer{key: key, keyID: KeyID(pub)}
}

// LoadSigner reads a key from a PEM file (PKCS #8, Ed25519). A missing file is
// NotFound, any other error Invalid.
func LoadSigner(path string) (*Signer, error) {
	b, err := readSmall(path)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, transfer.Errorf(transfer.NotFound, "read signing key", path, "%w", os.ErrNotExist).
				WithHint("the receiver makes its key at its first start")
		}
		return nil, err
	}
	fail := func(err error) error {
		return transfer.Errorf(transfer.Invalid, "read signing key", path, "%w", err).
			WithHint("restore the file from a copy; a new key is made only where there is none")
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, fail(errors.New("the file has no PEM block PRIVATE KEY"))
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fail(err)
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fail(errors.New("the key is not one of Ed25519"))
	}
	return NewSigner(key), nil
}

// LoadOrCreateSigner reads the key at path, and makes it (mode 0600, whole and
// durable) where there is none. Of two processes that do so at once, both
// return the key of the one that came first. A file that is there but cannot be
// read is an error: another key would make earlier receipts look forged.
func LoadOrCreateSigner(path string) (*Signer, error) {
	s, err := LoadSigner(path)
	if transfer.KindOf(err) != transfer.NotFound {
		return s, err
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, transfer.Errorf(transfer.Internal, "make signing key", path, "%w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, transfer.Errorf(transfer.Internal, "make signing key", path, "%w", err)
	}
	err = writeFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), secretMode, false)
	if err != nil && transfer.KindOf(err) != transfer.Exists {
		return nil, err
	}
	return LoadSigner(path)
}

// KeyID returns the identifier of this signer's key.
func (s *Signer) KeyID() string { return s.keyID }

// Public returns the public key.
func (s *Signer) Public() ed25519.PublicKey {
	pub, _ := s.key.Public().(ed25519.PublicKey) // its documented type
	return pub
}

// PublicPEM returns the public key as PEM (SubjectPublicKeyInfo), for those who
// verify.
func (s *Signer) PublicPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki(s.Public())})
}

// Sign signs payload as it is. Receipts are signed by SignEnvelope.
func (s *Signer) Sign(payload []byte) Signature {
	return Signature{KeyID: s.keyID, Algorithm: AlgorithmEd25519, Sig: ed25519.Sign(s.key, payload)}
}

// Verify reports whether sig is pub's signature of payload.
func Verify(pub ed25519.PublicKey, payload []byte, sig Signature) bool {
	return sig.Algorithm == AlgorithmEd25519 && len(pub) == ed25519.PublicKeySize && ed25519.Verify(pub, payload, sig.Sig)
}

// KeyID returns 16 hexadecimal digits: the first 8 octets of the SHA-256 of the
// key's SubjectPublicKeyInfo in DER. It tells keys apart; it is too short to
// prove one.
func KeyID(pub ed25519.PublicKey) string {
	sum := sha256.Sum256(spki(pub))
	return hex.EncodeToString(sum[:8])
}

// spki returns the SubjectPublicKeyInfo of RFC 8410 section 4: for Ed25519 a
// constant header and the key.
func spki(pub ed25519.PublicKey) []byte {
	header := []byte{0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00}
	return append(header, pub...)
}

// ParsePublicKeys reads the PEM blocks PUBLIC KEY of a file's content, at least
// one and all of Ed25519. An error is Invalid.
func ParsePublicKeys(b []byte) ([]ed25519.PublicKey, error) {
	const op = "read public key"
	var keys []ed25519.PublicKey
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			break
		}
		if block.Type != "PUBLIC KEY" {
			return nil, transfer.Errorf(transfer.Invalid, op, "", "there is a PEM block %q, want PUBLIC KEY only", block.Type)
		}
		parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, transfer.Errorf(transfer.Invalid, op, "", "%w", err)
		}
		key, ok := parsed.(ed25519.PublicKey)
		if !ok {
			return nil, transfer.Errorf(transfer.Invalid, op, "", "the key is not one of Ed25519")
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, transfer.Errorf(transfer.Invalid, op, "", "there is no PEM block PUBLIC KEY")
	}
	return keys, nil
}
