//go:build linux

package main

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/MatthiasWiesner/tasker/tools/bench/fleetbench"
)

func TestParse(t *testing.T) {
	s, err := parse([]string{"--endpoints", "10,20", "--tasks", "3", "--idle", "30s", "--http", "--json"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if o := s.options; !slices.Equal(s.endpoints, []int{10, 20}) || o.Tasks != 3 || o.Idle != 30*time.Second || !o.HTTP || !s.json {
		t.Errorf("parsed %+v", s)
	}
	if s.options.Payload != 1024 || s.options.MySQL != fleetbench.DefaultMySQL {
		t.Errorf("defaults: payload %d, database %q", s.options.Payload, s.options.MySQL)
	}
}

func TestParse_errors(t *testing.T) {
	for _, c := range []struct{ name, arg, want string }{
		{"unknown flag", "--no-such-flag", "no-such-flag"},
		{"argument", "100", `unexpected argument "100"`},
		{"not a number", "--tasks=many", "many"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := parse([]string{c.arg}, io.Discard); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one that names %q", err, c.want)
			}
		})
	}
	var out strings.Builder
	if _, err := parse([]string{"--help"}, &out); !errors.Is(err, pflag.ErrHelp) || !strings.Contains(out.String(), "--endpoints") {
		t.Errorf("--help: error %v, printed %q", err, out.String())
	}
}
