package client

import (
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"

	"github.com/e27efefb/sluice/pkg/control"
	pb "github.com/e27efefb/sluice/proto/sluice/v1"
)

// each calls fn for every message of a stream until its end.
func each[T any](s grpc.ServerStreamingClient[T], fn func(*T) error) error {
	for {
		m, err := s.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return control.FromStatus(err)
		}
		if err := fn(m); err != nil {
			return err
		}
	}
}

func receiver(r *pb.Receiver) Receiver {
	return Receiver{
		Name: r.GetName(), Address: r.GetAddress(), Groups: r.GetGroups(), State: stateName(r.GetState()), Serving: r.GetServing(), Draining: r.GetDraining(),
		RTT: r.GetRtt().AsDuration(), Jitter: r.GetJitter().AsDuration(), Loss: r.GetLoss(), Load: r.GetLoad(),
		Active: int(r.GetActive()), FreeSlots: int(r.GetFreeSlots()), FreeBytes: r.GetFreeBytes(), Incarnation: r.GetIncarnation(),
		Note: r.GetNote(), Since: sinceOf(r),
	}
}

func sinceOf(r *pb.Receiver) (t time.Time) {
	if r.GetSince() != nil {
		t = r.GetSince().AsTime()
	}
	return t
}

func stateName(s pb.HealthState) string {
	switch s {
	case pb.HealthState_HEALTH_STATE_ALIVE:
		return "alive"
	case pb.HealthState_HEALTH_STATE_SUSPECT:
		return "suspect"
	case pb.HealthState_HEALTH_STATE_UDP_BLOCKED:
		return "udp_blocked"
	case pb.HealthState_HEALTH_STATE_FROZEN:
		return "frozen"
	case pb.HealthState_HEALTH_STATE_DEAD:
		return "dead"
	default:
		return "unknown"
	}
}
