package auth_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/MatthiasWiesner/tasker/controlplane/auth"
	"github.com/MatthiasWiesner/tasker/internal/privatefile"
)

func TestLoadAccessTokens(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var wg sync.WaitGroup
	all := make([]auth.AccessTokens, 8)
	for i := range all {
		wg.Go(func() {
			var err error
			if all[i], err = auth.LoadAccessTokens(dir, true); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, got := range all {
		if got != all[0] || got.Admin == "" || got.Admin == got.Agent {
			t.Fatalf("LoadAccessTokens = %+v and %+v", got, all[0])
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Fatalf("%d files in the directory, %v", len(entries), err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", e.Name(), info.Mode())
		}
	}
}

// A file that an earlier configuration has left is not read.
func TestLoadAccessTokensWithoutAgents(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for range 2 {
		got, err := auth.LoadAccessTokens(dir, false)
		if err != nil || got.Admin == "" || got.Agent != "" {
			t.Fatalf("LoadAccessTokens = %+v, %v", got, err)
		}
		write(t, filepath.Join(dir, auth.AgentTokenFile), "short")
	}
}

func TestLoadAccessTokensRejects(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, admin, agent, want string }{
		{"empty", "", "the-agents-own-token", "admin.token"},
		{"short", "the-admins-own-token", "short", "agent.token"},
		{"two lines", "the-admins-own\ntoken-of-two-lines", "the-agents-own-token", "admin.token"},
		{"same token", "one-and-the-same-token", "one-and-the-same-token\n", "same token"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			write(t, filepath.Join(dir, auth.AdminTokenFile), tt.admin)
			write(t, filepath.Join(dir, auth.AgentTokenFile), tt.agent)
			if _, err := auth.LoadAccessTokens(dir, true); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("LoadAccessTokens = %v, want an error with %q", err, tt.want)
			}
		})
	}
	if _, err := auth.LoadAccessTokens(filepath.Join(t.TempDir(), "absent"), true); err == nil {
		t.Error("LoadAccessTokens in a missing directory returns no error")
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestAccessTokensMustBePrivate(t *testing.T) {
	t.Parallel()
	for _, name := range []string{auth.AdminTokenFile, auth.AgentTokenFile} {
		dir := t.TempDir()
		if _, err := auth.LoadAccessTokens(dir, true); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, name)
		if err := os.Chmod(file, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := auth.LoadAccessTokens(dir, true); !errors.Is(err, privatefile.ErrExposed) || !strings.Contains(err.Error(), "chmod 600 "+file) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
