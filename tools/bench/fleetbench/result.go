package fleetbench

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Result is the outcome of one run. Times are in milliseconds.
type Result struct {
	Transport string `json:"transport"`
	Database  string `json:"database"`
	Endpoints int    `json:"endpoints"`
	Tasks     int    `json:"tasks"`
	// Spread reports whether each task was for one endpoint and all were created at once.
	Spread bool `json:"spread"`
	// Payload is the size of a task's payload in bytes, PerConnection the number of agents
	// that shared a connection to the broker.
	Payload       int `json:"payload_bytes"`
	PerConnection int `json:"agents_per_connection"`

	// ConnectMS is the time from the start of the first agent until the control plane
	// listed all agents as connected.
	ConnectMS float64 `json:"connect_ms"`
	// PostMS is the median of the POSTs. ReceivedMS and FinishedMS are the medians of the
	// times from before the POST until every response is stored as received and as
	// succeeded. With Spread they are the times until this holds for all tasks.
	PostMS     float64 `json:"post_ms"`
	ReceivedMS float64 `json:"received_ms"`
	FinishedMS float64 `json:"finished_ms"`
	// RawMS is the median of the plain loop for as many messages, RatioToRaw the ratio of
	// FinishedMS to it; null without --raw.
	RawMS      *float64 `json:"raw_ms"`
	RatioToRaw *float64 `json:"ratio_to_raw"`
	// RawAnswers is the number of answers to each message of the plain loop, Updates the
	// number of reports that the agents sent.
	RawAnswers int     `json:"raw_answers,omitempty"`
	Updates    float64 `json:"updates"`

	TasksPerSecond     float64     `json:"tasks_per_second"`
	ResponsesPerSecond float64     `json:"responses_per_second"`
	Post               Percentiles `json:"post"`
	// BareCommit has the times to commit the rows of the POSTs once more, by as many
	// callers. PostToCommit is the ratio of the 99th percentiles. Both are null without
	// --raw.
	BareCommit   *Percentiles `json:"bare_commit"`
	PostToCommit *float64     `json:"post_to_bare_commit"`

	Received Percentiles `json:"received"`
	Finished Percentiles `json:"finished"`

	// Usage is the usage of each part by the tasks, RawUsage by the plain loop.
	Usage    usage `json:"usage"`
	RawUsage usage `json:"raw_usage,omitempty"`
	// Idle and Outage are null unless they were measured.
	Idle   *Idle   `json:"idle,omitempty"`
	Outage *Outage `json:"outage,omitempty"`
	// Memory is the growth of each part per agent, in bytes.
	Memory map[string]int64 `json:"memory_per_endpoint_bytes"`
}

// Percentiles are percentiles of durations, in milliseconds.
type Percentiles struct {
	P50 float64 `json:"p50_ms"`
	P95 float64 `json:"p95_ms"`
	P99 float64 `json:"p99_ms"`
}

func percentiles(all []time.Duration) Percentiles {
	if len(all) == 0 {
		return Percentiles{}
	}
	sorted := slices.Sorted(slices.Values(all))
	at := func(p float64) float64 {
		return milliseconds(sorted[max(0, int(math.Ceil(p*float64(len(sorted))))-1)])
	}
	return Percentiles{P50: at(0.50), P95: at(0.95), P99: at(0.99)}
}

func milliseconds(d time.Duration) float64 {
	return math.Round(float64(d.Microseconds())/10) / 100
}

// Table writes the results as tables.
func Table(w io.Writer, results []Result) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "ENDPOINTS\tTASKS\tCONNECT\tPOST p50\tp99\tRECEIVED p50\tp99\tFINISHED p50\tp99\tRAW\tRATIO\tTASKS/s\tRESPONSES/s\t")
	for _, r := range results {
		fmt.Fprintln(t, r.row())
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, r := range results {
		if err := r.writeUsage(w); err != nil {
			return err
		}
		r.writeComparisons(w)
	}
	return nil
}

// row returns the result's line of the first table.
func (r Result) row() string {
	raw, ratio := "-", "-"
	if r.RawMS != nil {
		raw, ratio = duration(*r.RawMS), fmt.Sprintf("%.2f", *r.RatioToRaw)
	}
	tasks := fmt.Sprint(r.Tasks)
	if r.Spread {
		tasks += " (spread)"
	}
	return strings.Join([]string{
		fmt.Sprint(r.Endpoints), tasks, duration(r.ConnectMS), duration(r.Post.P50), duration(r.Post.P99),
		duration(r.Received.P50), duration(r.Received.P99), duration(r.Finished.P50), duration(r.Finished.P99),
		raw, ratio, fmt.Sprintf("%.4g", r.TasksPerSecond), fmt.Sprintf("%.4g", r.ResponsesPerSecond),
	}, "\t") + "\t"
}

// writeUsage writes a table of what each part used.
func (r Result) writeUsage(w io.Writer) error {
	fmt.Fprintf(w, "\n%d endpoints over %s, tasks in %s:\n", r.Endpoints, r.Transport, r.Database)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tCPU\tplain loop\tRESIDENT\tper agent\t")
	for _, part := range partsOf(r.Usage) {
		raw := "-"
		if u, ok := r.RawUsage[part]; ok {
			raw = fmt.Sprintf("%.2f s", u.CPUSeconds)
		}
		fmt.Fprintf(t, "%s\t%.2f s\t%s\t%d MiB\t%d KiB\t\n", part, r.Usage[part].CPUSeconds, raw, r.Usage[part].Resident>>20, r.Memory[part]>>10)
	}
	return t.Flush()
}

// writeComparisons writes the optional measurements.
func (r Result) writeComparisons(w io.Writer) {
	if c := r.BareCommit; c != nil {
		fmt.Fprintf(w, "POST: p50 %s, p95 %s, p99 %s; bare commit of the same rows: p50 %s, p95 %s, p99 %s; ratio of p99 %.2f\n",
			duration(r.Post.P50), duration(r.Post.P95), duration(r.Post.P99), duration(c.P50), duration(c.P95), duration(c.P99), *r.PostToCommit)
	}
	if i := r.Idle; i != nil {
		fmt.Fprintf(w, "idle for %.0f s:", i.Seconds)
		for _, part := range partsOf(r.Usage) {
			fmt.Fprintf(w, " %s %.1f %% of a processor, %d KiB per agent;", part, i.CPUPercent[part], i.Memory[part]>>10)
		}
		fmt.Fprintln(w)
	}
	if u := r.Outage; u != nil {
		fmt.Fprintf(w, "all agents reconnected within %s after an outage of %.0f s: %d connections, %d attempts, at most %d per second; memory at most",
			duration(u.BackMS), u.Seconds, u.Connections, u.Attempts, u.PeakPerSecond)
		for _, part := range partsOf(r.Usage) {
			fmt.Fprintf(w, " %s %d MiB;", part, u.PeakResident[part]>>20)
		}
		fmt.Fprintln(w)
	}
}

func duration(ms float64) string {
	d := time.Duration(ms * float64(time.Millisecond))
	if d >= time.Second {
		return d.Round(10 * time.Millisecond).String()
	}
	return d.Round(100 * time.Microsecond).String()
}
