package tasker_test

import (
	"slices"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
)

func TestTarget(t *testing.T) {
	t.Parallel()
	web := map[string]string{"role": "web"}
	gone := time.Now()
	known := []tasker.Endpoint{
		{Name: "a", Types: []string{"ping"}, Presence: tasker.Presence{Labels: web}},
		{Name: "b", Types: []string{"ping"}},
		{Name: "c", Presence: tasker.Presence{Labels: web}},
		{Name: "d", Types: []string{"ping"}, Presence: tasker.Presence{Labels: web}, RevokedAt: &gone},
	}
	labels, err := tasker.ParseSelector("role=web")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name                 string
		target               tasker.Target
		want                 []string
		broadcast, selective bool
	}{
		{"nobody named", tasker.Target{}, []string{"a", "b"}, true, false},
		{"nobody named in waves", tasker.Target{Rollout: true}, []string{"a", "b"}, false, true},
		{"named", tasker.Target{Endpoints: []string{"d", "x"}}, []string{"d", "x"}, false, false},
		{"named in waves", tasker.Target{Endpoints: []string{"d", "x"}, Rollout: true}, []string{"d", "x"}, false, false},
		{"labels", tasker.Target{Labels: labels}, []string{"a", "c"}, false, true},
		{"both", tasker.Target{Endpoints: []string{"c", "b"}, Labels: labels, Rollout: true}, []string{"c", "b", "a"}, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.target.Type = "ping"
			var selected []string
			for _, e := range known {
				if tt.target.Selects(e) {
					selected = append(selected, e.Name)
				}
			}
			if got := tt.target.Join(selected); !slices.Equal(got, tt.want) {
				t.Errorf("it is for %v, want %v", got, tt.want)
			}
			if tt.target.Broadcast() != tt.broadcast || tt.target.Selective() != tt.selective {
				t.Errorf("broadcast %t, selective %t, want %t, %t", tt.target.Broadcast(), tt.target.Selective(), tt.broadcast, tt.selective)
			}
		})
	}
}
