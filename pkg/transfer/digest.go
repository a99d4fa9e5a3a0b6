package transfer

import (
	"bytes"
	"encoding/hex"
	"strings"
)

// Algorithm names a digest. The zero value means that none was chosen.
type Algorithm uint8

// The algorithms. BLAKE3 is the default; SHA256 serves only as an expected
// digest; None means unverified and needs the receiver's leave.
const (
	NoAlgorithm Algorithm = 0
	BLAKE3      Algorithm = 1 // 32 octets, what b3sum prints
	XXH3        Algorithm = 2 // 16 octets: XXH3-128 over the chunks' XXH3-128s, not against malice
	None        Algorithm = 3 // no octets
	SHA256      Algorithm = 4 // 32 octets, FIPS 180-4
)

// String returns the name that flags and digests use.
func (a Algorithm) String() string {
	switch a {
	case BLAKE3:
		return "blake3"
	case XXH3:
		return "xxh3"
	case None:
		return "none"
	case SHA256:
		return "sha256"
	default:
		return ""
	}
}

// Size returns the length of a digest in octets.
func (a Algorithm) Size() int {
	switch a {
	case BLAKE3, SHA256:
		return 32
	case XXH3:
		return 16
	default:
		return 0
	}
}

// ParseAlgorithm reads blake3, xxh3, none or sha256.
func ParseAlgorithm(s string) (Algorithm, error) {
	for _, a := range []Algorithm{BLAKE3, XXH3, None, SHA256} {
		if a.String() == s {
			return a, nil
		}
	}
	return NoAlgorithm, Errorf(Invalid, "read digest algorithm", "", "%q is none of blake3, xxh3, none", s)
}

// Digest is an algorithm and its value. The zero value means none.
type Digest struct {
	Algorithm Algorithm
	Sum       []byte
}

// String returns "algorithm:hex", "none" for None and "" for the zero value.
func (d Digest) String() string {
	return string(d.append(nil))
}

func (d Digest) append(b []byte) []byte {
	switch d.Algorithm {
	case NoAlgorithm:
		return b
	case None:
		return append(b, "none"...)
	default:
		b = append(append(b, d.Algorithm.String()...), ':')
		return hex.AppendEncode(b, d.Sum)
	}
}

// IsZero reports whether no digest is given.
func (d Digest) IsZero() bool { return d.Algorithm == NoAlgorithm }

// Equal compares algorithm and value.
func (d Digest) Equal(o Digest) bool {
	return d.Algorithm == o.Algorithm && bytes.Equal(d.Sum, o.Sum)
}

// ParseDigest reads "algorithm:hex" ("" gives the zero value).
func ParseDigest(s string) (Digest, error) {
	if s == "" {
		return Digest{}, nil
	}
	name, sum, _ := strings.Cut(s, ":")
	a, err := ParseAlgorithm(name)
	if err != nil {
		return Digest{}, err
	}
	b, err := hex.DecodeString(sum)
	if err != nil || len(b) != a.Size() {
		return Digest{}, Errorf(Invalid, "read digest", "", "%q: want %s and %d hexadecimal digits", s, name, 2*a.Size())
	}
	if a == None {
		b = nil
	}
	return Digest{Algorithm: a, Sum: b}, nil
}

// Validate checks that the value has the algorithm's length.
func (d Digest) Validate() error {
	if d.Algorithm > SHA256 || len(d.Sum) != d.Algorithm.Size() {
		return Errorf(Invalid, "read digest", "", "algorithm %d with %d octets", d.Algorithm, len(d.Sum))
	}
	return nil
}

// MarshalText writes String's form.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads ParseDigest's form.
func (d *Digest) UnmarshalText(b []byte) error {
	v, err := ParseDigest(string(b))
	if err == nil {
		*d = v
	}
	return err
}
