package auth

import (
	"crypto/sha256"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/e27efefb/sluice/internal/logtest"
	"github.com/e27efefb/sluice/pkg/transfer"
)

func TestTokenLookup(t *testing.T) {
	clk := newClock()
	alice, aliceLine := newToken(t, "alice", time.Time{})
	again, againLine := newToken(t, "alice", time.Time{})
	bob, bobLine := newToken(t, "bob", clk.now().Add(time.Hour))
	path := file(t, "# who\n\n"+aliceLine+"\r\n"+againLine+"\n  "+bobLine)
	toks := must(LoadTokens(path, Options{Now: clk.now}))(t)

	for secret, want := range map[string]Principal{alice: "alice", again: "alice", bob: "bob"} {
		if got, err := toks.Lookup(secret); err != nil || got != want {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
	}
	other, _ := newToken(t, "alice", time.Time{})
	for _, bad := range []string{"", "slu_", other, alice + "x", alice[:len(alice)-1], strings.ToUpper(alice), alice[4:]} {
		_, err := toks.Lookup(bad)
		wantUnauthenticated(t, err, "--token-file")
		if bad != "" && len(bad) > 4 && strings.Contains(err.Error(), bad) {
			t.Errorf("the error shows the token: %v", err)
		}
	}
}

func TestTokenExpires(t *testing.T) {
	clk := newClock()
	end := clk.now().Add(time.Hour).Truncate(time.Second)
	secret, line := newToken(t, "bob", end)
	toks := must(LoadTokens(file(t, line), Options{Now: clk.now}))(t)
	clk.advance(end.Sub(clk.now()) - time.Nanosecond)
	if _, err := toks.Lookup(secret); err != nil {
		t.Fatalf("refused 1 ns before its end: %v", err)
	}
	clk.advance(time.Nanosecond)
	_, err := toks.Lookup(secret)
	wantUnauthenticated(t, err, "expired at "+end.UTC().Format(time.RFC3339), "new token")
	if !toks.Has("bob") || toks.Removed("bob") {
		t.Error("expiry removed the principal")
	}
}

func TestNewTokenForm(t *testing.T) {
	secret, line := newToken(t, "a", time.Time{})
	if len(secret) != 47 || !strings.HasPrefix(secret, "slu_") {
		t.Errorf("token has %d characters, want slu_ and 43", len(secret))
	}
	if strings.Contains(line, secret[4:]) {
		t.Error("the line holds the secret")
	}
	for _, bad := range []Principal{"", Anonymous, "two words", "slu_x", "-x", Principal(strings.Repeat("a", 256)), "a\n"} {
		if _, _, err := NewToken(bad, time.Time{}); transfer.KindOf(err) != transfer.Invalid {
			t.Errorf("%q: %v, want Invalid", bad, err)
		}
	}
}

func TestTokenFileStrict(t *testing.T) {
	secret, line := newToken(t, "alice", time.Time{})
	hash := strings.Fields(line)[1]
	for _, c := range []struct{ content, why string }{
		{line + "\n" + line, "line 2: the hash was there before"},
		{"alice", "hash is missing"},
		{"alice md5:00", "sha256:"},
		{"alice " + hash[:40], "64 hexadecimal digits"},
		{line + " expires=tomorrow", "RFC 3339"},
		{line + " expires=2030-01-01T00:00:00Z expires=2031-01-01T00:00:00Z", "only one expires="},
		{line + " admin", "only one expires="},
		{"anonymous " + hash, "name is not allowed"},
		{"a*b " + hash, "name is not allowed"},
		{secret, "holds a token itself"},
		{"alice " + secret, "holds a token itself"},
	} {
		_, err := LoadTokens(file(t, c.content), Options{})
		wantKind(t, err, transfer.Invalid, "line ", c.why)
		if strings.Contains(err.Error(), secret) {
			t.Errorf("the error shows the token: %v", err)
		}
	}
	_, err := LoadTokens(t.TempDir()+"/none", Options{})
	wantKind(t, err, transfer.Invalid, "none", "no such file")
	_, err = LoadTokens(file(t, strings.Repeat("#", MaxFile+1)), Options{})
	wantKind(t, err, transfer.Invalid, "larger than")
}

func TestTokenFileTooMany(t *testing.T) {
	var b strings.Builder
	for i := range MaxTokens + 1 {
		fmt.Fprintf(&b, "p%d sha256:%064x\n", i, i)
	}
	_, err := LoadTokens(file(t, b.String()), Options{})
	wantKind(t, err, transfer.Invalid, "more than 10000 tokens")
}

func TestTokensReload(t *testing.T) {
	clk, log := newClock(), new(logtest.Buffer)
	alice, aliceLine := newToken(t, "alice", time.Time{})
	carol, carolLine := newToken(t, "carol", time.Time{})
	path := file(t, aliceLine)
	info := must(os.Stat(path))(t)
	toks := must(LoadTokens(path, Options{Now: clk.now, Log: logger(log)}))(t)

	// Same size, same time stamp, same inode: the content alone tells.
	put(t, path, carolLine)
	if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	if _, err := toks.Lookup(alice); err != nil {
		t.Fatalf("read again before it was due: %v", err)
	}
	clk.advance(ReloadEvery)
	if p, err := toks.Lookup(carol); p != "carol" {
		t.Fatalf("new token: %q, %v", p, err)
	}
	_, err := toks.Lookup(alice)
	wantUnauthenticated(t, err)
	if !toks.Removed("alice") || toks.Removed("carol") || toks.Removed("never") {
		t.Error("Removed is wrong")
	}
	if toks.Stale() != nil {
		t.Errorf("stale: %v", toks.Stale())
	}

	// Broken, then gone: the set stays, one line in the log for each.
	put(t, path, "carol what")
	for range 3 {
		clk.advance(ReloadEvery)
		if _, err := toks.Lookup(carol); err != nil {
			t.Fatalf("a broken file took a token away: %v", err)
		}
	}
	wantKind(t, toks.Stale(), transfer.Invalid, "line 1", path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		clk.advance(ReloadEvery)
		if _, err := toks.Lookup(carol); err != nil {
			t.Fatalf("a missing file took a token away: %v", err)
		}
	}
	if n := strings.Count(log.String(), "level=ERROR"); n != 2 {
		t.Errorf("%d errors in the log, want 2:\n%s", n, log)
	}
	put(t, path, aliceLine)
	clk.advance(ReloadEvery)
	if _, err := toks.Lookup(alice); err != nil || toks.Stale() != nil {
		t.Errorf("a good file after broken ones: %v, stale %v", err, toks.Stale())
	}
}

// TestTokensReloadConcurrent is for the race detector, and asserts that nobody
// hears of a removed token as good once the file was due.
func TestTokensReloadConcurrent(t *testing.T) {
	clk := newClock()
	secret, line := newToken(t, "alice", time.Time{})
	path := file(t, line)
	toks := must(LoadTokens(path, Options{Now: clk.now}))(t)
	put(t, path, "# nobody")
	clk.advance(ReloadEvery)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if _, err := toks.Lookup(secret); err == nil {
				t.Error("a removed token was accepted after the file was due")
			}
		})
	}
	wg.Wait()
}

// TestReloadMakesOthersWait holds the one that reads the file while others ask:
// they must hear the new value, not the one before.
func TestReloadMakesOthersWait(t *testing.T) {
	clk := newClock()
	reading, release := make(chan struct{}), make(chan struct{})
	path := file(t, "old")
	w := must(watch(Options{Now: clk.now}, func(files [][]byte) (string, error) {
		if string(files[0]) == "new" {
			close(reading)
			<-release
		}
		return string(files[0]), nil
	}, path))(t)
	put(t, path, "new")
	clk.advance(ReloadEvery)
	var wg sync.WaitGroup
	wg.Go(func() { w.get() })
	<-reading
	asking := make(chan struct{}, 8)
	for range cap(asking) {
		wg.Go(func() {
			asking <- struct{}{}
			if got := w.get(); got != "new" {
				t.Errorf("got %q while the file was read", got)
			}
		})
	}
	for range cap(asking) {
		<-asking
	}
	time.Sleep(10 * time.Millisecond) // gives a wrong get the time to show; nothing relies on it
	close(release)
	wg.Wait()
}

// TestWeakTokenRefused asserts what makes plain SHA-256 right: a secret that a
// person chose is not accepted, though its hash be in the file.
func TestWeakTokenRefused(t *testing.T) {
	for _, weak := range []string{"hunter2", "slu_hunter2"} {
		toks := must(LoadTokens(file(t, fmt.Sprintf("alice sha256:%x", sha256.Sum256([]byte(weak)))), Options{}))(t)
		_, err := toks.Lookup(weak)
		wantUnauthenticated(t, err)
	}
}

func BenchmarkLookup(b *testing.B) {
	var s strings.Builder
	for i := range MaxTokens {
		fmt.Fprintf(&s, "p%d sha256:%064x\n", i, i)
	}
	path := b.TempDir() + "/tokens"
	if err := os.WriteFile(path, []byte(s.String()), 0o600); err != nil {
		b.Fatal(err)
	}
	toks, err := LoadTokens(path, Options{})
	if err != nil {
		b.Fatal(err)
	}
	secret, _, _ := NewToken("x", time.Time{})
	for b.Loop() {
		_, _ = toks.Lookup(secret)
	}
}
