package process

import (
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/MatthiasWiesner/tasker/handlers"
)

const (
	envTaskID   = "TASKER_TASK_ID"
	envEndpoint = "TASKER_ENDPOINT"
)

// Environ returns the environment of a command that a call starts: PATH, HOME and LANG, then
// extra, then TASKER_TASK_ID, TASKER_IDENTIFIER, TASKER_ENDPOINT, TASKER_TYPE and
// TASKER_ATTEMPT, which extra cannot change. The rest of the agent's own environment may
// contain secrets and is left out.
func Environ(call handlers.Call, extra map[string]string) []string {
	home := os.Getenv("HOME")
	if home == "" {
		home = "/"
	}
	lang := os.Getenv("LANG")
	if lang == "" {
		lang = "C.UTF-8"
	}
	env := map[string]string{
		"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME": home,
		"LANG": lang,
	}
	maps.Copy(env, extra)
	maps.Copy(env, map[string]string{
		envTaskID:           call.TaskID,
		"TASKER_IDENTIFIER": call.Identifier,
		envEndpoint:         call.Endpoint,
		"TASKER_TYPE":       call.Type,
		"TASKER_ATTEMPT":    strconv.Itoa(call.Attempt),
	})
	list := make([]string, 0, len(env))
	for _, name := range slices.Sorted(maps.Keys(env)) {
		list = append(list, name+"="+env[name])
	}
	return list
}

// lookup returns the value of a variable, or "" if it is not set.
func lookup(env []string, name string) string {
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			return v
		}
	}
	return ""
}
