package tasker_test

import (
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker"
)

func TestEndpointAndTaskTypeNames(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name               string
		endpoint, taskType bool
	}{
		{"loadbalancer-1", true, true},
		{"a", true, true},
		{"0", true, true},
		{"web.example.org", true, true},
		{"update_app", true, true},
		{strings.Repeat("a", 64), true, true},
		{strings.Repeat("a", 65), true, false},
		{strings.Repeat("a", 128), true, false},
		{strings.Repeat("a", 129), false, false},
		{"", false, false},
		{"-a", false, false},
		{".a", false, false},
		{"_a", false, false},
		{"A", false, false},
		{"a b", false, false},
		{"a/b", false, false},
		{"a\n", false, false},
		{"ä", false, false},
		{tasker.AllEndpoints, false, false},
		{"endpoints", true, false},
		{"metrics", true, false},
	}
	for _, tt := range tests {
		if err := tasker.ValidateEndpoint(tt.name); (err == nil) != tt.endpoint {
			t.Errorf("ValidateEndpoint(%.20q) = %v", tt.name, err)
		}
		if err := tasker.ValidateTaskType(tt.name); (err == nil) != tt.taskType {
			t.Errorf("ValidateTaskType(%.20q) = %v", tt.name, err)
		}
	}
}

func TestIdentifiers(t *testing.T) {
	t.Parallel()
	tests := map[string]bool{
		"e7bd91d0-16ad-11e2-892e-0800200c9a66": true,
		"release 2.0 für alle":                 true,
		strings.Repeat("x", 255):               true,
		strings.Repeat("x", 256):               false,
		strings.Repeat("ü", 128):               false,
		"":                                     false,
		"a/b":                                  false,
		"a\x00b":                               false,
		"a\u0085b":                             false,
		"a\xffb":                               false,
	}
	for id, ok := range tests {
		if err := tasker.ValidateIdentifier(id); (err == nil) != ok {
			t.Errorf("ValidateIdentifier(%.20q) = %v", id, err)
		}
	}
}

// TestNewIdentifierIsNotReserved checks that clients cannot choose the identifiers of
// undo tasks.
func TestNewIdentifierIsNotReserved(t *testing.T) {
	t.Parallel()
	const id = "019ceb9f-4c48-7d2e-9b0a-5f1f4d0c8a11"
	for identifier, ok := range map[string]bool{
		tasker.UndoIdentifier(id, 1):         false,
		tasker.UndoIdentifier(id, 1234):      false,
		"":                                   false,
		id:                                   true,
		"undo-2.4.1":                         true,
		"undo-" + id:                         true,
		"undo-" + id + "-":                   true,
		"undo-" + id + "-x":                  true,
		"undo-" + id + "-1-2":                true,
		"undo-" + strings.ToUpper(id) + "-1": true,
		"undo-" + strings.Replace(id, "-", "0", 1) + "-1": true,
		"undo-" + strings.Repeat("-", 36) + "-1":          true,
		"redo-" + id + "-1":                               true,
	} {
		if err := tasker.ValidateNewIdentifier(identifier); (err == nil) != ok {
			t.Errorf("ValidateNewIdentifier(%q) = %v", identifier, err)
		}
		if err := tasker.ValidateIdentifier(identifier); (err == nil) != (identifier != "") {
			t.Errorf("ValidateIdentifier(%q) = %v", identifier, err)
		}
	}
}
