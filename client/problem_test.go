package client_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker/client"
)

func TestProblems(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name        string
		status      int
		body        string
		want        string
		unreachable bool
	}{
		{
			"with field errors", 422,
			`{"title":"Unprocessable Entity","status":422,"detail":"body.a is wrong","errors":[{"location":"body.a","message":"is wrong"},{"location":"body.b","message":"is too long"}]}`,
			"422 Unprocessable Entity: body.a is wrong\n  body.b is too long", false,
		},
		{"without a detail", 404, `{"title":"Not Found"}`, "404 Not Found", false},
		{"response of a proxy", 502, "<html>bad gateway</html>", "502 Bad Gateway: <html>bad gateway</html>", true},
		{"database unavailable", 503, `{"title":"Service Unavailable","detail":"try again"}`, "503 Service Unavailable: try again", true},
		{"redirect is not followed", 302, "", "302 Found", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", "http://evil.example/")
				w.WriteHeader(tt.status)
				fmt.Fprint(w, tt.body)
			})
			_, err := c.Get(t.Context(), "ping", "x")
			var p *client.Problem
			if !errors.As(err, &p) || p.Error() != tt.want || p.Status != tt.status {
				t.Errorf("got %v, want %s", err, tt.want)
			}
			if errors.Is(err, client.ErrUnreachable) != tt.unreachable {
				t.Errorf("errors.Is(%v, ErrUnreachable) = %t", err, !tt.unreachable)
			}
		})
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	const closed = "http://127.0.0.1:1" // no program listens on this port
	c := connect(t, closed)
	if _, err := c.Endpoints(t.Context()); !errors.Is(err, client.ErrUnreachable) || !strings.Contains(err.Error(), closed) {
		t.Errorf("Endpoints: %v", err)
	}
	err := c.Watch(t.Context(), "ping", "x", func(client.State) { t.Error("there is no state to show") })
	if !errors.Is(err, client.ErrUnreachable) {
		t.Errorf("Watch: %v", err)
	}
}
