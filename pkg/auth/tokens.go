package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/e27efefb/sluice/pkg/transfer"
)

const (
	// TokenPrefix begins every bearer token, so that scanners for leaked
	// secrets can find one.
	TokenPrefix = "slu_"
	// MaxTokens bounds a token file. Every look-up compares with every line,
	// 10,000 of them in about 0.2 ms (BenchmarkLookup).
	MaxTokens = 10_000

	tokenBytes  = 32 // 256 random bits
	tokenLength = len(TokenPrefix) + 43
	hashPrefix  = "sha256:"
	expiresKey  = "expires="
)

// NewToken makes a bearer token for p: the secret that the caller keeps, and
// the line for the token file, which holds only its hash. A zero expires means
// that it never expires. The error is Invalid, for a name that is not allowed.
func NewToken(p Principal, expires time.Time) (secret, line string, err error) {
	if _, err := tokenPrincipal(string(p)); err != nil {
		return "", "", err
	}
	var b [tokenBytes]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand, Go 1.24)
	secret = TokenPrefix + base64.RawURLEncoding.EncodeToString(b[:])
	sum := sha256.Sum256([]byte(secret))
	line = string(p) + " " + hashPrefix + hex.EncodeToString(sum[:])
	if !expires.IsZero() {
		line += " " + expiresKey + expires.UTC().Format(time.RFC3339)
	}
	return secret, line, nil
}

func tokenPrincipal(s string) (Principal, error) {
	p, err := ParsePrincipal(s)
	if err == nil && p == Anonymous {
		err = transfer.Errorf(transfer.Invalid, "read principal", "", "the name anonymous is for --no-auth only")
	}
	return p, err
}

type token struct {
	hash      [sha256.Size]byte
	principal Principal
	expires   time.Time // zero: never
}

// tokenSet is one content of the file.
type tokenSet struct {
	tokens     []token
	principals map[Principal]struct{} // expired ones included
}

// Tokens is a file of bearer tokens, read again when it changes. It is safe for
// concurrent use.
type Tokens struct {
	file *watched[*tokenSet]

	mu   sync.Mutex
	seen map[Principal]struct{} // every principal that any content of the file named
}

// LoadTokens reads a token file: a line "PRINCIPAL sha256:HEX" for each token,
// with " expires=RFC3339" after it when the token ends; empty lines and lines
// that begin with # do not count. One principal may have several tokens, so
// that they can be rotated. The error is Invalid and names the line, never its
// content.
func LoadTokens(path string, opts Options) (*Tokens, error) {
	t := &Tokens{seen: make(map[Principal]struct{})}
	f, err := watch(opts, t.parse, path)
	if err != nil {
		return nil, err
	}
	t.file = f
	return t, nil
}

func (t *Tokens) parse(files [][]byte) (*tokenSet, error) {
	set := &tokenSet{principals: make(map[Principal]struct{})}
	hashes := make(map[[sha256.Size]byte]struct{})
	for n, line := range lines(files[0]) {
		tok, reason := parseTokenLine(line)
		if reason == "" {
			if _, dup := hashes[tok.hash]; dup {
				reason = "the hash was there before"
			}
		}
		if reason != "" {
			return nil, transfer.Errorf(transfer.Invalid, "read tokens", "", "line %d: %s", n, reason).
				WithHint("a line is: PRINCIPAL sha256:HEX [expires=2027-01-31T00:00:00Z]")
		}
		hashes[tok.hash] = struct{}{}
		set.tokens = append(set.tokens, tok)
		set.principals[tok.principal] = struct{}{}
		if len(set.tokens) > MaxTokens {
			return nil, transfer.Errorf(transfer.Invalid, "read tokens", "", "the file has more than %d tokens", MaxTokens)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for p := range set.principals {
		t.seen[p] = struct{}{}
	}
	return set, nil
}

func parseTokenLine(line string) (tok token, reason string) {
	if strings.Contains(line, TokenPrefix) {
		return tok, "the line holds a token itself; only its hash belongs here, and the token is to be replaced"
	}
	fields := strings.Fields(line)
	if len(fields) < 2 {
		return tok, "the hash is missing"
	}
	p, err := tokenPrincipal(fields[0])
	if err != nil {
		return tok, "the principal's name is not allowed"
	}
	hexed, ok := strings.CutPrefix(fields[1], hashPrefix)
	sum, err := hex.DecodeString(hexed)
	if !ok || err != nil || len(sum) != sha256.Size {
		return tok, "the hash is not sha256: and 64 hexadecimal digits"
	}
	tok = token{hash: [sha256.Size]byte(sum), principal: p}
	for i, f := range fields[2:] {
		when, ok := strings.CutPrefix(f, expiresKey)
		if !ok || i > 0 {
			return tok, "after the hash only one expires= may stand"
		}
		if tok.expires, err = time.Parse(time.RFC3339, when); err != nil {
			return tok, "the time of expires= is not written as in RFC 3339"
		}
	}
	return tok, ""
}

// Lookup returns the principal of a secret. An unknown or expired one is
// Denied. The time that it takes does not depend on which token matches.
func (t *Tokens) Lookup(secret string) (Principal, error) {
	set := t.file.get()
	if !wellFormed(secret) {
		return "", unauthenticated("the bearer token is not one of this service", hintToken)
	}
	sum := sha256.Sum256([]byte(secret))
	found := -1
	for i := range set.tokens {
		eq := subtle.ConstantTimeCompare(sum[:], set.tokens[i].hash[:])
		found = subtle.ConstantTimeSelect(eq, i, found)
	}
	if found < 0 {
		return "", unauthenticated("the bearer token is not one of this service", hintToken)
	}
	tok := set.tokens[found]
	if !tok.expires.IsZero() && !t.file.opts.Now().Before(tok.expires) {
		return "", unauthenticated(fmt.Sprintf("the bearer token of %s expired at %s",
			tok.principal, tok.expires.UTC().Format(time.RFC3339)), hintToken)
	}
	return tok.principal, nil
}

// wellFormed reports whether secret can be a token at all: one of another form
// need not have 256 random bits.
func wellFormed(secret string) bool {
	random, ok := strings.CutPrefix(secret, TokenPrefix)
	b, err := base64.RawURLEncoding.DecodeString(random)
	return ok && err == nil && len(b) == tokenBytes && len(secret) == tokenLength
}

// Has reports whether the file names p now, be it with an expired token.
func (t *Tokens) Has(p Principal) bool {
	_, ok := t.file.get().principals[p]
	return ok
}

// Removed reports whether the file named p earlier in this process's life and
// does not any more.
func (t *Tokens) Removed(p Principal) bool {
	if t.Has(p) {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.seen[p]
	return ok
}

// Stale returns why the file as it is now is not in force, or nil.
func (t *Tokens) Stale() error { return t.file.stale() }

// lines yields the lines that count, with their numbers from 1.
func lines(b []byte) func(yield func(int, string) bool) {
	return func(yield func(int, string) bool) {
		n := 0
		for line := range strings.Lines(string(b)) {
			n++
			line = strings.TrimSpace(line)
			if line != "" && line[0] != '#' && !yield(n, line) {
				return
			}
		}
	}
}
