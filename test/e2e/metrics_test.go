package e2e

import (
	"io"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// docs/metrics.md lists the metrics of the programs with their types and labels.
func TestMetricsAreDocumented(t *testing.T) {
	t.Parallel()
	documented := documentedMetrics(t)
	forEachBackend(t, func(t *testing.T, f *fleet) {
		f.startAgent("loadbalancer-1")
		f.waitFinished(f.post("ping", `{"identifier":"m","endpoints":["loadbalancer-1"]}`))
		f.waitFinished(f.post("command", `{"identifier":"m","endpoints":["loadbalancer-1"],"payload":{"argv":["/bin/false"]}}`))
		shown := scrapedMetrics(t, "http://"+f.api+"/metrics")
		maps.Copy(shown, scrapedMetrics(t, "http://"+f.endpoint("loadbalancer-1").Metrics+"/metrics"))
		for name, m := range shown {
			want, ok := documented[name]
			switch {
			case !ok:
				t.Errorf("%s is shown and not documented", name)
			case want.kind != m.kind:
				t.Errorf("%s is documented as %s and shown as %s", name, want.kind, m.kind)
			case m.labels != nil && !slices.Equal(want.labels, m.labels):
				t.Errorf("%s is documented with the labels %v and shown with %v", name, want.labels, m.labels)
			}
		}
		for name, m := range documented {
			ofAnother := m.rabbitmq && strings.HasSuffix(t.Name(), "sqlite") || m.http && strings.HasSuffix(t.Name(), "mysql")
			if _, ok := shown[name]; !ok && !ofAnother {
				t.Errorf("%s is documented and not shown", name)
			}
		}
	})
}

// metric is a metric in the documentation or from a program.
type metric struct {
	kind           string
	labels         []string
	rabbitmq, http bool
}

func documentedMetrics(t *testing.T) map[string]metric {
	t.Helper()
	doc, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("(?m)^\\| `(tasker_[a-z_]+)` \\| ([a-z]+) \\|(.*?)\\| (.*) \\|$")
	label := regexp.MustCompile("`([a-z]+)`")
	found := map[string]metric{}
	for _, m := range row.FindAllStringSubmatch(string(doc), -1) {
		d := metric{kind: m[2], rabbitmq: strings.HasPrefix(m[4], "with RabbitMQ"), http: strings.HasPrefix(m[4], "with agents over HTTP")}
		for _, l := range label.FindAllStringSubmatch(m[3], -1) {
			d.labels = append(d.labels, l[1])
		}
		slices.Sort(d.labels)
		found[m[1]] = d
	}
	if len(found) < 20 {
		t.Fatalf("docs/metrics.md lists %d metrics; can its tables not be read?", len(found))
	}
	return found
}

func scrapedMetrics(t *testing.T, url string) map[string]metric {
	t.Helper()
	resp, err := http.Get(url) //nolint:noctx // on loopback
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]metric{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (tasker_[a-z_]+) ([a-z]+)$`).FindAllStringSubmatch(string(raw), -1) {
		found[m[1]] = metric{kind: m[2], labels: scrapedLabels(string(raw), m[1], m[2])}
	}
	return found
}

// scrapedLabels returns the labels of a metric's first sample; nil if there are none.
func scrapedLabels(text, name, kind string) []string {
	if kind == "histogram" {
		name += "_count"
	}
	sample := regexp.MustCompile(`(?m)^` + name + `(\{.*\})? `).FindStringSubmatch(text)
	if sample == nil {
		return nil
	}
	var labels []string
	for _, l := range regexp.MustCompile(`([a-z_]+)="`).FindAllStringSubmatch(sample[1], -1) {
		labels = append(labels, l[1])
	}
	slices.Sort(labels)
	return labels
}
