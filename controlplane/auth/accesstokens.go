package auth

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/MatthiasWiesner/tasker/internal/atomicfile"
	"github.com/MatthiasWiesner/tasker/internal/privatefile"
)

// The names of the token files in the control plane's data_dir.
const (
	AdminTokenFile = "admin.token"
	AgentTokenFile = "agent.token"
)

// minTokenLength is the minimum length of an access token in bytes.
const minTokenLength = 16

// AccessTokens are the tokens of the admin and of the agents that are not enrolled.
type AccessTokens struct {
	Admin string
	// Agent is empty if agents must be enrolled.
	Agent string
}

// LoadAccessTokens reads the token files in dir, that of the agents only if agents may
// connect without enrolment. It creates a missing file, readable by its owner only.
func LoadAccessTokens(dir string, agents bool) (AccessTokens, error) {
	var t AccessTokens
	var err error
	if t.Admin, err = loadAccessToken(filepath.Join(dir, AdminTokenFile)); err != nil {
		return AccessTokens{}, err
	}
	if !agents {
		return t, nil
	}
	if t.Agent, err = loadAccessToken(filepath.Join(dir, AgentTokenFile)); err != nil {
		return AccessTokens{}, err
	}
	if t.Admin == t.Agent {
		return AccessTokens{}, fmt.Errorf("%s and %s in %s have the same token; delete one of the files, and a new token is created", AdminTokenFile, AgentTokenFile, dir)
	}
	return t, nil
}

func loadAccessToken(path string) (string, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		// If another process creates the file first, its token stays.
		err := atomicfile.Create(path, []byte(rand.Text()+rand.Text()+"\n"))
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return "", fmt.Errorf("create an access token: %w", err)
		}
	}
	b, err := privatefile.Read(path)
	if err != nil {
		return "", fmt.Errorf("read an access token: %w", err)
	}
	t := strings.TrimSpace(string(b))
	if len(t) < minTokenLength || strings.ContainsFunc(t, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("%s has no valid token (one line of at least %d characters); delete the file, and a new token is created", path, minTokenLength)
	}
	return t, nil
}
