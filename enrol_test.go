package tasker_test

import (
	"testing"

	"github.com/MatthiasWiesner/tasker"
)

func TestValidateSecret(t *testing.T) {
	t.Parallel()
	const good = "abcdefghijklmnopqrstuvwxyz-_ABCDEFGHIJ01234"
	for secret, ok := range map[string]bool{
		good: true, good + good: true, "": false, good[1:]: false, good[1:] + "=": false, good[1:] + ":": false,
		good + good + good: false,
	} {
		if err := tasker.ValidateSecret(secret); (err == nil) != ok {
			t.Errorf("ValidateSecret(%q) = %v", secret, err)
		}
	}
}
