package tasker_test

import (
	"testing"

	"github.com/MatthiasWiesner/tasker"
)

func TestSelector(t *testing.T) {
	t.Parallel()
	labels := map[string]string{"role": "lb", "zone": "a", "empty": ""}
	for text, want := range map[string]bool{
		"role=lb": true, "role==lb": true, "role=web": false, "role!=web": true, "role!=lb": false, "zone": true, "!zone": false,
		"rack": false, "!rack": true, "rack!=1": true, "role=lb,zone!=b": true, "role=lb,zone=b": false, " role = lb , zone": true,
		"empty": true, "!empty": false,
	} {
		s, err := tasker.ParseSelector(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
		} else if s.Matches(labels) != want {
			t.Errorf("%q matches: %v, want %v", text, !want, want)
		}
	}
	for _, text := range []string{"", ",", "role=lb,", "=lb", "!", "!=b", "ro le=1", `role="lb"`, "a=b=c", "role=", "role==", "role!=", "role!= ", "role=lb,zone!="} {
		if _, err := tasker.ParseSelector(text); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}
