package ping_test

import (
	"encoding/json"
	"testing"

	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/ping"
)

func TestHandleReturnsThePayload(t *testing.T) {
	t.Parallel()
	mux, err := handlers.NewMux(ping.New())
	if err != nil {
		t.Fatal(err)
	}
	for _, payload := range []string{`{}`, `null`, `"x"`, `[1,2.50]`, `{"foo":{"bar":[true]}}`, `12345678901234567890`} {
		t.Run(payload, func(t *testing.T) {
			t.Parallel()
			if err := mux.Validate(ping.Name, json.RawMessage(payload)); err != nil {
				t.Error(err)
			}
			result, err := ping.New().Handle(t.Context(), handlers.Call{Payload: json.RawMessage(payload)})
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.Marshal(result.Value)
			if err != nil || string(got) != payload {
				t.Errorf("got %s, %v", got, err)
			}
		})
	}
	if got := mux.Restart(ping.Name, "ping"); got != handlers.RestartRetry {
		t.Errorf("restart contract %s", got)
	}
}
