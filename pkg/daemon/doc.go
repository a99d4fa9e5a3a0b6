// Package daemon runs a service's tasks: it starts them in order, stops them in
// reverse order within a bounded time, and turns signals into a cancelled
// context.
//
// # Use
//
//	ctx, stop := daemon.Signals(ctx)
//	defer stop()
//	var g daemon.Group
//	g.Add(daemon.Task{Name: "lanes", Run: …})
//	g.Add(daemon.Task{Name: "control plane", Run: …, Stop: …})
//	err := g.Run(ctx, 10*time.Second)
//
// # Why reverse order
//
// What is added later uses what was added before: the control plane must stop
// taking offers while the lanes and the store that it hands out still work.
package daemon
