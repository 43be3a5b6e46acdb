package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics are the numbers about requests.
type Metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	watchers prometheus.Gauge
	created  *prometheus.CounterVec
}

// NewMetrics makes and registers the metrics.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	f := promauto.With(reg)
	return &Metrics{
		requests: f.NewCounterVec(prometheus.CounterOpts{
			Name: "tasker_controlplane_http_requests_total",
			Help: "Requests answered, by route, method and status code.",
		}, []string{"route", "method", "code"}),
		duration: f.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "tasker_controlplane_http_request_duration_seconds",
			Help:    "Time from a request to the end of its answer; streams are left out.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"route", "method"}),
		watchers: f.NewGauge(prometheus.GaugeOpts{
			Name: "tasker_controlplane_watchers",
			Help: "Open streams of events.",
		}),
		created: f.NewCounterVec(prometheus.CounterOpts{
			Name: "tasker_controlplane_tasks_created_total",
			Help: "Tasks created, by type; repeated requests for the same task are not counted.",
		}, []string{"type"}),
	}
}

// sighting is what becomes known about a request while it is served. Only the
// goroutine that serves the request uses it.
type sighting struct {
	route, by, task, taskType, endpoint string
}

type sightingKey struct{}

// seen returns the sighting of the request that ctx belongs to.
func seen(ctx context.Context) *sighting {
	if s, ok := ctx.Value(sightingKey{}).(*sighting); ok {
		return s
	}
	return &sighting{}
}

// observe logs, counts and times requests, and answers those that panicked.
func (a *API) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		s := &sighting{}
		r = r.WithContext(context.WithValue(r.Context(), sightingKey{}, s))
		rec := &recorder{ResponseWriter: w}
		rec.Header().Set("X-Content-Type-Options", "nosniff")
		defer func() {
			fault, begun := recover(), rec.status != 0
			err, _ := fault.(error)
			aborted := errors.Is(err, http.ErrAbortHandler)
			if fault != nil && !aborted {
				a.log.ErrorContext(r.Context(), "request panicked", "route", s.route, "panic", fault, "stack", string(debug.Stack()))
				if !begun {
					writeProblem(rec, problem(http.StatusInternalServerError, "the control plane failed; its log says why"))
				}
			}
			a.note(r, s, rec.status, time.Since(start))
			if fault != nil && (begun || aborted) {
				panic(http.ErrAbortHandler) // breaks the answer off visibly
			}
		}()
		next.ServeHTTP(rec, r)
	})
}

func (a *API) note(r *http.Request, s *sighting, status int, took time.Duration) {
	if status == 0 {
		status = http.StatusOK
	}
	route, method := s.route, r.Method
	if route == "" {
		route = "none"
	}
	if !slices.Contains([]string{http.MethodGet, http.MethodHead, http.MethodPost}, method) {
		method = "other"
	}
	a.metrics.requests.WithLabelValues(route, method, strconv.Itoa(status)).Inc()
	if !strings.HasSuffix(route, eventsPath) && route != agentsPath {
		a.metrics.duration.WithLabelValues(route, method).Observe(took.Seconds())
	}
	attrs := []slog.Attr{
		slog.String("method", method), slog.String("route", route), slog.Int("status", status),
		slog.Duration("duration", took.Round(time.Microsecond)),
	}
	for _, known := range [][2]string{{"by", s.by}, {"type", s.taskType}, {"task", s.task}, {"endpoint", s.endpoint}} {
		if known[1] != "" {
			attrs = append(attrs, slog.String(known[0], known[1]))
		}
	}
	a.log.LogAttrs(r.Context(), level(route, r.Method, status), "request", attrs...)
}

// level keeps what programs ask all the time out of the log, and what somebody
// did, or failed to do, in it.
func level(route, method string, status int) slog.Level {
	switch {
	case status >= http.StatusInternalServerError && route != "/readyz":
		return slog.LevelWarn
	case route == agentsPath, route == "/readyz":
		return slog.LevelDebug
	case status >= http.StatusBadRequest, method != http.MethodGet && method != http.MethodHead:
		return slog.LevelInfo
	}
	return slog.LevelDebug
}

// recorder remembers the status of an answer.
type recorder struct {
	http.ResponseWriter
	status int
}

// WriteHeader remembers the status.
func (w *recorder) WriteHeader(status int) {
	if w.status == 0 && status >= http.StatusOK {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write writes a part of the body.
func (w *recorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Flush sends what was written so far.
func (w *recorder) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }

// Unwrap lets http.ResponseController reach the connection.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }
