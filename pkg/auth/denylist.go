package auth

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"math/big"
	"strings"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// certID is what a deny list can name of a certificate.
type certID struct {
	fingerprint [sha256.Size]byte // SHA-256 of the DER form
	serial      string            // lower-case hexadecimal without leading zeros
}

func idOf(c *x509.Certificate) certID {
	id := certID{fingerprint: sha256.Sum256(c.Raw)}
	if c.SerialNumber != nil {
		id.serial = c.SerialNumber.Text(16)
	}
	return id
}

func idsOf(chain []*x509.Certificate) []certID {
	ids := make([]certID, len(chain))
	for i, c := range chain {
		ids[i] = idOf(c)
	}
	return ids
}

type denySet struct {
	fingerprints map[[sha256.Size]byte]struct{}
	serials      map[string]struct{}
}

// DenyList is a file of revoked certificates, read again when it changes. It is
// safe for concurrent use.
type DenyList struct {
	file *watched[*denySet]
}

// LoadDenyList reads a file of revoked certificates. A line is "sha256:HEX", the
// SHA-256 of the certificate's DER form as "openssl x509 -fingerprint -sha256"
// prints it (without the word before it, too), or "serial:HEX", as "openssl x509 -serial" prints it; colons
// between the digits and their case do not matter. A serial revokes the
// certificates of every issuer that have it. Empty lines and lines that begin
// with # do not count. An error is Invalid.
func LoadDenyList(path string, opts Options) (*DenyList, error) {
	f, err := watch(opts, parseDenyList, path)
	if err != nil {
		return nil, err
	}
	return &DenyList{file: f}, nil
}

func parseDenyList(files [][]byte) (*denySet, error) {
	set := &denySet{fingerprints: make(map[[sha256.Size]byte]struct{}), serials: make(map[string]struct{})}
	for n, line := range lines(files[0]) {
		if !set.add(line) {
			return nil, transfer.Errorf(transfer.Invalid, "read revoked certificates", "", "line %d is neither sha256: and 64 hexadecimal digits nor serial: and some", n)
		}
	}
	return set, nil
}

func (s *denySet) add(line string) bool {
	kind, digits, _ := strings.Cut(line, ":")
	if bare := strings.ReplaceAll(line, ":", ""); len(bare) == 2*sha256.Size {
		kind, digits = "sha256", bare
	}
	digits = strings.ReplaceAll(digits, ":", "")
	switch kind {
	case "sha256":
		sum, err := hex.DecodeString(digits)
		if err != nil || len(sum) != sha256.Size {
			return false
		}
		s.fingerprints[[sha256.Size]byte(sum)] = struct{}{}
	case "serial":
		n, ok := new(big.Int).SetString(digits, 16)
		if !ok || n.Sign() < 0 || digits[0] == '+' {
			return false
		}
		s.serials[n.Text(16)] = struct{}{}
	default:
		return false
	}
	return true
}

// Check returns a Denied error if any certificate of a chain is revoked. A nil
// list revokes nothing.
func (d *DenyList) Check(chain []*x509.Certificate) error {
	if d == nil || !d.has(idsOf(chain)) {
		return nil
	}
	return unauthenticated("the client certificate, or one that it depends on, is revoked", "ask the operator for a new certificate")
}

func (d *DenyList) has(ids []certID) bool {
	set := d.file.get()
	for _, id := range ids {
		if _, ok := set.fingerprints[id.fingerprint]; ok {
			return true
		}
		if _, ok := set.serials[id.serial]; ok {
			return true
		}
	}
	return false
}

// Stale returns why the file as it is now is not in force, or nil.
func (d *DenyList) Stale() error { return d.file.stale() }
