package cmdtest

import (
	"crypto/sha256"
	"encoding/pem"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdServeSender starts a sender service: serve-sender STATE [flags]; $API,
// $API_PING and $API_ADMIN are set.
func cmdServeSender(ts *testscript.TestScript, _ bool, args []string) {
	env := []string{"HOME=" + ts.Getenv("WORK"), "PATH=" + ts.Getenv("PATH"), "XDG_STATE_HOME=" + ts.Getenv("XDG_STATE_HOME")}
	s, err := start(env, ts.MkAbs("."), "sender", append(senderArgs(ts.MkAbs(args[0])), args[1:]...)...)
	ts.Check(err)
	ts.Setenv("API", s.where["control"])
	ts.Setenv("API_PING", s.where["ping"])
	ts.Setenv("API_ADMIN", s.where["admin"])
	ts.Defer(func() {
		if err := s.stop(); err != nil {
			ts.Logf("%v\n%s", err, s.log)
		}
	})
}

func senderArgs(state string) []string {
	return []string{"--state", state, "--listen", "127.0.0.1:0", "--ping-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"}
}

// cmdKeep puts the output of the last command, which is one word, into a
// variable: keep NAME. "keep NAME port" takes the part after the last colon of
// another variable: keep NAME port OTHER.
func cmdKeep(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) == 3 && args[1] == "port" {
		v := ts.Getenv(args[2])
		ts.Setenv(args[0], v[strings.LastIndexByte(v, ':')+1:])
		return
	}
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}

// cmdFingerprint adds a certificate to a deny list: fingerprint CERT FILE.
func cmdFingerprint(ts *testscript.TestScript, _ bool, args []string) {
	block, _ := pem.Decode([]byte(ts.ReadFile(args[0])))
	if block == nil {
		ts.Fatalf("%s holds no certificate", args[0])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), fmt.Appendf(nil, "sha256:%x\n", sha256.Sum256(block.Bytes)), 0o600))
}

// cmdUntil waits for a file: until FILE.
func cmdUntil(ts *testscript.TestScript, _ bool, args []string) {
	deadline := time.Now().Add(patience)
	for {
		_, err := os.Stat(ts.MkAbs(args[0]))
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s never came", args[0])
		}
		time.Sleep(5 * time.Millisecond)
	}
}
