package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/MatthiasWiesner/tasker"
)

// requested is the callback that the flags ask for; nil is none. Whether it may be
// called the control plane says.
func (f createFlags) requested(cmd *cobra.Command) (*tasker.Callback, error) {
	some := cmd.Flags().Changed("callback-events")
	switch {
	case !cmd.Flags().Changed("callback") && some:
		return nil, usage("--callback-events says when a URL is called: name it with --callback")
	case !cmd.Flags().Changed("callback"):
		return nil, nil //nolint:nilnil // nobody is told
	}
	c := &tasker.Callback{URL: f.callback}
	if some {
		c.Events = []tasker.CallbackEvent{} // none is not the same as all
	}
	for _, e := range f.callbackEvents {
		c.Events = append(c.Events, tasker.CallbackEvent(strings.TrimSpace(e)))
	}
	return c, nil
}
