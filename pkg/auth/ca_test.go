package auth

import (
	"bytes"
	"crypto/x509"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/e27efefb/sluice/pkg/transfer"
)

func wantMode(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if info := must(os.Stat(path))(t); runtime.GOOS != "windows" && info.Mode() != mode {
		t.Errorf("%s has mode %v, want %v", filepath.Base(path), info.Mode(), mode)
	}
}

func TestPairWrite(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "x.crt"), filepath.Join(dir, "x.key")
	ca := must(GenerateCA("test", 0, nil))(t)
	if err := ca.Pair().Write(cert, key, false); err != nil {
		t.Fatal(err)
	}
	wantMode(t, cert, 0o644)
	wantMode(t, key, 0o600)
	was := must(os.ReadFile(key))(t)

	other := must(GenerateCA("test", 0, nil))(t).Pair()
	wantKind(t, other.Write(cert, key, false), transfer.Exists, "x.crt")
	wantKind(t, other.Write(filepath.Join(dir, "new.crt"), key, false), transfer.Exists, "x.key")
	wantKind(t, other.Write(cert, filepath.Join(dir, "new.key"), false), transfer.Exists, "x.crt")
	if !bytes.Equal(was, must(os.ReadFile(key))(t)) {
		t.Error("a key was replaced unasked")
	}
	if err := other.Write(cert, key, true); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(other.Key, must(os.ReadFile(key))(t)) {
		t.Error("the key was not replaced")
	}
	wantMode(t, key, 0o600)
	wantKind(t, other.Write(filepath.Join(dir, "no", "x.crt"), filepath.Join(dir, "no", "x.key"), false), transfer.Invalid, filepath.Join("no", "x.key"), "directory exists")
	entries := must(os.ReadDir(dir))(t)
	if len(entries) != 2 {
		t.Errorf("%d files, want x.crt and x.key only: %v", len(entries), entries)
	}
}

func TestCAIssues(t *testing.T) {
	clk := newClock()
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key")
	made := must(GenerateCA("", 30*24*time.Hour, clk.now))(t)
	if err := made.Pair().Write(cert, key, false); err != nil {
		t.Fatal(err)
	}
	ca := must(LoadCA(cert, key, clk.now))(t)
	if !bytes.Equal(ca.Pair().Key, made.Pair().Key) {
		t.Error("the loaded authority has another key")
	}

	server := leafOf(t, must(ca.IssueServer([]string{"receiver_1", "a.example", "10.0.0.1", "::1", "*.pod"}, time.Hour))(t))
	if got := strings.Join(server.DNSNames, " "); got != "receiver_1 a.example *.pod" || len(server.IPAddresses) != 2 {
		t.Errorf("names %q, addresses %v", got, server.IPAddresses)
	}
	if want := clk.now().Add(time.Hour).Truncate(time.Second); !server.NotAfter.Equal(want) {
		t.Errorf("ends %v, want %v", server.NotAfter, want)
	}
	client := leafOf(t, must(ca.IssueClient("team/alice@x", 0))(t))
	if !client.NotAfter.Equal(ca.cert.NotAfter) {
		t.Errorf("ends %v, after its authority %v", client.NotAfter, ca.cert.NotAfter)
	}
	if client.SerialNumber.BitLen() < 64 || client.SerialNumber.Cmp(server.SerialNumber) == 0 {
		t.Errorf("serial %v is not random", client.SerialNumber)
	}
	spiffe := leafOf(t, must(ca.IssueClient("spiffe://prod/x", 0))(t))
	for c, want := range map[*x509.Certificate]Principal{client: "team/alice@x", spiffe: "spiffe://prod/x"} {
		if p, err := FromCertificate(c); p != want {
			t.Errorf("principal %q, %v; want %q", p, err, want)
		}
		roots := x509.NewCertPool()
		roots.AddCert(ca.cert)
		for usage, ok := range map[x509.ExtKeyUsage]bool{x509.ExtKeyUsageClientAuth: true, x509.ExtKeyUsageServerAuth: false} {
			_, err := c.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: clk.now(), KeyUsages: []x509.ExtKeyUsage{usage}})
			if (err == nil) != ok {
				t.Errorf("%s for usage %d: %v", want, usage, err)
			}
		}
	}

	for _, hosts := range [][]string{nil, {""}, {"a:7400"}, {"a b"}, {"-a"}, {"a..b"}, {"fe80::1%eth0"}, {strings.Repeat("a", 64)}, {"*"}} {
		if _, err := ca.IssueServer(hosts, 0); transfer.KindOf(err) != transfer.Invalid {
			t.Errorf("%q: %v, want Invalid", hosts, err)
		}
	}
	for _, p := range []Principal{"", Anonymous, "a b", "spiffe://"} {
		if _, err := ca.IssueClient(p, 0); transfer.KindOf(err) != transfer.Invalid {
			t.Errorf("%q: %v, want Invalid", p, err)
		}
	}
	long := leafOf(t, must(ca.IssueClient(Principal(strings.Repeat("a", MaxPrincipal)), 0))(t))
	if p, err := FromCertificate(long); len(p) != MaxPrincipal {
		t.Errorf("the longest name: %d octets, %v", len(p), err)
	}

	if err := must(ca.IssueClient("x", 0))(t).Write(filepath.Join(dir, "x.crt"), filepath.Join(dir, "x.key"), false); err != nil {
		t.Fatal(err)
	}
	_, err := LoadCA(filepath.Join(dir, "x.crt"), filepath.Join(dir, "x.key"), clk.now)
	wantKind(t, err, transfer.Invalid, "not that of an authority")
}
