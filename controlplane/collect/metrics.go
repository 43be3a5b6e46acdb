package collect

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

// Metrics counts the reports of a Collector. A nil *Metrics counts nothing.
type Metrics struct {
	reports  *prometheus.CounterVec
	updates  *prometheus.CounterVec
	lost     prometheus.Counter
	refused  prometheus.Counter
	duration prometheus.Histogram
}

// NewMetrics registers the metrics of a Collector.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		reports: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tasker_controlplane_reports_total",
			Help: "Reports of agents that were stored, by kind (hello, heartbeat, goodbye, update).",
		}, []string{"kind"}),
		updates: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tasker_controlplane_updates_total",
			Help: "Updates of responses by outcome: applied, stale (repeated, overtaken or of an older attempt), unknown.",
		}, []string{"outcome"}),
		lost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tasker_controlplane_reports_dropped_total",
			Help: "Reports that were dropped because they could not be stored although the database responded; each is logged.",
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tasker_controlplane_reports_refused_total",
			Help: "Reports that were refused because another agent is connected under the name of the endpoint.",
		}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "tasker_controlplane_report_batch_duration_seconds",
			Help:    "Time to store a batch of reports.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 8),
		}),
	}
	reg.MustRegister(m.reports, m.updates, m.lost, m.refused, m.duration)
	for _, k := range []string{"hello", "heartbeat", "goodbye", "update"} {
		m.reports.WithLabelValues(k)
	}
	for _, o := range []string{"applied", "stale", "unknown"} {
		m.updates.WithLabelValues(o)
	}
	return m
}

func (m *Metrics) applied(reports []tasker.Report, applied store.ApplyResult, took time.Duration) {
	if m == nil {
		return
	}
	m.duration.Observe(took.Seconds())
	for _, r := range reports {
		switch {
		case r.Hello != nil:
			m.reports.WithLabelValues("hello").Inc()
		case r.Heartbeat != nil:
			m.reports.WithLabelValues("heartbeat").Inc()
		case r.Goodbye != nil:
			m.reports.WithLabelValues("goodbye").Inc()
		case r.Update != nil:
			m.reports.WithLabelValues("update").Inc()
		}
	}
	m.refused.Add(float64(len(applied.Refused)))
	for outcome, n := range applied.Updates {
		m.updates.WithLabelValues(outcome).Add(float64(n))
	}
}

func (m *Metrics) dropped() {
	if m != nil {
		m.lost.Inc()
	}
}
