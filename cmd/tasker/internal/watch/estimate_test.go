package watch

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/client"
)

func TestRemaining(t *testing.T) {
	t.Parallel()
	spec := tasker.RolloutSpec{
		Canary: tasker.Amount{N: 1}, Batch: amounts(t, "2"), PauseBetween: tasker.Duration(30 * time.Second),
		Gate: &tasker.Gate{URL: "http://x", For: tasker.Duration(10 * time.Second)},
	}
	// Waves of 1, 2 and 2; an endpoint takes 20 s, and 5 s have passed.
	const usual = 20 * time.Second
	each := usual + 40*time.Second
	tests := []struct {
		name   string
		change func(*tasker.Task)
		wave   int
		want   time.Duration
	}{
		{"running", nil, 2, 15*time.Second + each},
		{"the last wave", nil, 3, 15 * time.Second},
		{"soaking", func(t *tasker.Task) { t.Rollout.State, t.Rollout.Until = tasker.RolloutSoaking, at(12_000) }, 1, 7*time.Second + 10*time.Second + usual + each},
		{"the gate is evaluated", func(t *tasker.Task) { t.Rollout.State = tasker.RolloutGating }, 1, 10*time.Second + usual + each},
		{"the gate holds", func(t *tasker.Task) { t.Rollout.State, t.Rollout.Until = tasker.RolloutGating, at(8_000) }, 1, 3*time.Second + usual + each},
		{"paused", func(t *tasker.Task) { t.Rollout.State = tasker.RolloutPaused }, 1, 0},
		{"it will pause", func(t *tasker.Task) { t.Rollout.PauseAfterCanary = true }, 1, 0},
		{"it has paused", func(t *tasker.Task) { t.Rollout.PauseAfterCanary = true }, 2, 15*time.Second + each},
		{"a cancel is requested", func(t *tasker.Task) { t.CancelRequestedAt = at(0) }, 2, 0},
		{"over", func(t *tasker.Task) { t.Rollout.State = tasker.RolloutFinished }, 3, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := rolloutOf(5, tt.wave, spec)
			for i := range s.Responses {
				if s.Responses[i].Status == tasker.Running {
					s.Responses[i].StartedAt = at(0)
				}
			}
			if tt.change != nil {
				tt.change(&s.Task)
			}
			if got := remaining(s, usual, *at(5000)); got != tt.want {
				t.Errorf("%v, want %v", got, tt.want)
			}
			if got := remaining(s, 0, *at(5000)); got != 0 {
				t.Errorf("%v, though nothing is known", got)
			}
		})
	}
}

func TestFormatEstimate(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "", -time.Second: "", time.Second: "about 5s left", 41 * time.Second: "about 45s left", 90 * time.Second: "about 2m left",
		170 * time.Second: "about 3m left", 59*time.Minute + 40*time.Second: "about 1h00m left", 125 * time.Minute: "about 2h05m left",
	} {
		if got := formatEstimate(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

func TestUsualRunTime(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		runTimes := func(list ...int) {
			out := `{"task":{},"responses":[{"endpoint":"skipped"}`
			for _, s := range list {
				out += fmt.Sprintf(`,{"endpoint":"x","started_at":%q,"finished_at":%q}`, at(0).Format(time.RFC3339), at(s*1000).Format(time.RFC3339))
			}
			fmt.Fprint(w, out+"]}")
		}
		switch r.URL.Path {
		case "/app":
			if r.URL.Query().Get("status") != "succeeded" {
				t.Errorf("requested %s", r.URL)
			}
			fmt.Fprint(w, `{"tasks":[{"type":"app","id":"dry","action":"plan"},{"type":"app","id":"a"},{"type":"app","id":"self"},{"type":"app","id":"b"}]}`)
		case "/app/a":
			runTimes(9, 1, 8)
		case "/app/b":
			runTimes(7, 100)
		default:
			fmt.Fprint(w, `{"tasks":[]}`)
		}
	}))
	defer server.Close()
	c, err := client.New(client.Options{URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got, err := usualRunTime(t.Context(), c, tasker.Task{Type: "app", ID: "self"}); got != 8*time.Second || err != nil {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := usualRunTime(t.Context(), c, tasker.Task{Type: "new"}); got != 0 || err != nil {
		t.Errorf("of nothing: %v, %v", got, err)
	}
}
