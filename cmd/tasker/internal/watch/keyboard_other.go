//go:build !linux

package watch

import (
	"context"
	"errors"
	"os"
)

// keyboard reads single keys from a terminal, on Linux.
type keyboard struct{}

func openKeyboard(*os.File) (*keyboard, error) { return nil, errors.ErrUnsupported }

func (*keyboard) read(context.Context, func(byte), func()) {}

func (*keyboard) restore() {}
