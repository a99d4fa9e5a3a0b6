package auth

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/e27efefb/sluice/pkg/transfer"
)

func leafOf(t *testing.T, p Pair) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(p.Cert)
	return must(x509.ParseCertificate(block.Bytes))(t)
}

func chainOf(t *testing.T, ca *CA, p Principal) []*x509.Certificate {
	t.Helper()
	return []*x509.Certificate{leafOf(t, must(ca.IssueClient(p, 0))(t)), ca.cert}
}

func serial(c *x509.Certificate) string { return "serial:" + c.SerialNumber.Text(16) }

func TestGuardConfig(t *testing.T) {
	_, err := NewGuard(GuardConfig{})
	wantKind(t, err, transfer.Invalid, "--tokens", "--client-ca", "--no-auth")
	_, err = NewGuard(GuardConfig{NoAuth: true, ClientCerts: true})
	wantKind(t, err, transfer.Invalid, "contradicts")
}

func TestGuardNoAuth(t *testing.T) {
	g := must(NewGuard(GuardConfig{NoAuth: true}))(t)
	p, err := g.Authenticate(t.Context(), "Bearer whatever", nil)
	if p != Anonymous || err != nil {
		t.Fatalf("got %q, %v", p, err)
	}
	if policy := must(g.Policy(p))(t); !policy.Admin || !policy.ListOthers || policy.Prefix != "" || len(policy.Conflicts) != 4 {
		t.Errorf("policy %+v", policy)
	}
	ps := must(LoadPolicies(file(t, `{"principals": {"anonymous": {"prefix": "in"}}}`), Options{}))(t)
	g = must(NewGuard(GuardConfig{NoAuth: true, Policies: ps}))(t)
	if policy := must(g.Policy(Anonymous))(t); policy.Prefix != "in" || policy.Admin {
		t.Errorf("policy %+v", policy)
	}
}

func TestGuardAuthenticate(t *testing.T) {
	ca := must(GenerateCA("", 0, nil))(t)
	secret, line := newToken(t, "alice", time.Time{})
	toks := must(LoadTokens(file(t, line), Options{}))(t)
	bob := chainOf(t, ca, "bob")
	both := must(NewGuard(GuardConfig{Tokens: toks, ClientCerts: true}))(t)
	tokensOnly := must(NewGuard(GuardConfig{Tokens: toks}))(t)
	certsOnly := must(NewGuard(GuardConfig{ClientCerts: true}))(t)

	for _, c := range []struct {
		name   string
		g      *Guard
		header string
		chain  []*x509.Certificate
		want   Principal
		why    string
	}{
		{"token", both, "Bearer " + secret, nil, "alice", ""},
		{"scheme in another case", both, "bEARER  " + secret, nil, "alice", ""},
		{"certificate", both, "", bob, "bob", ""},
		{"token beside certificate", both, "Bearer " + secret, bob, "alice", ""},
		{"bad token beside certificate", both, "Bearer slu_no", bob, "", "not one of this service"},
		{"nothing", both, "", nil, "", "--token-file"},
		{"nothing, tokens only", tokensOnly, "", nil, "", "--token-file"},
		{"nothing, certificates only", certsOnly, "", nil, "", "--tls-cert"},
		{"basic", both, "Basic YTpi", nil, "", "Bearer TOKEN"},
		{"bare token", both, secret, nil, "", "Bearer TOKEN"},
		{"empty token", both, "Bearer ", nil, "", "not one of this service"},
		{"certificate where none counts", tokensOnly, "", bob, "", "--token-file"},
		{"token where none counts", certsOnly, "Bearer " + secret, bob, "", "not accepted here"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := c.g.Authenticate(t.Context(), c.header, c.chain)
			if p != c.want {
				t.Fatalf("got %q, %v; want %q", p, err, c.want)
			}
			if c.want == "" {
				wantUnauthenticated(t, err, c.why)
				if strings.Contains(fmt.Sprintf("%v %+v", err, err), secret) {
					t.Error("the error shows the token")
				}
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := both.Authenticate(ctx, "Bearer "+secret, nil)
	wantKind(t, err, transfer.Canceled)
}

func TestGuardCertificateEnds(t *testing.T) {
	clk := newClock()
	ca := must(GenerateCA("", 0, clk.now))(t)
	chain := chainOf(t, ca, "bob")
	deny := filepath.Join(t.TempDir(), "revoked")
	put(t, deny, "# none\n")
	g := must(NewGuard(GuardConfig{
		ClientCerts: true, Now: clk.now,
		DenyList: must(LoadDenyList(deny, Options{Now: clk.now}))(t),
	}))(t)
	if _, err := g.Authenticate(t.Context(), "", chain); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Policy("bob"); err != nil {
		t.Fatal(err)
	}
	put(t, deny, serial(chain[0]))
	clk.advance(ReloadEvery)
	_, err := g.Authenticate(t.Context(), "", chain)
	wantUnauthenticated(t, err, "revoked")
	_, err = g.Policy("bob")
	wantKind(t, err, transfer.Denied, "bob")

	// A second certificate of the same name brings its work back.
	second := chainOf(t, ca, "bob")
	if _, err := g.Authenticate(t.Context(), "", second); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Policy("bob"); err != nil {
		t.Fatal(err)
	}
	clk.advance(second[0].NotAfter.Sub(clk.now()) + time.Second)
	_, err = g.Authenticate(t.Context(), "", second)
	wantUnauthenticated(t, err, "expired at")
	if _, err := g.Policy("bob"); err != nil {
		t.Errorf("expiry cut open work: %v", err)
	}
}

func TestGuardRemovedPrincipal(t *testing.T) {
	clk := newClock()
	_, aliceLine := newToken(t, "alice", clk.now().Add(time.Minute))
	_, bobLine := newToken(t, "bob", time.Time{})
	for _, certs := range []bool{false, true} {
		path := file(t, aliceLine+"\n"+bobLine)
		toks := must(LoadTokens(path, Options{Now: clk.now}))(t)
		g := must(NewGuard(GuardConfig{Tokens: toks, ClientCerts: certs, Now: clk.now}))(t)
		clk.advance(time.Hour)
		for _, p := range []Principal{"alice", "bob"} {
			if _, err := g.Policy(p); err != nil {
				t.Errorf("certs %v, %s is in the file: %v", certs, p, err)
			}
		}
		put(t, path, bobLine)
		clk.advance(ReloadEvery)
		_, err := g.Policy("alice")
		wantKind(t, err, transfer.Denied, "alice")
		if _, err := g.Policy("bob"); err != nil {
			t.Error(err)
		}
		// Not seen yet: that of a certificate, perhaps, where these are accepted.
		if _, err := g.Policy("carol"); (err == nil) != certs {
			t.Errorf("certs %v: carol: %v", certs, err)
		}
		for _, p := range []Principal{"", Anonymous} {
			_, err := g.Policy(p)
			wantKind(t, err, transfer.Denied)
		}
		if certs {
			ca := must(GenerateCA("", 0, clk.now))(t)
			if p, err := g.Authenticate(t.Context(), "", chainOf(t, ca, "alice")); p != "alice" {
				t.Fatal(err)
			}
			if _, err := g.Policy("alice"); err != nil {
				t.Errorf("a certificate proved the name again: %v", err)
			}
		}
	}
}

func TestGuardPolicyFileDecides(t *testing.T) {
	clk := newClock()
	_, line := newToken(t, "alice", time.Time{})
	toks := must(LoadTokens(file(t, line), Options{Now: clk.now}))(t)
	path := file(t, `{"principals": {"alice": {"prefix": "a"}, "ghost": {}}}`)
	g := must(NewGuard(GuardConfig{Tokens: toks, Policies: must(LoadPolicies(path, Options{Now: clk.now}))(t), Now: clk.now}))(t)
	if p := must(g.Policy("alice"))(t); p.Prefix != "a" {
		t.Errorf("prefix %q", p.Prefix)
	}
	_, err := g.Policy("ghost") // has an entry but no credential
	wantKind(t, err, transfer.Denied, "ghost")
	put(t, path, `{"principals": {}}`)
	clk.advance(ReloadEvery)
	_, err = g.Policy("alice")
	wantKind(t, err, transfer.Denied, "alice", "policy file")
	put(t, path, `{`)
	clk.advance(ReloadEvery)
	_, err = g.Policy("alice")
	wantKind(t, err, transfer.Denied)
	wantKind(t, g.Stale(), transfer.Invalid, path)
}

func TestGuardRemembersABoundedNumber(t *testing.T) {
	deny := must(LoadDenyList(file(t, ""), Options{}))(t)
	g := must(NewGuard(GuardConfig{ClientCerts: true, DenyList: deny}))(t)
	for i := range maxProofs + 5 {
		g.remember("bob", []certID{{fingerprint: [32]byte{byte(i)}}})
		g.remember("bob", []certID{{fingerprint: [32]byte{byte(i)}}})
	}
	if n := len(g.proofs["bob"]); n != maxProofs {
		t.Errorf("%d proofs of one principal, want %d", n, maxProofs)
	}
	for i := range maxProofOwners + 5 {
		g.remember(Principal(fmt.Sprint("p", i)), []certID{{}})
	}
	if n := len(g.proofs); n != maxProofOwners {
		t.Errorf("%d principals, want %d", n, maxProofOwners)
	}
}

func TestPolicyFile(t *testing.T) {
	ps := must(LoadPolicies(file(t, `{"principals": {
		"a": {"prefix": "x/y", "max_transfer_bytes": 10, "rate_bytes_per_second": 5, "conflict": ["overwrite"], "list_others": true, "admin": true},
		"b": {}, "c": {"conflict": []}, "spiffe://d/e": {}}}`), Options{}))(t)
	a, ok := ps.For("a")
	if !ok || a.Prefix != "x/y" || a.MaxTransfer != 10 || a.Rate != 5 || !a.ListOthers || !a.Admin || !slices.Equal(a.Conflicts, []transfer.Conflict{transfer.Overwrite}) {
		t.Errorf("a: %+v", a)
	}
	b, ok := ps.For("b")
	if !ok || b.Prefix != "" || b.ListOthers || b.Admin || slices.Contains(b.Conflicts, transfer.Overwrite) || len(b.Conflicts) != 3 {
		t.Errorf("b: %+v", b)
	}
	if c, _ := ps.For("c"); c.Conflicts != nil {
		t.Errorf("c: %+v", c)
	}
	if _, ok := ps.For("A"); ok {
		t.Error("names fold case")
	}

	for content, why := range map[string]string{
		``:                                     "empty",
		`{}`:                                   `"principals" is missing`,
		`null`:                                 `"principals" is missing`,
		`{"principals": []}`:                   "array",
		`{"principals": {}} {}`:                "follows",
		`{"principal": {}}`:                    "unknown field",
		`{"principals": {"a": {"prefx": ""}}}`: "unknown field",
		`{"principals": {"a": {}, "a": {}}}`:   `"a" is there twice`,
		`{"principals": {"a": {"admin": false, "admin": true}}}`: `"admin" is there twice`,
		`{"principals": {"a": {"prefix": "../x"}}}`:              "prefix",
		`{"principals": {"a": {"prefix": "/x"}}}`:                "absolute",
		`{"principals": {"a": {"prefix": ".sluice"}}}`:           "reserved",
		`{"principals": {"a": {"max_transfer_bytes": -1}}}`:      "negative",
		`{"principals": {"a": {"rate_bytes_per_second": 1.5}}}`:  "number",
		`{"principals": {"a": {"max_transfer_bytes": "10GB"}}}`:  "string",
		`{"principals": {"a": {"conflict": ["replace"]}}}`:       "replace",
		strings.Repeat("[", 1000):                                "nested",
		`{"principals": {"a b": {}}}`:                            "character",
		`{"principals": {"a": {}}`:                               "EOF",
	} {
		_, err := LoadPolicies(file(t, content), Options{})
		wantKind(t, err, transfer.Invalid, why)
	}
}

func TestPolicyCheckTransfer(t *testing.T) {
	p := Policy{MaxTransfer: 100, Conflicts: []transfer.Conflict{transfer.Fail}}
	for size, ok := range map[int64]bool{-1: true, 0: true, 100: true, 101: false} {
		if err := p.CheckTransfer(transfer.Fail, size); (err == nil) != ok {
			t.Errorf("%d octets: %v", size, err)
		}
	}
	wantKind(t, p.CheckTransfer(transfer.Fail, 101), transfer.Denied, "101", "100", "max_transfer_bytes")
	wantKind(t, p.CheckTransfer(transfer.Overwrite, 1), transfer.Denied, "overwrite", "fail")
	if err := DefaultPolicy().CheckTransfer(transfer.Overwrite, 1<<60); err != nil {
		t.Error(err)
	}
	wantKind(t, Policy{}.CheckTransfer(transfer.Fail, 0), transfer.Denied)
}

func TestContext(t *testing.T) {
	if p, ok := FromContext(t.Context()); ok || p != "" {
		t.Errorf("empty context: %q, %v", p, ok)
	}
	if _, ok := FromContext(WithPrincipal(t.Context(), "")); ok {
		t.Error("the empty principal counts")
	}
	if p, ok := FromContext(WithPrincipal(t.Context(), "alice")); !ok || p != "alice" {
		t.Errorf("got %q, %v", p, ok)
	}
}

func TestCheckExposure(t *testing.T) {
	local, open := "127.0.0.1:7400", ":7401"
	for _, c := range []struct {
		addrs                          []string
		haveTLS, noTLS, haveAuth, noAu bool
		want, not                      []string // nil want: allowed
	}{
		{addrs: []string{local, "[::1]:0", "localhost:1", "127.9.9.9:1", "[::ffff:127.0.0.1]:1"}},
		{addrs: nil},
		{addrs: []string{local, open}, want: []string{":7401", "--tls-cert", "--tls-key", "--no-tls", "--tokens", "--client-ca", "--no-auth"}, not: []string{local}},
		{addrs: []string{"0.0.0.0:1"}, haveTLS: true, want: []string{"--tokens", "--client-ca", "--no-auth"}, not: []string{"--tls-cert", "--no-tls"}},
		{addrs: []string{"host.example:1"}, haveAuth: true, want: []string{"--tls-cert", "--tls-key", "--no-tls"}, not: []string{"--tokens", "--no-auth"}},
		{addrs: []string{"[::]:1"}, noAu: true, want: []string{"--tls-cert"}, not: []string{"--tokens"}},
		{addrs: []string{"10.0.0.1:1"}, noTLS: true, want: []string{"--tokens"}, not: []string{"--tls-cert"}},
		{addrs: []string{"nonsense"}, want: []string{"nonsense"}},
		{addrs: []string{open}, haveTLS: true, haveAuth: true},
		{addrs: []string{open}, noTLS: true, noAu: true},
		{addrs: []string{open}, noTLS: true, haveAuth: true},
		{addrs: []string{open}, haveTLS: true, noAu: true},
		{addrs: []string{local}, haveTLS: true, noTLS: true, want: []string{"contradicts"}},
		{addrs: []string{local}, haveAuth: true, noAu: true, want: []string{"contradicts"}},
	} {
		err := CheckExposure(c.addrs, c.haveTLS, c.noTLS, c.haveAuth, c.noAu)
		if c.want == nil {
			if err != nil {
				t.Errorf("%+v: %v", c, err)
			}
			continue
		}
		wantKind(t, err, transfer.Invalid, c.want...)
		for _, n := range c.not {
			if all := err.Error() + transfer.HintOf(err); strings.Contains(all, n) {
				t.Errorf("%+v: %q says %q", c, all, n)
			}
		}
	}
}
