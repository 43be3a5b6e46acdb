package gate

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/MatthiasWiesner/tasker"
)

// answer is that of Prometheus to an instant query
// (https://prometheus.io/docs/prometheus/latest/querying/api/).
type answer struct {
	Status string `json:"status"`
	Error  string `json:"error"`
	Data   struct {
		ResultType string          `json:"resultType"`
		Result     json.RawMessage `json:"result"`
	} `json:"data"`
}

func (k *Keeper) promQL(ctx context.Context, g tasker.Gate, endpoints []string) (bool, string, error) {
	if k.prometheus == "" {
		return false, "the control plane knows no Prometheus any more (prometheus.uri in its configuration)", nil
	}
	form := url.Values{"query": {expression(g.PromQL, endpoints)}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, k.prometheus, strings.NewReader(form.Encode()))
	if err != nil {
		return false, "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := k.http.Do(req)
	if err != nil {
		return false, "", err
	}
	defer resp.Body.Close()
	var a answer
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&a); err != nil {
		return false, "", fmt.Errorf("the answer of Prometheus (%s) cannot be read: %w", resp.Status, err)
	}
	switch {
	case a.Status == "success":
		holds, what, err := a.holds()
		if !holds && err == nil {
			what += " for " + g.PromQL
		}
		return holds, what, err
	case resp.StatusCode == http.StatusBadRequest || resp.StatusCode == http.StatusUnprocessableEntity:
		return false, "Prometheus refuses the expression: " + a.Error, nil
	}
	return false, "", fmt.Errorf("Prometheus answers %s: %s", resp.Status, a.Error) //nolint:staticcheck // a name
}

// expression puts the endpoints in, as a regular expression within a text of
// PromQL, where a backslash stands for itself when it is doubled.
func expression(promQL string, endpoints []string) string {
	quoted := make([]string, len(endpoints))
	for i, name := range endpoints {
		quoted[i] = strings.ReplaceAll(regexp.QuoteMeta(name), `\`, `\\`)
	}
	return strings.ReplaceAll(promQL, "$endpoints", strings.Join(quoted, "|"))
}

// holds says whether the answer is anything but nothing, zero or NaN: a comparison in
// PromQL yields nothing where it is false, and a ratio of nothing is NaN. It says why it
// does not hold.
func (a answer) holds() (bool, string, error) {
	switch a.Data.ResultType {
	case "vector":
		var series []struct {
			Metric map[string]string `json:"metric"`
			Value  sample            `json:"value"`
		}
		if err := json.Unmarshal(a.Data.Result, &series); err != nil {
			return false, "", fmt.Errorf("read a vector of Prometheus: %w", err)
		}
		for _, s := range series {
			if why := s.Value.fails(); why != "" {
				return false, "Prometheus says " + why + of(s.Metric), nil
			}
		}
		if len(series) == 0 {
			return false, "Prometheus says nothing", nil
		}
		return true, "", nil
	case "scalar":
		var v sample
		if err := json.Unmarshal(a.Data.Result, &v); err != nil {
			return false, "", fmt.Errorf("read a scalar of Prometheus: %w", err)
		}
		if why := v.fails(); why != "" {
			return false, "Prometheus says " + why, nil
		}
		return true, "", nil
	}
	return false, fmt.Sprintf("the expression yields a %s, neither a vector nor a scalar,", a.Data.ResultType), nil
}

// of names the series that a value is of, as Prometheus does; one without labels has
// no name.
func of(metric map[string]string) string {
	var labels []string
	for _, name := range slices.Sorted(maps.Keys(metric)) {
		if name != "__name__" {
			labels = append(labels, fmt.Sprintf("%s=%q", name, metric[name]))
		}
	}
	name := metric["__name__"]
	if len(labels) > 0 {
		name += "{" + strings.Join(labels, ", ") + "}"
	}
	if name == "" {
		return ""
	}
	return " of " + name
}

// sample is a value, which comes as a list of its time and itself as a text.
type sample float64

// fails says as what a value does not hold; empty if it does.
func (s sample) fails() string {
	switch {
	case s == 0:
		return "0"
	case math.IsNaN(float64(s)):
		return "NaN, which is no number,"
	}
	return ""
}

// UnmarshalJSON reads it.
func (s *sample) UnmarshalJSON(b []byte) error {
	var text string
	pair := []any{new(json.RawMessage), &text}
	if err := json.Unmarshal(b, &pair); err != nil {
		return err
	}
	v, err := strconv.ParseFloat(text, 64)
	*s = sample(v)
	return err
}
