package agent

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/agent/journal"
)

// The results of sending a report, as a metric label.
const (
	reportSent    = "sent"
	reportFailed  = "failed"
	reportRefused = "refused"
)

// maxTypes bounds the values of the label "type". All further types share otherType.
const (
	maxTypes  = 100
	otherType = "other"
)

// Metrics are the Prometheus metrics of an agent.
type Metrics struct {
	connected       prometheus.Gauge
	ordersTotal     *prometheus.CounterVec
	refusedTotal    *prometheus.CounterVec
	running         *prometheus.GaugeVec
	waiting         *prometheus.GaugeVec
	durations       *prometheus.HistogramVec
	endedTotal      *prometheus.CounterVec
	reportsTotal    *prometheus.CounterVec
	entries         prometheus.Gauge
	bytes           prometheus.Gauge
	heartbeatsTotal *prometheus.CounterVec
	welcomeTime     prometheus.Gauge
	info            *prometheus.GaugeVec

	mu    sync.Mutex
	types map[string]bool
}

// NewMetrics returns the metrics of an agent, registered at reg.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	factory := promauto.With(reg)
	gauge := func(name, help string) prometheus.Gauge {
		return factory.NewGauge(prometheus.GaugeOpts{Name: "tasker_agent_" + name, Help: help})
	}
	gauges := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return factory.NewGaugeVec(prometheus.GaugeOpts{Name: "tasker_agent_" + name, Help: help}, labels)
	}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		return factory.NewCounterVec(prometheus.CounterOpts{Name: "tasker_agent_" + name, Help: help}, labels)
	}
	m := &Metrics{
		connected:    gauge("connected", "1 while the agent is connected to its control plane or broker."),
		ordersTotal:  counters("assignments_total", "Assignments received, and cancels of assignments not received, by immediate outcome.", "outcome"),
		refusedTotal: counters("orders_refused_total", "Orders that were refused without being processed.", "reason"),
		running:      gauges("assignments_running", "Assignments whose handler is running.", "type"),
		waiting:      gauges("assignments_waiting", "Assignments accepted and not yet started.", "type"),
		durations: factory.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "tasker_agent_assignment_duration_seconds",
			Help:    "How long handlers ran.",
			Buckets: []float64{0.01, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 14400},
		}, []string{"type"}),
		endedTotal:      counters("assignments_finished_total", "Assignments that have ended, by status.", "type", "status"),
		reportsTotal:    counters("reports_total", "Reports about assignments, by the result of sending them.", "result"),
		entries:         gauge("journal_entries", "Assignments in the journal, including those that have ended."),
		bytes:           gauge("journal_size_bytes", "Size of the journal file."),
		heartbeatsTotal: counters("heartbeats_total", "Heartbeats, by the result of sending them.", "result"),
		welcomeTime:     gauge("last_welcome_timestamp_seconds", "Time of the last welcome, by the control plane's clock."),
		info:            gauges("build_info", "Always 1; the label is the version of the program.", "version"),
		types:           map[string]bool{},
	}
	for _, o := range []string{
		outcomeAccepted, outcomeRejected, outcomeExpired, outcomeDuplicate,
		outcomeStale, outcomeCancelled, outcomeMisdirect, outcomeMalformed,
	} {
		m.ordersTotal.WithLabelValues(o)
	}
	m.refusedTotal.WithLabelValues(refusedSignature)
	for _, r := range []string{reportSent, reportFailed, reportRefused} {
		m.reportsTotal.WithLabelValues(r)
	}
	for _, r := range []string{reportSent, reportFailed} {
		m.heartbeatsTotal.WithLabelValues(r)
	}
	return m
}

// ObserveLink sets whether the link is connected; it is a transport.Observer.
func (m *Metrics) ObserveLink(err error) { m.setConnected(err == nil) }

func (m *Metrics) setConnected(connected bool) {
	if connected {
		m.connected.Set(1)
	} else {
		m.connected.Set(0)
	}
}

func (m *Metrics) setVersion(version string) { m.info.WithLabelValues(version).Set(1) }

func (m *Metrics) countOrders(outcome string, n int) {
	m.ordersTotal.WithLabelValues(outcome).Add(float64(n))
}

func (m *Metrics) countRefused(reason string) { m.refusedTotal.WithLabelValues(reason).Inc() }

// typeLabel returns the label of a task type. A type gets a label of its own when an
// assignment of it is accepted, up to maxTypes.
func (m *Metrics) typeLabel(taskType string, accepted bool) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.types[taskType] {
		if !accepted || len(m.types) >= maxTypes {
			return otherType
		}
		m.types[taskType] = true
	}
	return taskType
}

// setQueue sets the load of a run queue. Types that share otherType overwrite each
// other.
func (m *Metrics) setQueue(taskType string, q *runQueue) {
	label := m.typeLabel(taskType, true)
	m.running.WithLabelValues(label).Set(float64(q.running))
	m.waiting.WithLabelValues(label).Set(float64(len(q.waiting)))
}

func (m *Metrics) observeDuration(taskType string, d time.Duration) {
	m.durations.WithLabelValues(m.typeLabel(taskType, true)).Observe(d.Seconds())
}

func (m *Metrics) countEnded(taskType string, status tasker.ResponseStatus) {
	m.endedTotal.WithLabelValues(m.typeLabel(taskType, false), string(status)).Inc()
}

func (m *Metrics) countReport(result string) { m.reportsTotal.WithLabelValues(result).Inc() }

func (m *Metrics) countHeartbeat(err error) {
	result := reportSent
	if err != nil {
		result = reportFailed
	}
	m.heartbeatsTotal.WithLabelValues(result).Inc()
}

func (m *Metrics) setWelcome(t time.Time) {
	m.welcomeTime.Set(float64(t.UnixMilli()) / 1000)
}

func (m *Metrics) setJournal(s journal.Stats) {
	m.entries.Set(float64(s.Entries))
	m.bytes.Set(float64(s.Bytes))
}
