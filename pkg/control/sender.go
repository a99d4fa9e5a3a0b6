package control

import (
	"context"
	"slices"
	"time"

	"github.com/e27efefb/sluice/pkg/auth"
	"github.com/e27efefb/sluice/pkg/health"
	"github.com/e27efefb/sluice/pkg/jobs"
	"github.com/e27efefb/sluice/pkg/netdiag"
	"github.com/e27efefb/sluice/pkg/stamp"
	"github.com/e27efefb/sluice/pkg/transfer"
	pb "github.com/e27efefb/sluice/proto/sluice/v1"
)

// FarReceiver is what the sender service knows of one configured receiver.
type FarReceiver struct {
	Name, Address string
	Groups        []string
	Watched       bool         // a ping watches it; else State means nothing
	State         health.State // as the detector says
	Since         time.Time    // of that state
	Note          string
	Summary       health.Summary
	LastHeard     time.Time
}

// SenderConfig sets up the SenderService.
type SenderConfig struct {
	Queue *jobs.Queue // required
	// Admit completes and judges a spec before it is stored: source roots, known
	// receiver, rights. nil: everything passes.
	Admit func(ctx context.Context, p auth.Policy, s *jobs.Spec) error
	// Receivers lists the configured receivers; nil: none.
	Receivers func() []FarReceiver
	// Connections lists our TCP connections, with the lanes' jobs as labels; nil:
	// not supported.
	Connections func(ctx context.Context) ([]netdiag.Conn, error)
	// Stopping ends the calls that wait when the service stops; nil: never.
	Stopping <-chan struct{}
}

// SenderServer serves the SenderService over a queue.
type SenderServer struct {
	pb.UnimplementedSenderServiceServer

	cfg SenderConfig
}

// NewSenderServer returns the service.
func NewSenderServer(cfg SenderConfig) *SenderServer { return &SenderServer{cfg: cfg} }

// owner returns the principal whose jobs the caller may see: "" for all.
func (s *SenderServer) owner(ctx context.Context) (only string, err error) {
	p, policy, err := Caller(ctx)
	if err != nil || p == auth.Anonymous || policy.ListOthers {
		return "", err
	}
	return string(p), nil
}

// SubmitTransfer stores a job.
func (s *SenderServer) SubmitTransfer(ctx context.Context, r *pb.SubmitTransferRequest) (*pb.SubmitTransferResponse, error) {
	spec, err := specFromProto(r.GetSources(), r.GetReceiver(), r.GetRequestId(), r.GetOptions())
	if err != nil {
		return nil, err
	}
	caller, policy, err := Caller(ctx)
	if err != nil {
		return nil, err
	}
	spec.Principal = string(caller)
	if s.cfg.Admit != nil {
		if err := s.cfg.Admit(ctx, policy, &spec); err != nil {
			return nil, err
		}
	}
	j, created, err := s.cfg.Queue.Submit(ctx, spec)
	if err != nil {
		return nil, err
	}
	return &pb.SubmitTransferResponse{Job: JobToProto(j), Created: created}, nil
}

// call runs f on a job of the caller's.
func (s *SenderServer) call(ctx context.Context, id string, f func(principal string, id transfer.ID) (*jobs.Job, error)) (*pb.Job, error) {
	tid, err := idFromProto(id)
	if err != nil {
		return nil, err
	}
	only, err := s.owner(ctx)
	if err != nil {
		return nil, err
	}
	j, err := f(only, tid)
	if err != nil {
		return nil, err
	}
	return JobToProto(j), nil
}

// GetTransfer returns a job.
func (s *SenderServer) GetTransfer(ctx context.Context, r *pb.SenderServiceGetTransferRequest) (*pb.SenderServiceGetTransferResponse, error) {
	j, err := s.call(ctx, r.GetJobId(), s.cfg.Queue.Get)
	if err != nil {
		return nil, err
	}
	return &pb.SenderServiceGetTransferResponse{Job: j}, nil
}

// ListTransfers returns a page of jobs.
func (s *SenderServer) ListTransfers(ctx context.Context, r *pb.SenderServiceListTransfersRequest) (*pb.SenderServiceListTransfersResponse, error) {
	only, err := s.owner(ctx)
	if err != nil {
		return nil, err
	}
	f := jobs.Filter{Principal: r.GetPrincipal(), Receiver: r.GetReceiver(), PageSize: int(r.GetPageSize()), PageToken: r.GetPageToken()}
	if only != "" {
		f.Principal = only
	}
	if f.After, err = timeFromProto(r.GetCreatedAfter()); err != nil {
		return nil, err
	}
	if f.Before, err = timeFromProto(r.GetCreatedBefore()); err != nil {
		return nil, err
	}
	for _, st := range r.GetStates() {
		state, err := jobStateFromProto(st)
		if err != nil {
			return nil, err
		}
		f.States = append(f.States, state)
	}
	page, err := s.cfg.Queue.List(f)
	if err != nil {
		return nil, err
	}
	out := &pb.SenderServiceListTransfersResponse{NextPageToken: page.Next, Jobs: make([]*pb.Job, 0, len(page.Jobs))}
	for i := range page.Jobs {
		out.Jobs = append(out.Jobs, JobToProto(&page.Jobs[i]))
	}
	return out, nil
}

// stoppable returns a context that also ends when the service stops.
func (s *SenderServer) stoppable(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	if s.cfg.Stopping == nil {
		return ctx, func() { cancel(nil) }
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-s.cfg.Stopping:
			e := transfer.Errorf(transfer.Unavailable, "wait for job", "", "the sender is stopping")
			e.RetryAfter = time.Second
			cancel(e)
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		cancel(nil)
		<-done
	}
}

// WatchTransfers streams the changes of jobs; without ids of every job of the
// caller's that changes from now on, until the caller ends it.
func (s *SenderServer) WatchTransfers(r *pb.SenderServiceWatchTransfersRequest, stream pb.SenderService_WatchTransfersServer) error {
	ctx, cancel := s.stoppable(stream.Context())
	defer cancel()
	only, err := s.owner(ctx)
	if err != nil {
		return err
	}
	var ids []transfer.ID
	for _, text := range r.GetJobIds() {
		id, err := idFromProto(text)
		if err != nil {
			return err
		}
		ids = append(ids, id)
	}
	return s.cfg.Queue.WatchAll(ctx, only, ids, func(j *jobs.Job) error {
		return stream.Send(&pb.SenderServiceWatchTransfersResponse{Job: JobToProto(j)})
	})
}

// WaitTransfer returns the job when it has ended, or as it is after the timeout.
func (s *SenderServer) WaitTransfer(ctx context.Context, r *pb.WaitTransferRequest) (*pb.WaitTransferResponse, error) {
	wait, err := durationFromProto(r.GetTimeout())
	if err != nil {
		return nil, err
	}
	ctx, cancel := s.stoppable(ctx)
	defer cancel()
	j, err := s.call(ctx, r.GetJobId(), func(principal string, id transfer.ID) (*jobs.Job, error) {
		if wait <= 0 {
			return s.cfg.Queue.Wait(ctx, principal, id)
		}
		wctx, stop := context.WithTimeout(ctx, wait)
		defer stop()
		j, err := s.cfg.Queue.Wait(wctx, principal, id)
		if err != nil && wctx.Err() != nil && ctx.Err() == nil {
			return s.cfg.Queue.Get(principal, id)
		}
		return j, err
	})
	if err != nil {
		return nil, err
	}
	return &pb.WaitTransferResponse{Job: j}, nil
}

// CancelTransfer ends a job.
func (s *SenderServer) CancelTransfer(ctx context.Context, r *pb.CancelTransferRequest) (*pb.CancelTransferResponse, error) {
	j, err := s.call(ctx, r.GetJobId(), func(principal string, id transfer.ID) (*jobs.Job, error) {
		return s.cfg.Queue.Cancel(ctx, principal, id, r.GetReason())
	})
	if err != nil {
		return nil, err
	}
	return &pb.CancelTransferResponse{Job: j}, nil
}

// RetryTransfer queues a job again.
func (s *SenderServer) RetryTransfer(ctx context.Context, r *pb.RetryTransferRequest) (*pb.RetryTransferResponse, error) {
	j, err := s.call(ctx, r.GetJobId(), func(principal string, id transfer.ID) (*jobs.Job, error) {
		return s.cfg.Queue.Retry(ctx, principal, id)
	})
	if err != nil {
		return nil, err
	}
	return &pb.RetryTransferResponse{Job: j}, nil
}

// UpdateTransfer changes the rate limit and priority.
func (s *SenderServer) UpdateTransfer(ctx context.Context, r *pb.UpdateTransferRequest) (*pb.UpdateTransferResponse, error) {
	j, err := s.call(ctx, r.GetJobId(), func(principal string, id transfer.ID) (*jobs.Job, error) {
		return s.cfg.Queue.Update(ctx, principal, id, r.RateLimit, r.Priority)
	})
	if err != nil {
		return nil, err
	}
	return &pb.UpdateTransferResponse{Job: j}, nil
}

func (s *SenderServer) receivers() []*pb.Receiver {
	if s.cfg.Receivers == nil {
		return nil
	}
	var out []*pb.Receiver
	for _, r := range s.cfg.Receivers() {
		out = append(out, farToProto(&r))
	}
	return out
}

func healthStateToProto(s health.State) pb.HealthState {
	switch s {
	case health.Alive:
		return pb.HealthState_HEALTH_STATE_ALIVE
	case health.Suspect:
		return pb.HealthState_HEALTH_STATE_SUSPECT
	case health.UDPBlocked:
		return pb.HealthState_HEALTH_STATE_UDP_BLOCKED
	case health.Dead:
		return pb.HealthState_HEALTH_STATE_DEAD
	default:
		return pb.HealthState_HEALTH_STATE_UNSPECIFIED
	}
}

func farToProto(r *FarReceiver) *pb.Receiver {
	m := &pb.Receiver{
		Name: r.Name, Groups: r.Groups, Address: r.Address, Note: r.Note, Since: timeToProto(r.Since), LastHeard: timeToProto(r.LastHeard),
		Rtt: durationToProto(r.Summary.SRTT), Rttvar: durationToProto(r.Summary.RTTVAR), Jitter: durationToProto(r.Summary.Jitter), Loss: r.Summary.LossPercent / 100,
	}
	if r.Watched {
		m.State = healthStateToProto(r.State)
	}
	if st := r.Summary.Status; st != nil {
		m.Serving = st.Serving == stamp.ServingYes
		m.Draining = st.Flags&stamp.Draining != 0
		m.Load, m.Active, m.FreeSlots = float64(st.Load)/100, int32(st.Active), int32(st.FreeSlots)
		m.FreeBytes, m.Incarnation = int64(st.FreeMiB)<<20, st.Incarnation
	}
	return m
}

// ListReceivers returns the configured receivers and their health.
func (s *SenderServer) ListReceivers(context.Context, *pb.ListReceiversRequest) (*pb.ListReceiversResponse, error) {
	return &pb.ListReceiversResponse{Receivers: s.receivers()}, nil
}

// receiversEvery is how often WatchReceivers looks.
const receiversEvery = time.Second

// WatchReceivers streams every receiver now and each second.
func (s *SenderServer) WatchReceivers(_ *pb.WatchReceiversRequest, stream pb.SenderService_WatchReceiversServer) error {
	ctx, cancel := s.stoppable(stream.Context())
	defer cancel()
	t := time.NewTicker(receiversEvery)
	defer t.Stop()
	for {
		for _, r := range s.receivers() {
			if err := stream.Send(&pb.WatchReceiversResponse{Receiver: r}); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-t.C:
		}
	}
}

// ListConnections returns TCP connections of the sender. Who may not list the jobs
// of others sees the lanes of a job of its own only.
func (s *SenderServer) ListConnections(ctx context.Context, r *pb.SenderServiceListConnectionsRequest) (*pb.SenderServiceListConnectionsResponse, error) {
	const op = "list connections"
	only, err := s.owner(ctx)
	if err != nil {
		return nil, err
	}
	job := r.GetJobId()
	switch {
	case s.cfg.Connections == nil:
		return nil, transfer.Errorf(transfer.NotFound, op, "", "this sender cannot see its connections")
	case job != "":
		id, err := idFromProto(job)
		if err != nil {
			return nil, err
		}
		if _, err := s.cfg.Queue.Get(only, id); err != nil {
			return nil, err
		}
		job = id.String()
	case only != "":
		return nil, transfer.Errorf(transfer.Denied, op, "", "this principal may see the lanes of its own jobs only").
			WithHint("name a job, or have \"list_others\" set in the policy file")
	}
	list, err := s.cfg.Connections(ctx)
	if err != nil {
		return nil, err
	}
	if job != "" {
		list = slices.DeleteFunc(list, func(c netdiag.Conn) bool { return c.Label != job })
	}
	return &pb.SenderServiceListConnectionsResponse{Connections: ConnectionsToProto(list)}, nil
}
