package controlplane

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

// metrics counts events that concern several components.
type metrics struct {
	finished *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, types []tasker.TaskType) *metrics {
	m := &metrics{finished: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tasker_controlplane_tasks_finished_total",
		Help: "Tasks that have finished, by type and status. A task whose status a late report changes is counted again.",
	}, []string{"type", "status"})}
	reg.MustRegister(m.finished)
	for _, t := range types {
		for _, s := range []tasker.TaskStatus{tasker.TaskSucceeded, tasker.TaskFailed, tasker.TaskIncomplete, tasker.TaskCancelled} {
			m.finished.WithLabelValues(t.Name, string(s))
		}
	}
	return m
}

// statistics is a collector that reads the store at each scrape.
type statistics struct {
	store *store.Store
	log   *slog.Logger
}

// statisticsTimeout bounds how long a scrape waits for the database.
const statisticsTimeout = 2 * time.Second

// descriptions returns those of store.Stats, in the order in which Collect sends them.
func descriptions() []*prometheus.Desc {
	gauge := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("tasker_controlplane_"+name, help, nil, nil)
	}
	return []*prometheus.Desc{
		gauge("orders_due", "Orders that are due to be sent now."),
		gauge("orders_due_oldest_seconds", "How long the oldest due order has been due."),
		gauge("endpoints_connected", "Endpoints that are connected."),
		gauge("tasks_open", "Tasks that have not finished."),
		gauge("callbacks_waiting", "Callbacks that are not delivered yet."),
	}
}

func rolloutsDesc() *prometheus.Desc {
	return prometheus.NewDesc("tasker_controlplane_rollouts", "Rollouts that have not ended.", []string{"state"}, nil)
}

// Describe implements prometheus.Collector.
func (s *statistics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range descriptions() {
		ch <- d
	}
	ch <- rolloutsDesc()
}

// Collect implements prometheus.Collector. While the database is unavailable the
// metrics are missing, not wrong.
func (s *statistics) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), statisticsTimeout)
	defer cancel()
	stats, err := s.store.Stats(ctx)
	if err != nil {
		s.log.Debug("no statistics for a scrape", "error", err)
		return
	}
	values := []float64{float64(stats.Due), stats.OldestDue.Seconds(), float64(stats.Connected), float64(stats.Open), float64(stats.Callbacks)}
	for i, d := range descriptions() {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, values[i])
	}
	for state, n := range stats.Rollouts {
		ch <- prometheus.MustNewConstMetric(rolloutsDesc(), prometheus.GaugeValue, float64(n), string(state))
	}
}
