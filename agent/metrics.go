package agent

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/agent/journal"
)

// The results of sending a report, as counted.
const (
	reportSent    = "sent"
	reportFailed  = "failed"
	reportRefused = "refused"
)

// maxTypes bounds the values of the label type; otherType stands for the rest.
const (
	maxTypes  = 100
	otherType = "other"
)

// Metrics are what an agent shows to Prometheus.
type Metrics struct {
	up           prometheus.Gauge
	ordersTotal  *prometheus.CounterVec
	refusedTotal *prometheus.CounterVec
	running      *prometheus.GaugeVec
	waiting      *prometheus.GaugeVec
	seconds      *prometheus.HistogramVec
	endedTotal   *prometheus.CounterVec
	reportsTotal *prometheus.CounterVec
	entries      prometheus.Gauge
	bytes        prometheus.Gauge
	beatsTotal   *prometheus.CounterVec
	welcomeTime  prometheus.Gauge
	info         *prometheus.GaugeVec

	mu    sync.Mutex
	types map[string]bool
}

// NewMetrics makes the metrics of an agent and registers them.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "tasker_agent_" + name, Help: help})
		reg.MustRegister(g)
		return g
	}
	gauges := func(name, help string, labels ...string) *prometheus.GaugeVec {
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "tasker_agent_" + name, Help: help}, labels)
		reg.MustRegister(g)
		return g
	}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tasker_agent_" + name, Help: help}, labels)
		reg.MustRegister(c)
		return c
	}
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "tasker_agent_assignment_duration_seconds",
		Help:    "How long handlers ran.",
		Buckets: []float64{0.01, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 14400},
	}, []string{"type"})
	reg.MustRegister(seconds)
	m := &Metrics{
		up:           gauge("connected", "1 while the agent is connected to its control plane or broker."),
		ordersTotal:  counters("assignments_total", "Assignments and early cancels received, by what became of them at once.", "outcome"),
		refusedTotal: counters("orders_refused_total", "Orders that were refused unread.", "reason"),
		running:      gauges("assignments_running", "Assignments whose handler runs.", "type"),
		waiting:      gauges("assignments_waiting", "Assignments accepted and not yet started.", "type"),
		seconds:      seconds,
		endedTotal:   counters("assignments_finished_total", "Assignments that have ended, by their status.", "type", "status"),
		reportsTotal: counters("reports_total", "Reports about assignments, by what came of sending them.", "result"),
		entries:      gauge("journal_entries", "Assignments in the journal, those kept after their end included."),
		bytes:        gauge("journal_size_bytes", "Size of the journal's file."),
		beatsTotal:   counters("heartbeats_total", "Heartbeats, by what came of sending them.", "result"),
		welcomeTime:  gauge("last_welcome_timestamp_seconds", "When the control plane last answered a hello, by its own clock."),
		info:         gauges("build_info", "1, labelled with the version of the program.", "version"),
		types:        map[string]bool{},
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
		m.beatsTotal.WithLabelValues(r)
	}
	return m
}

// ObserveLink takes note of how the link stands; it is a transport.Observer.
func (m *Metrics) ObserveLink(err error) { m.connected(err == nil) }

func (m *Metrics) connected(is bool) {
	if is {
		m.up.Set(1)
	} else {
		m.up.Set(0)
	}
}

func (m *Metrics) build(version string) { m.info.WithLabelValues(version).Set(1) }

func (m *Metrics) orders(outcome string, n int) {
	m.ordersTotal.WithLabelValues(outcome).Add(float64(n))
}

func (m *Metrics) refused(reason string) { m.refusedTotal.WithLabelValues(reason).Inc() }

// known is the label of a type. Only types whose assignments were accepted get
// one of their own, and not more than maxTypes.
func (m *Metrics) known(typ string, accepted bool) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.types[typ] {
		if !accepted || len(m.types) >= maxTypes {
			return otherType
		}
		m.types[typ] = true
	}
	return typ
}

// line shows the load of all lines of a type; those that share the label of
// the rest overwrite each other there.
func (m *Metrics) line(typ string, l *line) {
	label := m.known(typ, true)
	m.running.WithLabelValues(label).Set(float64(l.running))
	m.waiting.WithLabelValues(label).Set(float64(len(l.waiting)))
}

func (m *Metrics) duration(typ string, d time.Duration) {
	m.seconds.WithLabelValues(m.known(typ, true)).Observe(d.Seconds())
}

func (m *Metrics) finished(typ string, status tasker.ResponseStatus) {
	m.endedTotal.WithLabelValues(m.known(typ, false), string(status)).Inc()
}

func (m *Metrics) report(result string) { m.reportsTotal.WithLabelValues(result).Inc() }

func (m *Metrics) heartbeat(err error) {
	result := reportSent
	if err != nil {
		result = reportFailed
	}
	m.beatsTotal.WithLabelValues(result).Inc()
}

func (m *Metrics) welcomed(t time.Time) {
	m.welcomeTime.Set(float64(t.UnixMilli()) / 1000)
}

func (m *Metrics) journal(s journal.Stats) {
	m.entries.Set(float64(s.Entries))
	m.bytes.Set(float64(s.Bytes))
}
