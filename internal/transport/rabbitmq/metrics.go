package rabbitmq

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics count what a Hub does. A nil *Metrics counts nothing.
type Metrics struct {
	connected *prometheus.GaugeVec
	sessions  *prometheus.CounterVec
	blocked   prometheus.Gauge
	returned  prometheus.Counter
	refused   *prometheus.CounterVec
}

// NewMetrics registers the metrics of a Hub.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		connected: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tasker_controlplane_rabbitmq_connected",
			Help: "Whether the connection to RabbitMQ stands (1) or not (0), by connection (publish, consume).",
		}, []string{"connection"}),
		sessions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tasker_controlplane_rabbitmq_sessions_total",
			Help: "Connections to RabbitMQ that were opened, by connection (publish, consume).",
		}, []string{"connection"}),
		blocked: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tasker_controlplane_rabbitmq_blocked",
			Help: "Whether RabbitMQ takes no messages for now (1), for want of memory or disk.",
		}),
		returned: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tasker_controlplane_rabbitmq_returned_orders_total",
			Help: "Orders that RabbitMQ returned because no queue is bound for them.",
		}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tasker_controlplane_rabbitmq_refused_reports_total",
			Help: "Reports set aside in the queue reports.undecodable, by reason (undecodable, version, speaker); each is logged.",
		}, []string{"reason"}),
	}
	reg.MustRegister(m.connected, m.sessions, m.blocked, m.returned, m.refused)
	for _, connection := range []string{publishing, consuming} {
		m.connected.WithLabelValues(connection)
		m.sessions.WithLabelValues(connection)
	}
	for _, reason := range []error{errUndecodable, errVersion, errSpeaker} {
		m.refused.WithLabelValues(reason.Error())
	}
	return m
}

// session notes that a session has begun (nil) or that there is none.
func (m *Metrics) session(connection string, err error) {
	switch {
	case m == nil:
	case err == nil:
		m.connected.WithLabelValues(connection).Set(1)
		m.sessions.WithLabelValues(connection).Inc()
	default:
		m.connected.WithLabelValues(connection).Set(0)
	}
}

func (m *Metrics) flow(err error) {
	switch {
	case m == nil:
	case err == nil:
		m.blocked.Set(0)
	default:
		m.blocked.Set(1)
	}
}

func (m *Metrics) giveBack() {
	if m != nil {
		m.returned.Inc()
	}
}

func (m *Metrics) refuse(err error) {
	if m == nil {
		return
	}
	for _, reason := range []error{errVersion, errSpeaker} {
		if errors.Is(err, reason) {
			m.refused.WithLabelValues(reason.Error()).Inc()
			return
		}
	}
	m.refused.WithLabelValues(errUndecodable.Error()).Inc()
}
