//go:build linux

package main

import (
	"errors"
	"io"
	"os"
	"regexp"
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

// TestParse_documented parses every tasker-bench command of the documents.
func TestParse_documented(t *testing.T) {
	found := 0
	for _, name := range []string{"performance.md", "scaling.md"} {
		document, err := os.ReadFile("../../docs/" + name)
		if err != nil {
			t.Fatal(err)
		}
		for _, command := range regexp.MustCompile("bin/tasker-bench (--[^`#\n]*)").FindAllStringSubmatch(string(document), -1) {
			found++
			if _, err := parse(strings.Fields(command[1]), io.Discard); err != nil {
				t.Errorf("%s: %s: %v", name, command[0], err)
			}
		}
	}
	if found < 5 {
		t.Errorf("found %d commands", found)
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
