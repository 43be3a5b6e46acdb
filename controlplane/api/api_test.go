package api_test

import (
	"testing"

	"github.com/MatthiasWiesner/tasker/controlplane/api"
)

func TestNewRequiresOptions(t *testing.T) {
	t.Parallel()
	if _, err := api.New(api.Options{}); err == nil {
		t.Error("New accepts empty options")
	}
}
