package cmdtest

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// span is what the test reads of a span that the console exporter prints.
type span struct {
	Name        string
	SpanContext struct{ TraceID, SpanID string }
	Parent      struct{ TraceID, SpanID string }
}

// spans returns the spans among the lines of a log, by name.
func spans(log string) map[string]span {
	out := map[string]span{}
	for line := range strings.Lines(log) {
		var s span
		if json.Unmarshal([]byte(line), &s) == nil && s.SpanContext.TraceID != "" {
			out[s.Name] = s
		}
	}
	return out
}

// submitTraced sends a file by a job through both services, whose environment has
// env, with a command that has more, and stops them. It returns what the command
// said on standard error.
func submitTraced(t *testing.T, env []string, more ...string) (stderr string, send, recv *service) {
	t.Helper()
	tmp := t.TempDir()
	file := filepath.Join(tmp, "a.txt")
	if err := os.WriteFile(file, []byte("hello\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env = slices.Concat(os.Environ(), env, []string{"XDG_STATE_HOME=" + filepath.Join(tmp, "state")})
	recv, err := start(env, tmp, "receiver", localArgs(filepath.Join(tmp, "inbox"))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(recv.kill)
	send, err = start(env, tmp, "sender", append(senderArgs(filepath.Join(tmp, "jobs")), "--source-root", tmp, "--receiver", "r="+recv.where["control"]+"/off")...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(send.kill)
	cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "sender"), "jobs", "submit", file, "--receiver", "r", "--at", send.where["control"], "--wait")
	cmd.Env = append(env, more...)
	var log bytes.Buffer
	cmd.Stderr = &log
	if out, err := cmd.Output(); err != nil {
		t.Fatalf("%v\n%s%s", err, out, &log)
	}
	for _, s := range []*service{send, recv} { // a graceful stop sends the last spans
		if err := s.stop(); err != nil {
			t.Fatal(err)
		}
	}
	return log.String(), send, recv
}

// TestTrace submits a job from a step of a pipeline that has a trace, and finds
// everything that was done for it under that trace, in three processes.
func TestTrace(t *testing.T) {
	t.Parallel()
	const traceID = "0af7651916cd43dd8448eb211c80319c"
	log, send, recv := submitTraced(t, []string{"OTEL_TRACES_EXPORTER=console"}, "TRACEPARENT=00-"+traceID+"-b7ad6b7169203331-01")
	command, sender, receiver := spans(log), spans(send.log.String()), spans(recv.log.String())
	for _, want := range []struct {
		process string
		spans   map[string]span
		name    string
	}{
		{"command", command, "sender jobs submit"},
		{"sender", sender, "sluice.v1.SenderService/SubmitTransfer"},
		{"sender", sender, "attempt"},
		{"receiver", receiver, "sluice.v1.ReceiverService/Negotiate"},
		{"receiver", receiver, "sluice.v1.ReceiverService/Commit"},
	} {
		if s, ok := want.spans[want.name]; !ok || s.SpanContext.TraceID != traceID {
			t.Errorf("%s: span %s is in trace %q", want.process, want.name, s.SpanContext.TraceID)
		}
	}
	if submit, attempt := sender["sluice.v1.SenderService/SubmitTransfer"], sender["attempt"]; attempt.Parent.SpanID != submit.SpanContext.SpanID {
		t.Errorf("the attempt's parent is %s, and the submit is %s", attempt.Parent.SpanID, submit.SpanContext.SpanID)
	}
	if t.Failed() {
		t.Logf("command: %v\nsender: %v\nreceiver: %v", command, sender, receiver)
	}
}
