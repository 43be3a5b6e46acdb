package builtin_test

import (
	"log/slog"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/builtin"
	"github.com/MatthiasWiesner/tasker/handlers/process"
)

func TestHandlersAreAsDescribed(t *testing.T) {
	t.Parallel()
	log := slog.New(slog.DiscardHandler)
	hs, err := builtin.New(builtin.Options{Scripts: t.TempDir(), Runner: &process.Runner{Log: log}, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	mux, err := handlers.NewMux(hs...)
	if err != nil {
		t.Fatal(err)
	}
	if got := mux.Names(); !slices.Equal(got, []string{"command", "facts", "ping", "script", "upgrade-agent"}) {
		t.Errorf("names %v", got)
	}
	var infos []handlers.Info
	for _, h := range hs {
		infos = append(infos, h.Info())
	}
	if diff := cmp.Diff(infos, builtin.Infos()); diff != "" {
		t.Errorf("-handlers +infos:\n%s", diff)
	}
	for _, info := range infos {
		if info.Summary == "" {
			t.Errorf("%s has no summary", info.Name)
		}
		if _, err := handlers.CompileSchema(info.Schema); err != nil {
			t.Errorf("%s: %v", info.Name, err)
		}
	}
}

func TestBadAllowListIsAnError(t *testing.T) {
	t.Parallel()
	if _, err := builtin.New(builtin.Options{Allow: [][]string{{"sleep"}}}); err == nil {
		t.Error("no error")
	}
}
