package api

import (
	"slices"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
)

func TestSelection(t *testing.T) {
	t.Parallel()
	web := map[string]string{"role": "web"}
	gone := time.Now()
	known := []tasker.Endpoint{
		{Name: "a", Types: []string{"ping"}, Labels: web},
		{Name: "b", Types: []string{"ping"}, ClaimedLabels: web},
		{Name: "c", Labels: web},
		{Name: "d", Types: []string{"ping"}, Labels: web, RevokedAt: &gone},
	}
	labels, err := tasker.ParseSelector("role=web")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name                      string
		selection                 selection
		want                      []string
		broadcast, needsEndpoints bool
	}{
		{"unrestricted", selection{}, []string{"a", "b"}, true, false},
		{"unrestricted in waves", selection{rollout: true}, []string{"a", "b"}, false, true},
		{"named", selection{named: []string{"d", "x"}}, []string{"d", "x"}, false, false},
		{"named in waves", selection{named: []string{"d", "x"}, rollout: true}, []string{"d", "x"}, false, false},
		{"labels", selection{labels: labels}, []string{"a", "c"}, false, true},
		{"names and labels", selection{named: []string{"c", "b"}, labels: labels, rollout: true}, []string{"c", "b", "a"}, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.selection.taskType = "ping"
			var matched []string
			for _, e := range known {
				if tt.selection.matches(e) {
					matched = append(matched, e.Name)
				}
			}
			if got := tt.selection.withMatched(matched); !slices.Equal(got, tt.want) {
				t.Errorf("endpoints %v, want %v", got, tt.want)
			}
			if tt.selection.isBroadcast() != tt.broadcast || tt.selection.needsEndpoints() != tt.needsEndpoints {
				t.Errorf("broadcast %t, needs endpoints %t, want %t, %t", tt.selection.isBroadcast(), tt.selection.needsEndpoints(), tt.broadcast, tt.needsEndpoints)
			}
		})
	}
}
