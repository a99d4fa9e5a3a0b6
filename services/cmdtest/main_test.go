// Package cmdtest tests both programs as their users run them: as processes, by
// their flags, output and exit codes.
package cmdtest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"github.com/e27efefb/sluice/internal/logtest"
)

// bin is the directory of both programs, built once.
var bin string //nolint:gochecknoglobals // set once by TestMain

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "sluice-cmdtest-")
	if err != nil {
		panic(err)
	}
	cmd := exec.Command("go", "build", "-o", dir, "../sender", "../receiver")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		os.Exit(1) //nolint:forbidigo // TestMain is main here
	}
	bin = dir
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(dir)
		os.Exit(code) //nolint:forbidigo // TestMain is main here
	}))
}

// patience bounds every wait; nothing waits this long on a healthy machine.
const patience = 4 * time.Minute

// service is a running receiver or sender.
type service struct {
	cmd   *exec.Cmd
	where map[string]string // the serving line
	done  chan struct{}
	log   *logtest.Buffer
}

// start runs a service and waits until it says where it serves.
func start(env []string, dir, program string, args ...string) (*service, error) {
	s := &service{cmd: exec.Command(filepath.Join(bin, program), append([]string{"serve", "--json"}, args...)...), done: make(chan struct{}), log: &logtest.Buffer{}}
	s.cmd.Env, s.cmd.Dir, s.cmd.Stderr = env, dir, s.log
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	// One that hangs says where.
	hang := time.AfterFunc(patience/2, func() { _ = s.cmd.Process.Signal(syscall.SIGQUIT) })
	line, err := bufio.NewReader(out).ReadBytes('\n')
	hang.Stop()
	if err == nil {
		err = json.Unmarshal(line, &s.where)
	}
	go func() {
		_, _ = io.Copy(io.Discard, out)
		_ = s.cmd.Wait()
		close(s.done)
	}()
	if err != nil {
		s.kill()
		return nil, fmt.Errorf("%s did not serve: %w: %s%s", program, err, line, s.log)
	}
	return s, nil
}

// kill ends the service by SIGKILL and waits for it.
func (s *service) kill() {
	_ = s.cmd.Process.Kill()
	<-s.done
}

// stop ends the service gracefully.
func (s *service) stop() error {
	_ = s.cmd.Process.Signal(os.Interrupt)
	select {
	case <-s.done:
		return nil
	case <-time.After(patience):
		s.kill()
		return fmt.Errorf("%v did not stop", s.cmd.Args)
	}
}

func localArgs(dir string) []string {
	return []string{"--dir", dir, "--listen", "127.0.0.1:0", "--data-listen", "127.0.0.1:0", "--ping-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"}
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
			e.Setenv("XDG_STATE_HOME", filepath.Join(e.WorkDir, ".state"))
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"serve":        cmdServe,
			"serve-sender": cmdServeSender,
			"exits":        cmdExits,
			"keep":         cmdKeep,
			"fingerprint":  cmdFingerprint,
			"until":        cmdUntil,
			"bigger":       cmdBigger,
			"same":         cmdSame,
		},
	})
}

// cmdServe starts a receiver: serve DIR [flags]; $CONTROL, $ADMIN … are set.
func cmdServe(ts *testscript.TestScript, _ bool, args []string) {
	dir := ts.MkAbs(args[0])
	env := []string{"HOME=" + ts.Getenv("WORK"), "PATH=" + ts.Getenv("PATH"), "XDG_STATE_HOME=" + ts.Getenv("XDG_STATE_HOME")}
	s, err := start(env, ts.MkAbs("."), "receiver", append(localArgs(dir), args[1:]...)...)
	ts.Check(err)
	for k, v := range s.where {
		ts.Setenv(strings.ToUpper(k), v)
	}
	ts.Defer(func() {
		if err := s.stop(); err != nil {
			ts.Logf("%v\n%s", err, s.log)
		}
	})
}

// cmdExits runs a program and checks the exit code: exits CODE PROGRAM ARGS.
func cmdExits(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	if err != nil {
		code = -1
		if ee, ok := err.(*exec.ExitError); ok { //nolint:errorlint // as Exec returns it
			code = ee.ExitCode()
		}
	}
	if fmt.Sprint(code) != args[0] {
		ts.Fatalf("%v: exit code %d (%v), want %s", args[1:], code, err, args[0])
	}
}

// cmdBigger makes a sparse file: bigger FILE BYTES, with a few octets in it.
func cmdBigger(ts *testscript.TestScript, _ bool, args []string) {
	var size int64
	_, err := fmt.Sscan(args[1], &size)
	ts.Check(err)
	f, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Check(f.Truncate(size))
	for off := int64(0); off < size-5; off += size/3 + 1 {
		_, err = f.WriteAt([]byte("hello"), off)
		ts.Check(err)
	}
	ts.Check(f.Close())
}

// cmdSame compares two files octet by octet: same A B.
func cmdSame(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(sameFiles(ts.MkAbs(args[0]), ts.MkAbs(args[1])))
}

func sameFiles(a, b string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "cmp", a, b).CombinedOutput(); err != nil {
		return fmt.Errorf("%s and %s differ: %w %s", a, b, err, out)
	}
	return nil
}
