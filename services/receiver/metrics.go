package main

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/e27efefb/sluice/pkg/recv"
	"github.com/e27efefb/sluice/pkg/store"
	"github.com/e27efefb/sluice/pkg/transfer"
	"github.com/e27efefb/sluice/services/internal/cli"
)

// metrics implements recv.Observer over Prometheus. docs/operations.md lists the
// names; they are stable.
type metrics struct {
	registry    *prometheus.Registry
	bytes       prometheus.Counter
	lanes       prometheus.Gauge
	lanesEnded  *prometheus.CounterVec
	checkpoints prometheus.Histogram
	held        prometheus.Counter
	checkFailed prometheus.Counter
	commits     *prometheus.HistogramVec
	repairs     prometheus.Counter
	transfers   *prometheus.GaugeVec
	finished    *prometheus.CounterVec
}

var _ recv.Observer = (*metrics)(nil)

// latencies are bucket borders in seconds, from a page-cache sync to a slow disk.
func latencies() []float64 { return prometheus.ExponentialBuckets(0.001, 2.5, 12) }

func newMetrics() *metrics {
	m := &metrics{
		registry:    prometheus.NewRegistry(),
		bytes:       prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_receiver_bytes_total", Help: "Octets hashed and written."}),
		lanes:       prometheus.NewGauge(prometheus.GaugeOpts{Name: "sluice_receiver_lanes", Help: "Lanes open now."}),
		lanesEnded:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_receiver_lanes_ended_total", Help: "Lanes that ended, by kind (ok: half-closed by the sender)."}, []string{"kind"}),
		checkpoints: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "sluice_receiver_checkpoint_seconds", Help: "Time to make written octets durable.", Buckets: latencies()}),
		held:        prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_receiver_held_bytes_total", Help: "Octets made durable by checkpoints."}),
		checkFailed: prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_receiver_checkpoint_failures_total", Help: "Checkpoints that failed."}),
		commits:     prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "sluice_receiver_commit_seconds", Help: "Time to verify and publish, by kind (ok: published).", Buckets: latencies()}, []string{"kind"}),
		repairs:     prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_receiver_repaired_chunks_total", Help: "Chunks sent again after verification."}),
		transfers:   prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "sluice_receiver_transfers", Help: "Unfinished transfers in memory, by state."}, []string{"state"}),
		finished:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_receiver_transfers_finished_total", Help: "Transfers that ended, by state and kind of failure."}, []string{"state", "kind"}),
	}
	info := prometheus.NewGauge(prometheus.GaugeOpts{Name: "sluice_build_info", Help: "1, with the version.", ConstLabels: prometheus.Labels{"version": cli.Version(), "service": "receiver"}})
	info.Set(1)
	m.registry.MustRegister(m.bytes, m.lanes, m.lanesEnded, m.checkpoints, m.held, m.checkFailed, m.commits, m.repairs, m.transfers, m.finished, info,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// watchStore adds what the store says of the disk.
func (m *metrics) watchStore(s store.Store) {
	gauge := func(name, help string, value func(store.Usage) int64) {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			u, err := s.Usage(ctx)
			if err != nil {
				return -1
			}
			return float64(value(u))
		}))
	}
	gauge("sluice_receiver_free_bytes", "Octets free for transfers, after what is kept free and promised.", func(u store.Usage) int64 { return u.Free })
	gauge("sluice_receiver_reserved_bytes", "Octets promised to unfinished transfers and not yet written.", func(u store.Usage) int64 { return u.Reserved })
	gauge("sluice_receiver_staged_bytes", "Octets in unfinished transfers.", func(u store.Usage) int64 { return u.Staged })
}

func (m *metrics) Bytes(n int64) { m.bytes.Add(float64(n)) }

func (m *metrics) Lane(delta int, kind transfer.Kind) {
	m.lanes.Add(float64(delta))
	if delta < 0 {
		m.lanesEnded.WithLabelValues(kind.String()).Inc()
	}
}

func (m *metrics) Checkpoint(d time.Duration, n int64, err error) {
	m.checkpoints.Observe(d.Seconds())
	m.held.Add(float64(n))
	if err != nil {
		m.checkFailed.Inc()
	}
}

func (m *metrics) Commit(d time.Duration, kind transfer.Kind, repairs int64) {
	m.commits.WithLabelValues(kind.String()).Observe(d.Seconds())
	m.repairs.Add(float64(repairs))
}

func (m *metrics) State(from, to transfer.State, kind transfer.Kind) {
	if from != transfer.StateUnknown && !from.Final() {
		m.transfers.WithLabelValues(from.String()).Dec()
	}
	switch {
	case to.Final():
		m.finished.WithLabelValues(to.String(), kind.String()).Inc()
	case to != transfer.StateUnknown:
		m.transfers.WithLabelValues(to.String()).Inc()
	}
}
