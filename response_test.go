package tasker_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/MatthiasWiesner/tasker"
)

func TestApply(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		response tasker.Response
		update   tasker.Update
		want     tasker.ResponseStatus
		late     bool
	}{
		{"received arrives before sent", tasker.Response{Status: "pending", Attempt: 1}, tasker.Update{Attempt: 1, Seq: 1, Status: "received"}, "received", false},
		{"running", tasker.Response{Status: "received", Attempt: 1, Seq: 1}, tasker.Update{Attempt: 1, Seq: 2, Status: "running"}, "running", false},
		{"repeated", tasker.Response{Status: "running", Attempt: 1, Seq: 2}, tasker.Update{Attempt: 1, Seq: 2, Status: "failed"}, "running", false},
		{"older sequence", tasker.Response{Status: "running", Attempt: 1, Seq: 2}, tasker.Update{Attempt: 1, Seq: 1, Status: "received"}, "running", false},
		{"lower rank", tasker.Response{Status: "running", Attempt: 1, Seq: 2}, tasker.Update{Attempt: 1, Seq: 3, Status: "received"}, "running", false},
		{"older attempt", tasker.Response{Status: "pending", Attempt: 2}, tasker.Update{Attempt: 1, Seq: 9, Status: "succeeded"}, "pending", false},
		{"a reported final status never changes", tasker.Response{Status: "failed", Attempt: 1, Seq: 3}, tasker.Update{Attempt: 1, Seq: 4, Status: "succeeded"}, "failed", false},
		{"late after missing", tasker.Response{Status: "missing", Attempt: 1, Presumed: true}, tasker.Update{Attempt: 1, Seq: 1, Status: "received"}, "received", true},
		{"late after silence", tasker.Response{Status: "interrupted", Attempt: 1, Seq: 2, Presumed: true}, tasker.Update{Attempt: 1, Seq: 3, Status: "succeeded"}, "succeeded", true},
		{"agents cannot report missing", tasker.Response{Status: "sent", Attempt: 1}, tasker.Update{Attempt: 1, Seq: 1, Status: "missing"}, "sent", false},
		{"unknown status", tasker.Response{Status: "sent", Attempt: 1}, tasker.Update{Attempt: 1, Seq: 1, Status: "unknown"}, "sent", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, changed := tt.response.Apply(tt.update)
			if got.Status != tt.want || got.Late != tt.late || changed != (tt.want != tt.response.Status) {
				t.Errorf("Apply = %s, late %t, changed %t; want %s, late %t", got.Status, got.Late, changed, tt.want, tt.late)
			}
		})
	}
}

// TestApplyIgnoresOrderAndRepetition applies updates in random order, with duplicates.
// The update with the highest sequence decides, once it is final.
func TestApplyIgnoresOrderAndRepetition(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		updates := []tasker.Update{
			{Attempt: 1, Seq: 1, Status: "received"},
			{Attempt: 1, Seq: 2, Status: "running"},
			{Attempt: 1, Seq: 3, Status: "running"},
			{Attempt: 1, Seq: 4, Status: rapid.SampledFrom([]tasker.ResponseStatus{"succeeded", "failed", "cancelled"}).Draw(t, "end")},
		}
		deliveries := append(rapid.SliceOf(rapid.SampledFrom(updates)).Draw(t, "deliveries"), updates[3])
		r := tasker.Response{Status: tasker.Sent, Attempt: 1}
		for _, u := range append(deliveries, deliveries...) {
			r, _ = r.Apply(u)
		}
		if r.Status != updates[3].Status || r.Seq != 4 {
			t.Fatalf("after %v the response is %s", deliveries, r.Status)
		}
	})
}
