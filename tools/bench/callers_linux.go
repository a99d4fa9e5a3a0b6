package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/e27efefb/sluice/pkg/client"
	"github.com/e27efefb/sluice/pkg/control"
	pb "github.com/e27efefb/sluice/proto/sluice/v1"
)

// callers is how many programs call at once, each on a connection of its own.
const callers = 64

// serving is one of the two services, running.
type serving struct {
	*process
	dir                  string // of its files
	Event, Control, Ping string
	Admin                string
}

// serve starts a service with its files in dir and waits until it serves.
func (b *bench) serve(ctx context.Context, program, dir string, args ...string) (*serving, error) {
	argv := append([]string{
		filepath.Join(b.bin, program), "serve", "--json", "--log-level", "warn", "--listen", "127.0.0.1:0", "--ping-listen", "127.0.0.1:0",
	}, args...)
	p, err := start(ctx, dir, nil, argv)
	if err != nil {
		return nil, err
	}
	s := &serving{process: p, dir: dir}
	line, err := p.firstLine()
	if err == nil {
		err = json.Unmarshal([]byte(line), s)
	}
	if err != nil || s.Event != "serving" {
		p.close()
		return nil, errors.Join(err, fmt.Errorf("%s said %q, which is not a serving event", program, line))
	}
	return s, nil
}

// receiver starts a receiver that publishes below dir.
func (b *bench) receiver(ctx context.Context, dir string, args ...string) (*serving, error) {
	return b.serve(ctx, "receiver", dir, append([]string{"--dir", filepath.Join(dir, "in"), "--data-listen", "127.0.0.1:0"}, args...)...)
}

// sender starts a sender with its job file below dir that knows to as "far".
func (b *bench) sender(ctx context.Context, dir string, to *serving, args ...string) (*serving, error) {
	ping := to.Ping[strings.LastIndexByte(to.Ping, ':')+1:]
	return b.serve(ctx, "sender", dir, append([]string{
		"--admin-listen", "off", "--state", filepath.Join(dir, "state"), "--source-root", dir, "--receiver", "far=" + to.Control + "/" + ping,
	}, args...)...)
}

// dialAs returns a connection that comes from an address of its own, 127.1.0.0
// and on: calls are limited for each address, and callers are usually machines
// of their own.
func dialAs(caller int, target string, creds credentials.TransportCredentials) (*grpc.ClientConn, error) {
	if creds == nil {
		creds = insecure.NewCredentials()
	}
	from := &net.TCPAddr{IP: net.IPv4(127, 1, byte(caller>>8), byte(caller))} //nolint:gosec // two octets
	return grpc.NewClient("passthrough:///"+target, grpc.WithTransportCredentials(creds),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			return (&net.Dialer{LocalAddr: from}).DialContext(ctx, "tcp", addr)
		}))
}

// queue is a sender service and the connections to it.
type queue struct {
	*serving
	conns []*grpc.ClientConn
	next  atomic.Int64 // number of the next job
}

// open makes the connections, and the calls that they are made by.
func (s *serving) open(ctx context.Context) (*queue, error) {
	q := &queue{serving: s}
	for i := range callers {
		c, err := dialAs(i, s.Control, nil)
		if err != nil {
			return nil, errors.Join(err, q.hangUp())
		}
		q.conns = append(q.conns, c)
		if _, err := q.rpc(i).ListTransfers(ctx, &pb.SenderServiceListTransfersRequest{PageSize: 1}); err != nil {
			return nil, errors.Join(err, q.hangUp())
		}
	}
	return q, nil
}

func (q *queue) hangUp() error {
	var err error
	for _, c := range q.conns {
		err = errors.Join(err, c.Close())
	}
	return err
}

func (q *queue) rpc(caller int) pb.SenderServiceClient {
	return pb.NewSenderServiceClient(q.conns[caller%len(q.conns)])
}

// submit stores one job that sends the file "source" under a name of its own.
func (q *queue) submit(ctx context.Context, caller int, limit int64, priority int32) (string, error) {
	n := q.next.Add(1)
	m, err := q.rpc(caller).SubmitTransfer(ctx, control.SpecToProto(&client.Spec{
		RequestID: fmt.Sprintf("bench-%d", n), Receiver: "far", Limit: limit, Priority: priority,
		Sources: []client.Source{{Path: filepath.Join(q.dir, "source"), As: fmt.Sprintf("file-%06d", n)}},
	}))
	return m.GetJob().GetId(), err
}

// submitAll has all callers submit n jobs together. It returns their ids.
func (q *queue) submitAll(ctx context.Context, n int, limit int64) ([]string, error) {
	ids := make([]string, n)
	return ids, together(ctx, n, func(ctx context.Context, caller, i int) (err error) {
		ids[i], err = q.submit(ctx, caller, limit, 0)
		return err
	})
}

// together has all callers do n things between them.
func together(ctx context.Context, n int, do func(ctx context.Context, caller, i int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for caller := range callers {
		g.Go(func() error {
			for {
				i := int(next.Add(1) - 1)
				if i >= n {
					return nil
				}
				if err := do(ctx, caller, i); err != nil {
					return err
				}
			}
		})
	}
	return g.Wait()
}

// longest is how long one kind of call is measured at most: calls that are far
// too slow are to give a figure too.
const longest = 20 * time.Second

// timed calls f n times, one after another, or fewer when that takes too long.
func timed(n int, f func(i int) error) ([]time.Duration, error) {
	var took []time.Duration
	for first := time.Now(); len(took) < n && time.Since(first) < longest; {
		begin := time.Now()
		if err := f(len(took)); err != nil {
			return nil, err
		}
		took = append(took, time.Since(begin))
	}
	return took, nil
}

// end stops services and tells of those that did not.
func end(all ...*serving) error {
	var err error
	for _, s := range all {
		if s != nil {
			err = errors.Join(err, s.stop())
			s.close()
		}
	}
	return err
}

// onDiskDir makes a directory on the real disk, with the file that jobs send.
func (b *bench) onDiskDir(size int64) (string, func() error, error) {
	dir, err := os.MkdirTemp(b.disk, "sluice-bench-")
	if err != nil {
		return "", nil, err
	}
	remove := func() error { return os.RemoveAll(dir) }
	if dir, err = filepath.EvalSymlinks(dir); err == nil {
		err = randomFile(filepath.Join(dir, "source"), size)
	}
	if err != nil {
		return "", nil, errors.Join(err, remove())
	}
	return dir, remove, nil
}
