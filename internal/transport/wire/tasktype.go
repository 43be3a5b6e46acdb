package wire

import (
	"fmt"
	"slices"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport"
)

// CheckType returns an error that wraps transport.ErrUnroutable if the task type is not one of
// the configured types.
func CheckType(types []tasker.TaskType, taskType string) error {
	if slices.ContainsFunc(types, func(t tasker.TaskType) bool { return t.Name == taskType }) {
		return nil
	}
	return fmt.Errorf("%w: task type %q is not configured", transport.ErrUnroutable, taskType)
}
