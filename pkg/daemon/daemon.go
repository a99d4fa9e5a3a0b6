package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// ErrSignal is the cause of a context that a signal cancelled.
var ErrSignal = errors.New("stopped by a signal")

// exitAtOnce is the exit code of a second signal: 128 + SIGINT, as shells count.
const exitAtOnce = 130

// Signals returns a context that SIGINT or SIGTERM cancels. A second signal ends
// the process at once: somebody is in a hurry, and everything that counts is
// durable already. Call stop to give the signals back.
func Signals(parent context.Context) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	c := make(chan os.Signal, 2)
	done := make(chan struct{})
	finished := make(chan struct{})
	signal.Notify(c, os.Interrupt, syscall.SIGTERM)
	go func() {
		defer close(finished)
		for first := true; ; first = false {
			select {
			case <-c:
				if !first {
					os.Exit(exitAtOnce)
				}
				cancel(ErrSignal)
			case <-done:
				return
			}
		}
	}()
	return ctx, func() {
		signal.Stop(c)
		close(done)
		<-finished
		cancel(nil)
	}
}

// Task is one part of a service.
type Task struct {
	Name string
	// Run works until its context ends. An error, or a return before that, stops
	// the whole group.
	Run func(ctx context.Context) error
	// Stop is called first when the group stops, to end work gracefully; its
	// context ends when the time is up. Then Run's context is cancelled. nil: only
	// that.
	Stop func(ctx context.Context) error
}

// Group is the tasks of a service. The zero value is empty.
type Group struct{ tasks []Task }

// Add adds a task that may use those added before.
func (g *Group) Add(t Task) { g.tasks = append(g.tasks, t) }

// Run starts all tasks in order and returns when all have ended: after ctx ended,
// or one of them did. Stopping takes at most limit, after which tasks that have
// not ended are reported by name and left behind.
func (g *Group) Run(ctx context.Context, limit time.Duration) error {
	type ended struct {
		index int
		err   error
	}
	results := make(chan ended, len(g.tasks))
	cancels := make([]context.CancelFunc, len(g.tasks))
	base := context.WithoutCancel(ctx)
	for i, t := range g.tasks {
		tctx, cancel := context.WithCancel(base)
		cancels[i] = cancel
		go func() { results <- ended{i, safely(t.Run, tctx)} }()
	}
	running := make([]bool, len(g.tasks))
	for i := range running {
		running[i] = true
	}
	var errs []error
	note := func(e ended, early bool) {
		running[e.index] = false
		name := g.tasks[e.index].Name
		switch {
		case e.err != nil:
			errs = append(errs, fmt.Errorf("%s: %w", name, e.err))
		case early:
			errs = append(errs, fmt.Errorf("%s: ended unexpectedly", name))
		}
	}
	if len(g.tasks) > 0 {
		select {
		case <-ctx.Done():
		case e := <-results:
			note(e, true)
		}
	}
	stopCtx, cancel := context.WithTimeout(base, limit)
	defer cancel()
	for i := len(g.tasks) - 1; i >= 0; i-- {
		if t := g.tasks[i]; t.Stop != nil && running[i] {
			if err := safely(t.Stop, stopCtx); err != nil {
				errs = append(errs, fmt.Errorf("stop %s: %w", t.Name, err))
			}
		}
		cancels[i]()
		for running[i] {
			select {
			case e := <-results:
				note(e, false)
			case <-stopCtx.Done():
				errs = append(errs, fmt.Errorf("stop %s: not done within %s", g.tasks[i].Name, limit))
				running[i] = false
			}
		}
	}
	return errors.Join(errs...)
}

// safely turns a panic into an error, so that the other tasks stop in order.
func safely(f func(context.Context) error, ctx context.Context) (err error) { //nolint:revive // the function comes first here
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return f(ctx)
}
