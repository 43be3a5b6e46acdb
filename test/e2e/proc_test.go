package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// processesOf returns the command lines of all processes that carry the task's
// id in their environment.
func processesOf(t *testing.T, taskID string) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, file := range files {
		env, err := os.ReadFile(file) //nolint:gosec // below /proc
		if err != nil || !bytes.Contains(env, []byte("TASKER_TASK_ID="+taskID)) {
			continue
		}
		if line, err := os.ReadFile(filepath.Join(filepath.Dir(file), "cmdline")); err == nil && len(line) > 0 { //nolint:gosec // below /proc
			found = append(found, string(bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
		}
	}
	return found
}
