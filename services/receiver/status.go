package main

import (
	"context"
	"sync"
	"time"

	"github.com/e27efefb/sluice/pkg/recv"
	"github.com/e27efefb/sluice/pkg/stamp"
	"github.com/e27efefb/sluice/services/internal/admin"
)

// statusEvery is how long an answer of the store about free space is good for:
// pings come by the thousand.
const statusEvery = 500 * time.Millisecond

// status is the one source of the ping's TLV, gRPC health and /readyz.
func (s *service) status() recv.Status {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return s.receiver.Status(ctx)
}

func (s *service) ready() admin.Ready {
	st := s.status()
	switch {
	case st.Draining:
		return admin.Ready{Reason: "the receiver is stopping"}
	case st.DiskLow:
		return admin.Ready{Reason: "no space is left for new transfers"}
	case !st.Serving:
		return admin.Ready{Reason: "the store does not answer"}
	default:
		return admin.Ready{Ready: true}
	}
}

// pingStatus returns the status as pings carry it.
func (s *service) pingStatus() func() stamp.Status {
	var mu sync.Mutex
	var at time.Time
	var last stamp.Status
	return func() stamp.Status {
		mu.Lock()
		defer mu.Unlock()
		if now := time.Now(); now.Sub(at) >= statusEvery {
			at, last = now, stampStatus(s.status(), now)
		}
		return last
	}
}

func stampStatus(st recv.Status, now time.Time) stamp.Status {
	out := stamp.Status{
		Serving: stamp.ServingNo, Incarnation: st.Incarnation,
		Active: clamp[uint16](int64(st.Active)), FreeSlots: clamp[uint16](int64(st.FreeSlots)), FreeMiB: clamp[uint32](st.FreeBytes >> 20),
	}
	if st.Serving {
		out.Serving = stamp.ServingYes
	}
	if st.Draining {
		out.Flags |= stamp.Draining
	}
	if st.DiskLow {
		out.Flags |= stamp.DiskLow
	}
	if st.FreeBytes < 0 {
		out.Flags |= stamp.ReadOnly
	}
	if slots := st.Active + st.FreeSlots; slots > 0 {
		out.Load = uint8(min(200, 100*st.Active/slots)) //nolint:gosec // bounded
	}
	if !st.LastProgress.IsZero() {
		out.IdleMillis = clamp[uint32](now.Sub(st.LastProgress).Milliseconds())
	} else {
		out.IdleMillis = ^uint32(0)
	}
	return out
}

// clamp fits n into a smaller unsigned type.
func clamp[T uint16 | uint32](n int64) T {
	return T(min(max(n, 0), int64(^T(0))))
}
