package callback

import "github.com/prometheus/client_golang/prometheus"

// The outcomes of an attempt.
const (
	delivered = "delivered"
	failed    = "failed" // and will be tried again
	givenUp   = "given_up"
)

// Metrics counts attempts. A nil *Metrics counts nothing.
type Metrics struct{ attempts *prometheus.CounterVec }

// NewMetrics registers the metrics of a Caller.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tasker_controlplane_callback_attempts_total",
		Help: "Attempts to deliver a callback, by outcome (delivered, failed, given_up).",
	}, []string{"outcome"})}
	reg.MustRegister(m.attempts)
	for _, outcome := range []string{delivered, failed, givenUp} {
		m.attempts.WithLabelValues(outcome)
	}
	return m
}

func (m *Metrics) attempt(outcome string) {
	if m != nil {
		m.attempts.WithLabelValues(outcome).Inc()
	}
}
