package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/MatthiasWiesner/tasker"
)

// callbackOf returns the callback of the flags; nil if there is none. The control plane
// checks whether its URL is permitted.
func (f createFlags) callbackOf(cmd *cobra.Command) (*tasker.Callback, error) {
	hasEvents := cmd.Flags().Changed("callback-events")
	switch {
	case !cmd.Flags().Changed("callback") && hasEvents:
		return nil, usage("--callback-events needs the URL: name it with --callback")
	case !cmd.Flags().Changed("callback"):
		return nil, nil //nolint:nilnil // no callback
	}
	c := &tasker.Callback{URL: f.callback}
	if hasEvents {
		c.Events = []tasker.CallbackEvent{} // an empty list does not mean all events
	}
	for _, e := range f.callbackEvents {
		c.Events = append(c.Events, tasker.CallbackEvent(strings.TrimSpace(e)))
	}
	return c, nil
}
