// Package client is the Go client of the sender service: other programs hand it
// files and learn for certain that they arrived.
//
//	c, err := client.Dial(client.Config{Target: "127.0.0.1:7410"})
//	defer c.Close()
//	job, err := c.Submit(ctx, client.Spec{
//		Sources:   []client.Source{{Path: "/outbox/build.tar"}},
//		Receiver:  "archive",
//		RequestID: "build-1234", // makes a repeated Submit safe
//	})
//	job, err = c.Wait(ctx, job.ID)
//	if job.State == client.Succeeded { … job.Receipt … }
//
// # Errors
//
// Every error is a *transfer.Error; its Kind tells what to do (transfer.KindOf).
// Unavailable, Busy and NoSpace may be tried again; a Submit with a request id
// may always be repeated. The client itself never repeats a call.
//
// # Cancellation
//
// A call ends with its context. Ending Wait or Watch does not touch the job.
//
// # Why its own package
//
// Programs import this and nothing else of Sluice's: types are aliases, so that
// what Submit takes and Wait returns reads the same in the whole project.
package client

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/e27efefb/sluice/pkg/auth"
	"github.com/e27efefb/sluice/pkg/control"
	"github.com/e27efefb/sluice/pkg/jobs"
	"github.com/e27efefb/sluice/pkg/netdiag"
	"github.com/e27efefb/sluice/pkg/transfer"
	pb "github.com/e27efefb/sluice/proto/sluice/v1"
)

type (
	// Spec is what is asked for.
	Spec = jobs.Spec
	// Source is one file or directory of a job.
	Source = jobs.Source
	// Job is one durable record.
	Job = jobs.Job
	// State is where a job stands.
	State = jobs.State
	// Filter chooses jobs for a page of a list.
	Filter = jobs.Filter
	// Page is one page of jobs, newest first.
	Page = jobs.Page
	// Progress is what is known of a running job.
	Progress = jobs.Progress
	// Receipt is what the receiver returned.
	Receipt = transfer.Receipt
	// ID names a job, and the transfer that it makes.
	ID = transfer.ID
	// Connection is one end of a TCP connection of the service.
	Connection = netdiag.Conn
)

// The states of a job.
const (
	Queued    = jobs.Queued
	Running   = jobs.Running
	Waiting   = jobs.Waiting
	Succeeded = jobs.Succeeded
	Partial   = jobs.Partial
	Failed    = jobs.Failed
	Canceled  = jobs.Canceled
)

// Receiver is a configured receiver and what the sender knows of it.
type Receiver struct {
	Name        string        `json:"name"`
	Address     string        `json:"address"`
	Groups      []string      `json:"groups,omitempty"`
	State       string        `json:"state"` // unknown, alive, suspect, udp_blocked, dead
	Serving     bool          `json:"serving"`
	Draining    bool          `json:"draining"`
	RTT         time.Duration `json:"rtt_ns"`
	Jitter      time.Duration `json:"jitter_ns"`
	Loss        float64       `json:"loss"` // 0 to 1
	Load        float64       `json:"load"` // 0 to 1
	Active      int           `json:"active"`
	FreeSlots   int           `json:"free_slots"`
	FreeBytes   int64         `json:"free_bytes"`
	Incarnation uint64        `json:"incarnation"`
	Note        string        `json:"note,omitempty"`
	Since       time.Time     `json:"since,omitzero"` // of the state
}

// Config says how to reach the sender service.
type Config struct {
	Target  string          // host:port; required
	TLS     *auth.ClientTLS // nil: no TLS
	Token   *auth.Bearer    // nil: none
	Name    string          // name that the certificate must have; "": the host
	Timeout time.Duration   // of calls that do not wait by their nature; 0: 30 s
}

// Client is safe for concurrent use.
type Client struct {
	conn *grpc.ClientConn
	rpc  pb.SenderServiceClient
}

// Dial returns a client; the connection is made by the first call and again
// after it was lost. The error is Invalid. Close it.
func Dial(cfg Config) (*Client, error) {
	c := control.ClientConfig{Target: cfg.Target, Timeout: cfg.Timeout}
	if cfg.TLS != nil {
		c.TLS = cfg.TLS.Credentials(cfg.Name)
	}
	if cfg.Token != nil {
		c.Token = cfg.Token
	}
	conn, err := control.DialConn(c)
	if err != nil {
		return nil, err
	}
	return &Client{conn: conn, rpc: pb.NewSenderServiceClient(conn)}, nil
}

// Close ends the connection and every call that runs.
func (c *Client) Close() error { return c.conn.Close() }

// job takes the job out of an answer.
func job(m interface{ GetJob() *pb.Job }, err error) (*Job, error) {
	if err != nil {
		return nil, control.FromStatus(err)
	}
	return control.JobFromProto(m.GetJob())
}

// Submit stores a job durably and returns it. With a request id it may be
// repeated: the same caller and id give the same job, and Exists if it asks for
// something else.
func (c *Client) Submit(ctx context.Context, s Spec) (*Job, error) {
	m, err := c.rpc.SubmitTransfer(ctx, control.SpecToProto(&s))
	return job(m, err)
}

// Get returns a job.
func (c *Client) Get(ctx context.Context, id ID) (*Job, error) {
	m, err := c.rpc.GetTransfer(ctx, &pb.SenderServiceGetTransferRequest{JobId: id.String()})
	return job(m, err)
}

// List returns a page of jobs, newest first.
func (c *Client) List(ctx context.Context, f Filter) (Page, error) {
	r := &pb.SenderServiceListTransfersRequest{
		PageSize: int32(min(max(f.PageSize, 0), 1000)), PageToken: f.PageToken, Receiver: f.Receiver, Principal: f.Principal, //nolint:gosec // bounded
	}
	for _, s := range f.States {
		r.States = append(r.States, pb.JobState(s))
	}
	if !f.After.IsZero() {
		r.CreatedAfter = timestamppb.New(f.After)
	}
	if !f.Before.IsZero() {
		r.CreatedBefore = timestamppb.New(f.Before)
	}
	m, err := c.rpc.ListTransfers(ctx, r)
	if err != nil {
		return Page{}, control.FromStatus(err)
	}
	p := Page{Next: m.GetNextPageToken()}
	for _, j := range m.GetJobs() {
		v, err := control.JobFromProto(j)
		if err != nil {
			return Page{}, err
		}
		p.Jobs = append(p.Jobs, *v)
	}
	return p, nil
}

// Watch calls fn for each job now and after every change, at most each 200 ms,
// until all have ended, fn fails or ctx ends. Without ids it tells of all jobs
// that are not finished, until ctx ends.
func (c *Client) Watch(ctx context.Context, ids []ID, fn func(*Job) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := &pb.SenderServiceWatchTransfersRequest{}
	for _, id := range ids {
		r.JobIds = append(r.JobIds, id.String())
	}
	s, err := c.rpc.WatchTransfers(ctx, r)
	if err != nil {
		return control.FromStatus(err)
	}
	return each(s, func(m *pb.SenderServiceWatchTransfersResponse) error {
		j, err := control.JobFromProto(m.GetJob())
		if err != nil {
			return err
		}
		return fn(j)
	})
}

// Wait returns the job when it has ended.
func (c *Client) Wait(ctx context.Context, id ID) (*Job, error) {
	m, err := c.rpc.WaitTransfer(ctx, &pb.WaitTransferRequest{JobId: id.String()})
	return job(m, err)
}

// WaitFor is Wait for at most d; then it returns the job as it is.
func (c *Client) WaitFor(ctx context.Context, id ID, d time.Duration) (*Job, error) {
	m, err := c.rpc.WaitTransfer(ctx, &pb.WaitTransferRequest{JobId: id.String(), Timeout: durationpb.New(d)})
	return job(m, err)
}

// Cancel ends a job; one that has ended is returned as it is.
func (c *Client) Cancel(ctx context.Context, id ID, reason string) (*Job, error) {
	m, err := c.rpc.CancelTransfer(ctx, &pb.CancelTransferRequest{JobId: id.String(), Reason: reason})
	return job(m, err)
}

// Retry queues a failed, partial or cancelled job again, or makes a waiting one
// run now.
func (c *Client) Retry(ctx context.Context, id ID) (*Job, error) {
	m, err := c.rpc.RetryTransfer(ctx, &pb.RetryTransferRequest{JobId: id.String()})
	return job(m, err)
}

// Update changes the rate limit (octets per second, 0 for none) and the priority
// of a job that has not ended; nil leaves a value as it is.
func (c *Client) Update(ctx context.Context, id ID, limit *int64, priority *int32) (*Job, error) {
	m, err := c.rpc.UpdateTransfer(ctx, &pb.UpdateTransferRequest{JobId: id.String(), RateLimit: limit, Priority: priority})
	return job(m, err)
}

// Receivers lists the configured receivers and their health.
func (c *Client) Receivers(ctx context.Context) ([]Receiver, error) {
	m, err := c.rpc.ListReceivers(ctx, &pb.ListReceiversRequest{})
	if err != nil {
		return nil, control.FromStatus(err)
	}
	var out []Receiver
	for _, r := range m.GetReceivers() {
		out = append(out, receiver(r))
	}
	return out, nil
}

// Connections lists the service's TCP connections: the lanes of its jobs, labelled
// by job, its control connections to receivers ("control") and those of its API. A
// job other than the zero ID has its lanes listed only. Denied for whoever may see
// no jobs of others, unless a job is given.
func (c *Client) Connections(ctx context.Context, job ID) ([]Connection, error) {
	r := &pb.SenderServiceListConnectionsRequest{}
	if !job.IsZero() {
		r.JobId = job.String()
	}
	m, err := c.rpc.ListConnections(ctx, r)
	if err != nil {
		return nil, control.FromStatus(err)
	}
	return control.ConnectionsFromProto(m.GetConnections())
}

// WatchReceivers calls fn with every receiver now and each second.
func (c *Client) WatchReceivers(ctx context.Context, fn func(Receiver) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := c.rpc.WatchReceivers(ctx, &pb.WatchReceiversRequest{})
	if err != nil {
		return control.FromStatus(err)
	}
	return each(s, func(m *pb.WatchReceiversResponse) error { return fn(receiver(m.GetReceiver())) })
}
