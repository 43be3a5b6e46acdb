package fleetbench_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/google/uuid"

	"github.com/MatthiasWiesner/tasker/tools/bench/fleetbench"
)

// buildControlPlane builds the control plane and returns its directory.
func buildControlPlane(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("go", "build", "-o", dir, "./cmd/tasker-controlplane")
	cmd.Dir = "../../.."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the control plane: %v\n%s", err, out)
	}
	return dir
}

// useTestServers sets the broker and the database, or skips the test.
func useTestServers(t *testing.T, o *fleetbench.Options) {
	t.Helper()
	o.Name = "tasker_bench_" + uuid.NewString()[:8]
	o.RabbitMQ, o.MySQL = os.Getenv("TASKER_TEST_RABBITMQ"), strings.TrimSuffix(os.Getenv("TASKER_TEST_MYSQL"), "/")
	if o.RabbitMQ == "" || o.MySQL == "" {
		t.Skip("TASKER_TEST_RABBITMQ or TASKER_TEST_MYSQL is not set; make test sets them up")
	}
}

// leftovers returns the names of the vhost and the database of a run, if they exist.
func leftovers(t *testing.T, o fleetbench.Options) []string {
	t.Helper()
	var names []string
	resp, err := http.Get(o.RabbitMQ + "/vhosts")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var vhosts []struct{ Name string }
	if err := json.NewDecoder(resp.Body).Decode(&vhosts); err != nil {
		t.Fatal(err)
	}
	for _, v := range vhosts {
		names = append(names, v.Name)
	}
	u, err := url.Parse(o.MySQL)
	if err != nil {
		t.Fatal(err)
	}
	c := mysql.NewConfig()
	c.Net, c.Addr, c.User = "tcp", u.Host, u.User.Username()
	c.Passwd, _ = u.User.Password()
	db, err := sql.Open("mysql", c.FormatDSN())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.Query("SHOW DATABASES")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(names, func(name string) bool { return name != o.Name })
}

// TestRun measures small fleets on the real servers and leaves nothing behind.
func TestRun(t *testing.T) {
	t.Parallel()
	dir := buildControlPlane(t)
	tests := []struct {
		name string
		o    fleetbench.Options
	}{
		{"amqp", fleetbench.Options{Endpoints: 3, Tasks: 2, Payload: 1024, Raw: true}},
		{"amqp_shared_connections", fleetbench.Options{Endpoints: 5, Tasks: 1, PerConnection: 2}},
		{"amqp_spread", fleetbench.Options{Endpoints: 3, Tasks: 20, Spread: true, Raw: true, Sleep: time.Millisecond}},
		{"http", fleetbench.Options{Endpoints: 3, Tasks: 2, HTTP: true}},
		{"amqp_outage", fleetbench.Options{Endpoints: 5, Tasks: 1, PerConnection: 2, Outage: time.Second}},
		{"http_idle_and_outage", fleetbench.Options{Endpoints: 3, Tasks: 1, HTTP: true, Idle: time.Second, Outage: time.Second}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			o := test.o
			useTestServers(t, &o)
			o.Programs = dir
			r, err := fleetbench.Run(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			responses := o.Tasks * o.Endpoints
			if o.Spread {
				responses = o.Tasks
			}
			if r.Endpoints != o.Endpoints || r.Tasks != o.Tasks || int(r.Updates) < responses {
				t.Errorf("%+v", r)
			}
			if r.PostMS <= 0 || r.ReceivedMS < r.PostMS || r.FinishedMS < r.ReceivedMS || r.Finished.P99 < r.Finished.P50 {
				t.Errorf("impossible times: %+v", r)
			}
			if raw := o.Raw && !o.HTTP; raw != (r.RawMS != nil) || raw && (*r.RawMS <= 0 || *r.RatioToRaw != r.FinishedMS / *r.RawMS) {
				t.Errorf("plain loop: %+v", r)
			}
			if c := r.BareCommit; (c != nil) != (o.Raw && !o.HTTP) || c != nil && (c.P50 <= 0 || *r.PostToCommit != r.Post.P99/c.P99) {
				t.Errorf("bare commits: %+v", r)
			}
			if u := r.Usage["controlplane"]; u.Resident == 0 {
				t.Errorf("usage: %+v", r.Usage)
			}
			if o.Idle > 0 && (r.Idle == nil || r.Idle.Seconds != 1 || r.Idle.Memory["controlplane"] <= 0) {
				t.Errorf("idle: %+v", r.Idle)
			}
			if o.Outage > 0 && (r.Outage == nil || r.Outage.BackMS <= 0 || r.Outage.Connections < 3 || r.Outage.Attempts < 3 || r.Outage.PeakPerSecond < 1) {
				t.Errorf("outage: %+v", r.Outage)
			}
			if names := leftovers(t, o); len(names) > 0 {
				t.Errorf("left behind: %v", names)
			}
		})
	}
}

// TestRun_interrupted: a run that is cancelled leaves nothing behind.
func TestRun_interrupted(t *testing.T) {
	t.Parallel()
	o := fleetbench.Options{Endpoints: 3, Tasks: 1, Sleep: time.Hour, Programs: buildControlPlane(t)}
	useTestServers(t, &o)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o.Logf = func(string, ...any) { cancel() } // as soon as the agents are connected
	if _, err := fleetbench.Run(ctx, o); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if names := leftovers(t, o); len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
}

func TestRun_invalid_options(t *testing.T) {
	t.Parallel()
	for _, o := range []fleetbench.Options{
		{Endpoints: 0, Tasks: 1},
		{Endpoints: 1_000_000, Tasks: 1},
		{Endpoints: 1, Tasks: 0},
		{Endpoints: 1, Tasks: 1, Payload: 1 << 30},
		{Endpoints: 1, Tasks: 1, HTTP: true, Programs: t.TempDir()},
	} {
		if _, err := fleetbench.Run(t.Context(), o); err == nil {
			t.Errorf("%+v: no error", o)
		}
	}
}

func TestTableAndPlot(t *testing.T) {
	t.Parallel()
	raw, ratio := 40.0, 1.25
	results := []fleetbench.Result{
		{Transport: "amqp", Database: "mysql", Endpoints: 100, Tasks: 1, ReceivedMS: 45, FinishedMS: 50, RawMS: &raw, RatioToRaw: &ratio},
		{Transport: "amqp", Database: "mysql", Endpoints: 1000, Tasks: 1, ReceivedMS: 450, FinishedMS: 1500},
	}
	var table strings.Builder
	if err := fleetbench.Table(&table, results); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"1.25", "40ms", "1000 endpoints over amqp"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("no %q in\n%s", want, &table)
		}
	}
	for name, magic := range map[string]string{"p.svg": "<svg", "p.png": "PNG"} {
		file := filepath.Join(t.TempDir(), name)
		if err := fleetbench.Plot(file, results); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(b[:200]), magic) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := fleetbench.Plot("p.txt", results); err == nil {
		t.Error("a plot with the suffix .txt was written")
	}
}
