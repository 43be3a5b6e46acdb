package systemd

import "testing"

func TestGetReturnsZeroForMissingOrMistypedProperty(t *testing.T) {
	t.Parallel()
	p := Properties{"ActiveState": "active", "MainPID": uint32(7)}
	if got := Get[string](p, "ActiveState"); got != "active" {
		t.Errorf("ActiveState = %q", got)
	}
	if got := Get[string](p, "MainPID"); got != "" {
		t.Errorf("MainPID as a string = %q", got)
	}
	if got := Get[uint32](nil, "MainPID"); got != 0 {
		t.Errorf("MainPID of no properties = %d", got)
	}
}

func TestHasJob(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		p    Properties
		want bool
	}{
		"no_property": {nil, false},
		"no_job":      {Properties{"Job": []any{uint32(0), "/"}}, false},
		"job":         {Properties{"Job": []any{uint32(12), "/org/freedesktop/systemd1/job/12"}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := tt.p.HasJob(); got != tt.want {
				t.Errorf("HasJob() = %v, want %v", got, tt.want)
			}
		})
	}
}
