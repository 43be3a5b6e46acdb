//go:build !linux

package demo

import (
	"context"
	"errors"
)

// Run returns an error: agents run on Linux only.
func Run(context.Context, Options) error {
	return errors.New("the demo needs Linux, because agents run on Linux only")
}
