package main

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/e27efefb/sluice/pkg/health"
	"github.com/e27efefb/sluice/pkg/jobs"
	"github.com/e27efefb/sluice/pkg/send"
	"github.com/e27efefb/sluice/services/internal/cli"
)

// metrics of the sender service; docs/operations.md lists the names.
type metrics struct {
	registry *prometheus.Registry
	bytes    prometheus.Counter
	resent   prometheus.Counter
	repaired prometheus.Counter
	seconds  prometheus.Histogram
	states   *prometheus.GaugeVec
	finished *prometheus.CounterVec
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		bytes:    prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_sender_bytes_total", Help: "Octets of content written to lanes by jobs that succeeded."}),
		resent:   prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_sender_resent_bytes_total", Help: "Of these, sent more than once."}),
		repaired: prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_sender_repaired_chunks_total", Help: "Chunks sent again after verification."}),
		seconds:  prometheus.NewHistogram(prometheus.HistogramOpts{Name: "sluice_sender_job_seconds", Help: "Time of the attempt that succeeded.", Buckets: prometheus.ExponentialBuckets(0.01, 4, 10)}),
		states:   prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "sluice_sender_receiver_state", Help: "1 for the state that each receiver is in."}, []string{"receiver", "state"}),
		finished: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_sender_jobs_finished_total", Help: "Jobs that ended, by state and kind of failure."}, []string{"state", "kind"}),
	}
	info := prometheus.NewGauge(prometheus.GaugeOpts{Name: "sluice_build_info", Help: "1, with the version.", ConstLabels: prometheus.Labels{"version": cli.Version(), "service": "sender"}})
	info.Set(1)
	m.registry.MustRegister(m.bytes, m.resent, m.repaired, m.seconds, m.states, m.finished, info,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) watchQueue(q *jobs.Queue) {
	m.registry.MustRegister(queueCollector{q})
}

// ended counts a job that has ended.
func (m *metrics) ended(j *jobs.Job) {
	m.finished.WithLabelValues(j.State.String(), j.Kind.String()).Inc()
}

// queueCollector looks at the queue when it is asked.
type queueCollector struct{ q *jobs.Queue }

func queueDesc() *prometheus.Desc {
	return prometheus.NewDesc("sluice_sender_jobs", "Unfinished jobs.", []string{"state"}, nil)
}

func (queueCollector) Describe(c chan<- *prometheus.Desc) { c <- queueDesc() }

func (qc queueCollector) Collect(c chan<- prometheus.Metric) {
	for state, n := range qc.q.Depth() {
		c <- prometheus.MustNewConstMetric(queueDesc(), prometheus.GaugeValue, float64(n), state.String())
	}
}

func (m *metrics) sent(r *send.Result) {
	m.bytes.Add(float64(r.Stats.Sent))
	m.resent.Add(float64(r.Stats.Resent))
	m.repaired.Add(float64(r.Stats.Repaired))
	m.seconds.Observe(r.Stats.Elapsed.Seconds())
}

func (m *metrics) receiverState(name string, now health.State) {
	for s := health.Unknown; s <= health.UDPBlocked; s++ {
		v := 0.0
		if s == now {
			v = 1
		}
		m.states.WithLabelValues(name, s.String()).Set(v)
	}
}

// watchFleet adds what the pings say of each receiver.
func (m *metrics) watchFleet(f *fleet) {
	m.registry.MustRegister(fleetCollector{f})
}

// fleetCollector reads the pings' figures when they are asked for.
type fleetCollector struct{ f *fleet }

func fleetDescs() (rtt, loss, jitter *prometheus.Desc) {
	labels := []string{"receiver"}
	return prometheus.NewDesc("sluice_sender_receiver_rtt_seconds", "Smoothed round trip of pings (RFC 6298).", labels, nil),
		prometheus.NewDesc("sluice_sender_receiver_loss_ratio", "Lost share of pings.", labels, nil),
		prometheus.NewDesc("sluice_sender_receiver_jitter_seconds", "Jitter of the round trip (RFC 3550).", labels, nil)
}

func (fleetCollector) Describe(c chan<- *prometheus.Desc) {
	rtt, loss, jitter := fleetDescs()
	c <- rtt
	c <- loss
	c <- jitter
}

func (fc fleetCollector) Collect(c chan<- prometheus.Metric) {
	rtt, loss, jitter := fleetDescs()
	for _, r := range fc.f.receivers() {
		if r.Watched && r.Summary.Received > 0 {
			c <- prometheus.MustNewConstMetric(rtt, prometheus.GaugeValue, r.Summary.SRTT.Seconds(), r.Name)
			c <- prometheus.MustNewConstMetric(loss, prometheus.GaugeValue, r.Summary.LossPercent/100, r.Name)
			c <- prometheus.MustNewConstMetric(jitter, prometheus.GaugeValue, r.Summary.Jitter.Seconds(), r.Name)
		}
	}
}
