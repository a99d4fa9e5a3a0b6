package cmdtest

import (
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func document(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(append([]string{"..", ".."}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func httpGet(ctx context.Context, url string) (code int, text string, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// promised are the metrics of the tables of docs/operations.md for a service, by
// name: their type and, sorted, their labels.
func promised(t *testing.T, text, service string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(sluice_"+service+"_[a-z_]+)(?:\\{([a-z,]+)\\})?` \\| ([a-z]+) \\|").FindAllStringSubmatch(text, -1) {
		labels := strings.Split(m[2], ",")
		slices.Sort(labels)
		out[m[1]] = m[3] + " " + strings.Join(labels, ",")
	}
	if len(out) < 8 {
		t.Fatalf("docs/operations.md promises %d metrics of the %s", len(out), service)
	}
	return out
}

// served reads an answer of /metrics the same way.
func served(text, service string) map[string]string {
	types, out := map[string]string{}, map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (sluice_`+service+`_\S+) (\S+)$`).FindAllStringSubmatch(text, -1) {
		types[m[1]] = m[2]
	}
	for _, m := range regexp.MustCompile(`(?m)^(sluice_`+service+`_[a-z_]+)(?:\{(.*)\})? \S+$`).FindAllStringSubmatch(text, -1) {
		name := m[1]
		if _, ok := types[name]; !ok { // a part of a histogram
			name = name[:strings.LastIndexByte(name, '_')]
		}
		var labels []string
		for _, l := range regexp.MustCompile(`([a-z_]+)="`).FindAllStringSubmatch(m[2], -1) {
			if l[1] != "le" {
				labels = append(labels, l[1])
			}
		}
		slices.Sort(labels)
		out[name] = types[name] + " " + strings.Join(labels, ",")
	}
	return out
}

// TestOperationsPage holds docs/operations.md to the running services: its
// metrics, types and labels are those of /metrics, no more and no less, and its
// probes answer. One job has run, since what nobody counted yet is not shown.
func TestOperationsPage(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	page, tmp := document(t, "docs", "operations.md"), t.TempDir()
	file := filepath.Join(tmp, "a.txt")
	if err := os.WriteFile(file, []byte("hello\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	recv, err := start(os.Environ(), tmp, "receiver", localArgs(filepath.Join(tmp, "inbox"))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(recv.kill)
	_, ping, _ := strings.Cut(recv.where["ping"], ":")
	send, err := start(os.Environ(), tmp, "sender", append(senderArgs(filepath.Join(tmp, "jobs")), "--admin-listen", "127.0.0.1:0", "--source-root", tmp, "--receiver", "r="+recv.where["control"]+"/"+ping)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(send.kill)
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "sender"), "jobs", "submit", file, "--receiver", "r", "--at", send.where["control"], "--wait")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for service, s := range map[string]*service{"receiver": recv, "sender": send} {
		for _, probe := range []string{"/healthz", "/readyz"} {
			if code, text, err := httpGet(ctx, "http://"+s.where["admin"]+probe); code != http.StatusOK || !strings.Contains(text, `{"ready":true}`) {
				t.Errorf("%s %s: %d %s %v", service, probe, code, text, err)
			}
		}
		want := promised(t, page, service)
		for {
			_, text, err := httpGet(ctx, "http://"+s.where["admin"]+"/metrics")
			if err != nil {
				t.Fatalf("the %s never served what docs/operations.md promises: %v", service, err)
			}
			got := served(text, service)
			lacks := ""
			for name := range want {
				if _, ok := got[name]; !ok {
					lacks = name
				}
			}
			if lacks != "" && ctx.Err() == nil { // a ping has to come first
				continue
			}
			for name, is := range got {
				if want[name] != is {
					t.Errorf("%s is a %q, and docs/operations.md promises a %q", name, is, want[name])
				}
			}
			for _, name := range regexp.MustCompile("`(sluice_(?:build_info|files_stale))\\{").FindAllStringSubmatch(page, -1) {
				if !strings.Contains(text, "\n"+name[1]+"{") {
					t.Errorf("the %s has no %s", service, name[1])
				}
			}
			break
		}
	}
}

// TestOperationsCommands: every command and flag that docs/operations.md names is
// in docs/commands.md, which is held to the programs, and every variable of gates
// is one that the gate sets.
func TestOperationsCommands(t *testing.T) {
	t.Parallel()
	page, commands, gate := document(t, "docs", "operations.md"), document(t, "docs", "commands.md"), document(t, "pkg", "recv", "gate.go")
	n := 0
	for _, m := range regexp.MustCompile("`((?:receiver|sender)(?: [a-z]+(?:-[a-z]+)*)+)[^`]*`").FindAllStringSubmatch(page, -1) {
		n++
		if head := "### `" + m[1]; !strings.Contains(commands, head+"`") && !strings.Contains(commands, head+" <") && !strings.Contains(commands, head+" [") {
			t.Errorf("there is no command %s", m[1])
		}
	}
	for _, span := range regexp.MustCompile("`[^`\n]+`").FindAllString(page, -1) {
		if strings.HasPrefix(span, "`COPY ") {
			continue // of a Dockerfile
		}
		for _, flag := range regexp.MustCompile(`--[a-z][a-z-]+`).FindAllString(span, -1) {
			n++
			if !strings.Contains(commands, flag+"`") && !strings.Contains(commands, flag+" ") {
				t.Errorf("there is no flag %s", flag)
			}
		}
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `(SLUICE_[A-Z_]+)` \\|").FindAllStringSubmatch(page, -1) {
		n++
		if !strings.Contains(gate, `"`+m[1]+"=") {
			t.Errorf("the gate does not set %s", m[1])
		}
	}
	if n < 50 {
		t.Errorf("only %d commands, flags and variables were found", n)
	}
}
