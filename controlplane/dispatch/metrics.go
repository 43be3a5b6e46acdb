package dispatch

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

// Metrics counts the orders of a Dispatcher. A nil *Metrics counts nothing.
type Metrics struct {
	orders   *prometheus.CounterVec
	duration prometheus.Histogram
}

// NewMetrics registers the metrics of a Dispatcher.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		orders: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tasker_controlplane_orders_total",
			Help: "Orders handed to the transport, by kind (assignment, cancel) and outcome (sent, unsent).",
		}, []string{"kind", "outcome"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "tasker_controlplane_order_batch_duration_seconds",
			Help:    "Time until the transport had accepted a batch of orders.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 8),
		}),
	}
	reg.MustRegister(m.orders, m.duration)
	for _, kind := range []string{"assignment", "cancel"} {
		for _, outcome := range []string{"sent", "unsent"} {
			m.orders.WithLabelValues(kind, outcome)
		}
	}
	return m
}

func (m *Metrics) sent(sent []store.Claim, unsent []store.Unsent, took time.Duration) {
	if m == nil {
		return
	}
	m.duration.Observe(took.Seconds())
	for _, c := range sent {
		m.orders.WithLabelValues(kind(c), "sent").Inc()
	}
	for _, u := range unsent {
		m.orders.WithLabelValues(kind(u.Claim), "unsent").Inc()
	}
}

func kind(c store.Claim) string {
	if c.Cancel {
		return "cancel"
	}
	return "assignment"
}
