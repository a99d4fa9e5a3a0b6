//go:build interop

package cmdtest

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// realGrpcurl returns the pinned grpcurl (tools/grpcurl/go.mod), built where it is
// not there yet, under its own name in a directory for PATH.
func realGrpcurl(t *testing.T) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "../../tools/tool.sh", "grpcurl")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(strings.TrimSpace(string(out)), filepath.Join(dir, "grpcurl")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// grpcurl runs lines of a shell with grpcurl, and returns what they print.
type grpcurl struct {
	t   *testing.T
	env []string
}

func (g *grpcurl) run(line string, into any) {
	g.t.Helper()
	cmd := exec.CommandContext(g.t.Context(), "sh", "-c", line)
	cmd.Env = g.env
	var problems strings.Builder
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, into)
	}
	if err != nil {
		g.t.Fatalf("%s: %v\n%s%s", line, err, out, problems.String())
	}
}

// TestReadmeGrpcurl runs the lines with grpcurl that the README shows, by the real
// program: as they stand, and as the README says where the service has TLS and
// tokens. Only the address and the directory differ.
func TestReadmeGrpcurl(t *testing.T) {
	path := realGrpcurl(t)
	lines := documented(t, "README.md", `(?m)^(grpcurl .*)$`)
	if len(lines) != 3 {
		t.Fatalf("the README shows %d lines with grpcurl, want 3: %q", len(lines), lines)
	}
	if hints := documented(t, "README.md", "add `(-H \"authorization: Bearer \\$TOKEN\")`, and `-cacert ca.pem` instead of `-plaintext`"); len(hints) != 1 {
		t.Fatalf("the README says %q of tokens", hints)
	}
	for name, secure := range map[string]bool{"plain": false, "TLS and token": true} {
		t.Run(name, func(t *testing.T) {
			tmp, err := filepath.EvalSymlinks(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			outbox := filepath.Join(tmp, "outbox")
			if err := os.MkdirAll(outbox, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(outbox, "build.tar"), []byte("hello\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			recv, err := start(os.Environ(), tmp, "receiver", localArgs(filepath.Join(tmp, "inbox"))...)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(recv.kill)
			args := append(senderArgs(filepath.Join(tmp, "jobs")), "--source-root", outbox, "--receiver", "archive="+recv.where["control"]+"/off")
			g := &grpcurl{t: t, env: append(os.Environ(), "PATH="+path+":"+os.Getenv("PATH"))}
			if secure {
				tool := func(args ...string) string {
					cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "receiver"), args...)
					cmd.Dir = tmp
					out, err := cmd.Output()
					if err != nil {
						t.Fatalf("%q: %v", args, err)
					}
					return strings.TrimSpace(string(out))
				}
				tool("cert", "secrets")
				secret := tool("token", "ci", "--tokens", "tokens")
				args = append(args, "--tls-cert", "secrets/server.pem", "--tls-key", "secrets/server-key.pem", "--tokens", "tokens")
				g.env = append(g.env, "TOKEN="+secret)
			}
			send, err := start(os.Environ(), tmp, "sender", args...)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(send.kill)
			change := []string{"127.0.0.1:7410", send.where["control"], "/outbox", outbox}
			if secure {
				change = append(change, "grpcurl -plaintext", `grpcurl -cacert `+filepath.Join(tmp, "secrets", "ca.pem")+` -H "authorization: Bearer $TOKEN"`)
			}
			as := strings.NewReplacer(change...)
			var submitted, waited struct{ Job struct{ ID, State string } }
			var listed struct{ Jobs []struct{ ID string } }
			g.run(as.Replace(lines[0]), &submitted)
			g.env = append(slices.Clip(g.env), "ID="+submitted.Job.ID)
			g.run(as.Replace(lines[1]), &waited)
			g.run(as.Replace(lines[2]), &listed)
			if waited.Job.ID != submitted.Job.ID || waited.Job.State != "JOB_STATE_SUCCEEDED" || len(listed.Jobs) != 1 || listed.Jobs[0].ID != submitted.Job.ID {
				t.Errorf("submitted %+v, waited %+v, listed %+v", submitted, waited, listed)
			}
			if err := sameFiles(filepath.Join(outbox, "build.tar"), filepath.Join(tmp, "inbox", "build.tar")); err != nil {
				t.Error(err)
			}
			// A submit may be repeated.
			again := submitted
			g.run(as.Replace(lines[0]), &again)
			if again.Job.ID != submitted.Job.ID {
				t.Errorf("the repeated submit made job %s, want %s", again.Job.ID, submitted.Job.ID)
			}
		})
	}
}
