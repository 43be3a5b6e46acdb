package httplink

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/MatthiasWiesner/tasker/internal/transport/wire"
)

// Metrics are the metrics of a Hub. A nil *Metrics counts nothing.
type Metrics struct {
	streams prometheus.Gauge
	refused *prometheus.CounterVec
}

// NewMetrics returns the metrics of a Hub and registers them.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		streams: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tasker_controlplane_agent_streams",
			Help: "Agents with an open stream of orders.",
		}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tasker_controlplane_http_refused_reports_total",
			Help: "Refused reports of agents over HTTP, by reason (undecodable, version, speaker, rules); the log has a line per endpoint and minute.",
		}, []string{"reason"}),
	}
	reg.MustRegister(m.streams, m.refused)
	for _, reason := range wire.RefusalReasons() {
		m.refused.WithLabelValues(reason)
	}
	return m
}

func (m *Metrics) addStreams(change float64) {
	if m != nil {
		m.streams.Add(change)
	}
}

func (m *Metrics) countRefused(err error) {
	if m != nil {
		m.refused.WithLabelValues(wire.RefusalReason(err)).Inc()
	}
}
