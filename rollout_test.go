package tasker_test

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/MatthiasWiesner/tasker"
)

func TestWaveSizes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		spec  string
		total int
		want  []int
	}{
		{`{}`, 5, []int{5}},
		{`{"canary":1}`, 5, []int{1, 4}},
		{`{"canary":1,"batch":"25%"}`, 20, []int{1, 5, 5, 5, 4}},
		{`{"batch":[1,"10%","50%","100%"]}`, 100, []int{1, 10, 50, 39}},
		{`{"batch":[1,2]}`, 8, []int{1, 2, 2, 2, 1}},
		{`{"batch":"1%"}`, 3, []int{1, 1, 1}}, // no wave is empty
		{`{"canary":"50%","batch":"100%"}`, 1, []int{1}},
		{`{"canary":7,"batch":1}`, 3, []int{3}},
		{`{"canary":1}`, 0, nil},
	} {
		var s tasker.RolloutSpec
		if err := json.Unmarshal([]byte(tt.spec), &s); err != nil {
			t.Fatal(err)
		}
		s.SetDefaults()
		if got := s.WaveSizes(tt.total); !slices.Equal(got, tt.want) {
			t.Errorf("%s of %d: %v, want %v", tt.spec, tt.total, got, tt.want)
		}
	}
}

func TestUnreleased(t *testing.T) {
	t.Parallel()
	r := tasker.Rollout{Waves: []int{1, 2, 4}}
	for wave, want := range []int{7, 6, 4, 0, 0} {
		if r.Wave = wave; r.Unreleased() != want {
			t.Errorf("after %d waves: %d, want %d", wave, r.Unreleased(), want)
		}
	}
}

func TestArrange(t *testing.T) {
	t.Parallel()
	for order, want := range map[tasker.RolloutOrder][]string{
		tasker.OrderListed: {"c", "a", "b"}, tasker.OrderName: {"a", "b", "c"}, tasker.OrderRandom: {"b", "a", "c"},
	} {
		got := []string{"c", "a", "b"}
		order.Arrange(got, func(n int, swap func(i, j int)) { swap(0, n-1) })
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: -want +got\n%s", order, diff)
		}
	}
}
