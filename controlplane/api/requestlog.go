package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics has the collectors of the API.
type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	watchers prometheus.Gauge
	created  *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) metrics {
	f := promauto.With(reg)
	return metrics{
		requests: f.NewCounterVec(prometheus.CounterOpts{
			Name: "tasker_controlplane_http_requests_total",
			Help: "Requests answered, by route, method and status code.",
		}, []string{"route", "method", "code"}),
		duration: f.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "tasker_controlplane_http_request_duration_seconds",
			Help:    "Time from a request to the end of its answer, without event streams and agents' calls.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"route", "method"}),
		watchers: f.NewGauge(prometheus.GaugeOpts{
			Name: "tasker_controlplane_watchers",
			Help: "Open event streams.",
		}),
		created: f.NewCounterVec(prometheus.CounterOpts{
			Name: "tasker_controlplane_tasks_created_total",
			Help: "Tasks created, by type; repeated requests for the same task are not counted.",
		}, []string{"type"}),
	}
}

// requestRecord collects what is logged about one request. Only the goroutine that
// serves the request uses it.
type requestRecord struct {
	route, caller, task, taskType, endpoint string
	// address is the client's.
	address netip.Addr
}

type recordKey struct{}

// recordOf returns the record of the request that ctx belongs to.
func recordOf(ctx context.Context) *requestRecord {
	if record, ok := ctx.Value(recordKey{}).(*requestRecord); ok {
		return record
	}
	return &requestRecord{}
}

// requestLogger logs, counts and times requests, and answers requests whose handler
// panics.
type requestLogger struct {
	log      *slog.Logger
	metrics  metrics
	refusals *refusalLog
}

func (l requestLogger) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		record := &requestRecord{}
		r = r.WithContext(context.WithValue(r.Context(), recordKey{}, record))
		sw := &statusWriter{ResponseWriter: w}
		sw.Header().Set("X-Content-Type-Options", "nosniff")
		defer func() {
			reason := recover()
			aborted := l.handlePanic(sw, r, record, reason)
			l.finish(r, record, sw.status, time.Since(start))
			if aborted {
				panic(http.ErrAbortHandler) // closes the connection, so that the client notices
			}
		}()
		next.ServeHTTP(sw, r)
	})
}

// handlePanic logs and answers a panic of a handler. It reports whether the connection
// must be closed, because an incomplete answer was sent already.
func (l requestLogger) handlePanic(w *statusWriter, r *http.Request, record *requestRecord, reason any) bool {
	if reason == nil {
		return false
	}
	if err, _ := reason.(error); errors.Is(err, http.ErrAbortHandler) {
		return true
	}
	l.log.ErrorContext(r.Context(), "request panicked", "route", record.route, "panic", reason, "stack", string(debug.Stack()))
	if w.status != 0 {
		return true
	}
	writeProblem(w, internalError())
	return false
}

// finish logs and counts a request that was served.
func (l requestLogger) finish(r *http.Request, record *requestRecord, status int, took time.Duration) {
	if status == 0 {
		status = http.StatusOK
	}
	route, method := record.route, r.Method
	if route == "" {
		route = "none"
	}
	if !slices.Contains([]string{http.MethodGet, http.MethodHead, http.MethodPost}, method) {
		method = "other"
	}
	l.metrics.requests.WithLabelValues(route, method, strconv.Itoa(status)).Inc()
	if !strings.HasSuffix(route, eventsPath) && route != agentsPath {
		l.metrics.duration.WithLabelValues(route, method).Observe(took.Seconds())
	}
	attrs := []slog.Attr{
		slog.String("method", method), slog.String("route", route), slog.Int("status", status),
		slog.Duration("duration", took.Round(time.Microsecond)),
	}
	if record.address.IsValid() {
		attrs = append(attrs, slog.String("address", record.address.String()))
	}
	for _, attr := range [][2]string{{"by", record.caller}, {"type", record.taskType}, {"task", record.task}, {"endpoint", record.endpoint}} {
		if attr[1] != "" {
			attrs = append(attrs, slog.String(attr[0], attr[1]))
		}
	}
	if isRefusal(status) {
		l.refusals.add(r, record, status)
	}
	l.log.LogAttrs(r.Context(), logLevel(route, r.Method, status), "request", attrs...)
}

// logLevel keeps frequent requests of programs at debug level, and changes and failures
// above it.
func logLevel(route, method string, status int) slog.Level {
	switch {
	case status >= http.StatusInternalServerError && route != "/readyz":
		return slog.LevelWarn
	case route == agentsPath, route == "/readyz", isRefusal(status): // refusals are logged together
		return slog.LevelDebug
	case status >= http.StatusBadRequest, method != http.MethodGet && method != http.MethodHead:
		return slog.LevelInfo
	}
	return slog.LevelDebug
}

// statusWriter is a ResponseWriter that records the status of the answer.
type statusWriter struct {
	http.ResponseWriter
	status int // 0 until the answer begins
}

// WriteHeader records the status and sends the header.
func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 && status >= http.StatusOK {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write sends a part of the body.
func (w *statusWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Flush sends what was written so far.
func (w *statusWriter) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }

// Unwrap gives http.ResponseController access to the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
