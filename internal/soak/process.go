package soak

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// process is one of the two services, started again at the same addresses after
// every kill.
type process struct {
	program string
	args    []string
	log     *os.File
	where   map[string]string // the serving line of the last start
	cmd     *exec.Cmd
	done    chan struct{}
}

// startProcess starts program of bin for the first time, with its log in dir.
func startProcess(bin, dir, name string, args ...string) (*process, error) {
	log, err := os.Create(filepath.Join(dir, name+".log"))
	if err != nil {
		return nil, err
	}
	p := &process{program: filepath.Join(bin, name), args: args, log: log}
	return p, p.start()
}

func (p *process) start() error {
	args := append([]string{"serve", "--json"}, p.args...)
	for flag, key := range map[string]string{"--listen": "control", "--data-listen": "data", "--ping-listen": "ping"} {
		if addr := p.where[key]; addr != "" {
			args = append(args, flag, addr)
		}
	}
	p.cmd, p.done = exec.Command(p.program, args...), make(chan struct{}) //nolint:gosec,noctx // our own program, ended by kill
	p.cmd.Stderr = p.log
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &p.where)
	}
	go func() {
		defer close(p.done)
		_, _ = io.Copy(io.Discard, out)
		_ = p.cmd.Wait()
	}()
	if err != nil {
		p.kill()
		return fmt.Errorf("%s did not serve: %w; its log is %s", p.program, err, p.log.Name())
	}
	return nil
}

// kill ends the process by SIGKILL, without any warning, and waits for it.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// stop ends the process gracefully, or by force after ten seconds.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(os.Interrupt)
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
		p.kill()
	}
	_ = p.log.Close()
}
