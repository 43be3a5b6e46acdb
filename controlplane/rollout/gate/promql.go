package gate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/prometheus/client_golang/api"
	prometheus "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"

	"github.com/MatthiasWiesner/tasker"
)

// maxResponse bounds a response of Prometheus, in bytes.
const maxResponse = 1 << 20

// newPrometheus makes a client of Prometheus on top of an HTTP client.
func newPrometheus(uri string, c *http.Client) (prometheus.API, error) {
	bounded := *c
	bounded.Transport = boundedTransport{c.Transport}
	client, err := api.NewClient(api.Config{Address: uri, Client: &bounded})
	if err != nil {
		return nil, err
	}
	return prometheus.NewAPI(client), nil
}

// boundedTransport bounds the bodies of responses.
type boundedTransport struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (t boundedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.RoundTripper.RoundTrip(req)
	if err == nil {
		resp.Body = boundedBody{io.LimitReader(resp.Body, maxResponse), resp.Body}
	}
	return resp, err
}

type boundedBody struct {
	io.Reader
	io.Closer
}

// query evaluates a gate that is an expression.
func (c *Checker) query(ctx context.Context, g tasker.Gate, endpoints []string) (bool, string, error) {
	if c.prometheus == nil {
		return false, "the control plane has no Prometheus any more (prometheus.uri in its configuration)", nil
	}
	value, _, _, err := c.prometheus.Query(ctx, expression(g.PromQL, endpoints), time.Time{})
	var failure *prometheus.Error
	switch {
	case errors.As(err, &failure) && (failure.Type == prometheus.ErrBadData || failure.Type == prometheus.ErrExec):
		return false, "Prometheus refuses the expression: " + failure.Msg, nil
	case err != nil:
		return false, "", err
	}
	reason := failureOf(value)
	if reason != "" {
		reason += " for " + g.PromQL
	}
	return reason == "", reason, nil
}

// expression replaces $endpoints by a regular expression within a PromQL string, in which
// backslashes are doubled.
func expression(promQL string, endpoints []string) string {
	quoted := make([]string, len(endpoints))
	for i, name := range endpoints {
		quoted[i] = strings.ReplaceAll(regexp.QuoteMeta(name), `\`, `\\`)
	}
	return strings.ReplaceAll(promQL, "$endpoints", strings.Join(quoted, "|"))
}

// failureOf returns why a gate fails with the value of its expression, or "" if it passes.
// It fails if the value is empty, zero or NaN: a false comparison in PromQL yields
// nothing, and 0/0 is NaN.
func failureOf(value model.Value) string {
	switch v := value.(type) {
	case model.Vector:
		if len(v) == 0 {
			return "Prometheus returns nothing"
		}
		for _, sample := range v {
			if failing := failingValue(sample.Value); failing != "" {
				return "Prometheus returns " + failing + seriesName(sample.Metric)
			}
		}
		return ""
	case *model.Scalar:
		if failing := failingValue(v.Value); failing != "" {
			return "Prometheus returns " + failing
		}
		return ""
	}
	return fmt.Sprintf("the expression yields a %s, neither a vector nor a scalar,", value.Type())
}

// failingValue returns the value as text if a gate fails with it, else "".
func failingValue(v model.SampleValue) string {
	switch {
	case v == 0:
		return "0"
	case math.IsNaN(float64(v)):
		return "NaN (not a number)"
	}
	return ""
}

func seriesName(metric model.Metric) string {
	if len(metric) == 0 {
		return ""
	}
	return " of " + metric.String()
}
