package tasker_test

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
)

func assignment() tasker.Order {
	return tasker.Order{
		Version: tasker.WireVersion, Endpoint: "web-1", Type: "ping", Expires: time.Unix(1_800_000_000, 0),
		Assignment: &tasker.Assignment{
			TaskID: "task", Identifier: "Ünü <1>", Attempt: 2, Handler: "ping",
			Payload: json.RawMessage("{ \"a\": \"<b> & \u2028\",\n \"n\": 1.50 }"),
			Timeout: tasker.Duration(time.Minute), Deadline: time.Unix(1_800_000_000, 123_456_000).UTC(),
		},
	}
}

func keys(t *testing.T) (ed25519.PublicKey, ed25519.PrivateKey) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return public, private
}

func TestSignatureSurvivesJSON(t *testing.T) {
	t.Parallel()
	public, private := keys(t)
	other, _ := keys(t)
	orders := map[string]tasker.Order{
		"assignment": assignment(),
		"no payload": {Endpoint: "web-1", Type: "ping", Assignment: &tasker.Assignment{TaskID: "t"}},
		"cancel":     {Endpoint: "web-1", Type: "ping", Cancel: &tasker.Cancel{TaskID: "t", Attempt: 1, Deadline: time.Now(), Broadcast: true}},
		"welcome":    {Endpoint: "web-1", Welcome: &tasker.Welcome{Session: "s", Now: time.Now(), Heartbeat: tasker.Duration(time.Second)}},
	}
	for name, o := range orders {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := o.Verify([]ed25519.PublicKey{public}); !errors.Is(err, tasker.ErrSignature) {
				t.Errorf("without a signature: %v", err)
			}
			if err := o.Sign(private); err != nil {
				t.Fatal(err)
			}
			raw, err := json.Marshal(o)
			if err != nil {
				t.Fatal(err)
			}
			var got tasker.Order
			if err := json.Unmarshal(raw, &got); err != nil {
				t.Fatal(err)
			}
			got.Expires = time.Time{}
			if err := got.Verify([]ed25519.PublicKey{nil, other, public}); err != nil {
				t.Errorf("after encoding to JSON: %v", err)
			}
			if err := got.Verify([]ed25519.PublicKey{other}); !errors.Is(err, tasker.ErrSignature) {
				t.Errorf("with another key: %v", err)
			}
			if err := got.Verify(nil); !errors.Is(err, tasker.ErrSignature) {
				t.Errorf("without any key: %v", err)
			}
		})
	}
}

func TestVerifyDetectsChanges(t *testing.T) {
	t.Parallel()
	public, private := keys(t)
	changes := map[string]func(*tasker.Order){
		"endpoint":      func(o *tasker.Order) { o.Endpoint = "web-2" },
		"all endpoints": func(o *tasker.Order) { o.Endpoint = tasker.AllEndpoints },
		"type":          func(o *tasker.Order) { o.Type = "facts" },
		"task":          func(o *tasker.Order) { o.Assignment.TaskID = "other" },
		"identifier":    func(o *tasker.Order) { o.Assignment.Identifier = "other" },
		"attempt":       func(o *tasker.Order) { o.Assignment.Attempt++ },
		"handler":       func(o *tasker.Order) { o.Assignment.Handler = "command" },
		"payload":       func(o *tasker.Order) { o.Assignment.Payload = json.RawMessage(`{"a":1}`) },
		"no payload":    func(o *tasker.Order) { o.Assignment.Payload = nil },
		"bad JSON":      func(o *tasker.Order) { o.Assignment.Payload = json.RawMessage(`{`) },
		"timeout":       func(o *tasker.Order) { o.Assignment.Timeout++; o.Assignment.Timeout *= 2 },
		"deadline":      func(o *tasker.Order) { o.Assignment.Deadline = o.Assignment.Deadline.Add(time.Second) },
		"action":        func(o *tasker.Order) { o.Assignment.Action = tasker.DryRun },
		"undoes":        func(o *tasker.Order) { o.Assignment.Action, o.Assignment.Undoes = tasker.Undo, "other" },
		"kind": func(o *tasker.Order) {
			o.Cancel = &tasker.Cancel{TaskID: o.Assignment.TaskID, Attempt: o.Assignment.Attempt, Deadline: o.Assignment.Deadline}
			o.Assignment = nil
		},
		"two in one": func(o *tasker.Order) { o.Cancel = &tasker.Cancel{TaskID: "other"} },
		"empty":      func(o *tasker.Order) { o.Assignment = nil },
		"boundary":   func(o *tasker.Order) { o.Endpoint, o.Type = o.Endpoint+"p", "ing" },
		"signature":  func(o *tasker.Order) { o.Signature[0] ^= 1 },
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := assignment()
			if err := o.Sign(private); err != nil {
				t.Fatal(err)
			}
			change(&o)
			if err := o.Verify([]ed25519.PublicKey{public}); !errors.Is(err, tasker.ErrSignature) {
				t.Errorf("Verify = %v", err)
			}
		})
	}
}
