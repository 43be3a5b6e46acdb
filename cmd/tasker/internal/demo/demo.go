// Package demo runs a control plane, agents and a task on one machine, for the command
// tasker demo. It starts the other programs as child processes and calls the API with
// package client.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/client"
)

// ErrInterrupted is returned if a signal ended the demo before its task had finished.
var ErrInterrupted = errors.New("the demo was interrupted")

// Options configure a run of the demo.
type Options struct {
	// Endpoints is the number of agents.
	Endpoints int
	// Exit ends the demo after its task. Run then returns the error of Watch.
	Exit bool
	// Database and MessageQueue are URIs as in the configuration of the control plane.
	// If they are empty, the demo uses SQLite and HTTP.
	Database, MessageQueue string
	// Version is the version of the program.
	Version string
	// Out receives what the demo prints.
	Out io.Writer
	// Watch shows the progress of a task until it has finished, and returns an error
	// if the task did not succeed.
	Watch func(context.Context, *client.Client, tasker.Task) error
	// PrintJSON prints a value as indented JSON.
	PrintJSON func(any) error
}

// ProcessError is the error of a program that ended although the demo did not stop it.
type ProcessError struct {
	// Name is the endpoint, or "control plane".
	Name string
	// State is how the process ended, such as "exit status 1".
	State string
	// Log is the end of its log.
	Log string
}

// Error returns the name, the state and the end of the log.
func (e *ProcessError) Error() string {
	return fmt.Sprintf("%s ended unexpectedly (%s); its log ends with\n%s", e.Name, e.State, e.Log)
}
