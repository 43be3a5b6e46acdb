package rabbitmq

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/MatthiasWiesner/tasker/internal/transport/wire"
)

// Metrics are the metrics of a Hub. A nil *Metrics counts nothing.
type Metrics struct {
	connected *prometheus.GaugeVec
	sessions  *prometheus.CounterVec
	blocked   prometheus.Gauge
	returned  prometheus.Counter
	refused   *prometheus.CounterVec
}

// NewMetrics returns the metrics of a Hub and registers them.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		connected: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tasker_controlplane_rabbitmq_connected",
			Help: "Whether the connection to RabbitMQ is open (1) or not (0), by connection (publish, consume).",
		}, []string{"connection"}),
		sessions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tasker_controlplane_rabbitmq_sessions_total",
			Help: "Connections to RabbitMQ that were opened, by connection (publish, consume).",
		}, []string{"connection"}),
		blocked: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tasker_controlplane_rabbitmq_blocked",
			Help: "Whether RabbitMQ accepts no messages now (1), because it lacks memory or disk space.",
		}),
		returned: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tasker_controlplane_rabbitmq_returned_orders_total",
			Help: "Orders that RabbitMQ returned because no queue is bound to receive them.",
		}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tasker_controlplane_rabbitmq_refused_reports_total",
			Help: "Rejected reports, which RabbitMQ keeps in the queue reports.undecodable, by reason (undecodable, version, speaker, rules); the log has a line per endpoint and minute.",
		}, []string{"reason"}),
	}
	reg.MustRegister(m.connected, m.sessions, m.blocked, m.returned, m.refused)
	for _, connection := range []string{publishComponent, consumeComponent} {
		m.connected.WithLabelValues(connection)
		m.sessions.WithLabelValues(connection)
	}
	for _, reason := range wire.RefusalReasons() {
		m.refused.WithLabelValues(reason)
	}
	return m
}

// setConnected records that a session has begun (nil) or that there is none.
func (m *Metrics) setConnected(connection string, err error) {
	switch {
	case m == nil:
	case err == nil:
		m.connected.WithLabelValues(connection).Set(1)
		m.sessions.WithLabelValues(connection).Inc()
	default:
		m.connected.WithLabelValues(connection).Set(0)
	}
}

func (m *Metrics) setBlocked(err error) {
	switch {
	case m == nil:
	case err == nil:
		m.blocked.Set(0)
	default:
		m.blocked.Set(1)
	}
}

func (m *Metrics) countReturned() {
	if m != nil {
		m.returned.Inc()
	}
}

func (m *Metrics) countRefused(err error) {
	if m != nil {
		m.refused.WithLabelValues(wire.RefusalReason(err)).Inc()
	}
}
