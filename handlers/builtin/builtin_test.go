package builtin_test

import (
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/builtin"
	"github.com/MatthiasWiesner/tasker/handlers/command"
	"github.com/MatthiasWiesner/tasker/handlers/process"
)

func TestInfosMatchTheHandlers(t *testing.T) {
	t.Parallel()
	log := slog.New(slog.DiscardHandler)
	hs, err := builtin.New(builtin.Options{ScriptDir: t.TempDir(), Runner: &process.Runner{Log: log}, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	mux, err := handlers.NewMux(hs...)
	if err != nil {
		t.Fatal(err)
	}
	if got := mux.Names(); !slices.Equal(got, []string{"artifact", "command", "facts", "file", "package", "ping", "script", "service", "upgrade-agent"}) {
		t.Errorf("names %v", got)
	}
	var infos []handlers.Info
	for _, h := range hs {
		infos = append(infos, h.Info())
	}
	// Functions cannot be compared, only whether there is one.
	hasCheck := cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Check" },
		cmp.Comparer(func(a, b func(json.RawMessage) error) bool { return (a == nil) == (b == nil) }))
	if diff := cmp.Diff(infos, builtin.Infos(), hasCheck); diff != "" {
		t.Errorf("-handlers +infos:\n%s", diff)
	}
	for _, info := range infos {
		if info.Summary == "" {
			t.Errorf("%s has no summary", info.Name)
		}
		if _, err := handlers.CompileSchema(info.Schema); err != nil {
			t.Errorf("%s: %v", info.Name, err)
		}
		if info.UndoRequires != "" && (!info.CanUndo || !strings.Contains(string(info.Schema), `"`+info.UndoRequires+`": {`)) {
			t.Errorf("%s requires %q to undo, but its payload has no such field", info.Name, info.UndoRequires)
		}
	}
}

func TestNewRefusesAMalformedAllowList(t *testing.T) {
	t.Parallel()
	for _, o := range []builtin.Options{
		{AllowCommands: []command.Entry{{Argv: []string{"sleep"}}}},
		{AllowArtifacts: []string{"app"}},
		{AllowPackages: []string{"app-["}},
		{AllowServices: []string{"app@["}},
	} {
		o.Runner = &process.Runner{}
		if _, err := builtin.New(o); err == nil {
			t.Errorf("no error with %+v", o)
		}
	}
	if _, err := builtin.New(builtin.Options{AllowFiles: []string{"/etc/app", "/etc/../app"}}); err == nil || !strings.Contains(err.Error(), "handlers.file: allow[1]") {
		t.Errorf("a directory with ..: %v", err)
	}
}
