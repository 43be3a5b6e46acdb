package access

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/MatthiasWiesner/tasker/internal/atomicfile"
)

// The names of the token files in the control plane's data_dir.
const (
	AdminTokenFile = "admin.token"
	AgentTokenFile = "agent.token"
)

// minToken is the least length of a token in bytes that is taken for one.
const minToken = 16

// Tokens are the secrets that callers show.
type Tokens struct {
	Admin string
	Agent string
}

// LoadTokens reads both token files in dir, and makes those that are missing,
// readable by the owner only.
func LoadTokens(dir string) (Tokens, error) {
	var t Tokens
	var err error
	if t.Admin, err = token(filepath.Join(dir, AdminTokenFile)); err != nil {
		return Tokens{}, err
	}
	if t.Agent, err = token(filepath.Join(dir, AgentTokenFile)); err != nil {
		return Tokens{}, err
	}
	if t.Admin == t.Agent {
		return Tokens{}, fmt.Errorf("%s and %s in %s hold the same token; delete one of them and it is made anew", AdminTokenFile, AgentTokenFile, dir)
	}
	return t, nil
}

func token(path string) (string, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		// The token of another process that was faster stays.
		err := atomicfile.Create(path, []byte(rand.Text()+rand.Text()+"\n"))
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return "", fmt.Errorf("make a token: %w", err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read a token: %w", err)
	}
	t := strings.TrimSpace(string(b))
	if len(t) < minToken || strings.ContainsFunc(t, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("%s holds no token (one line of at least %d characters); delete it and it is made anew", path, minToken)
	}
	return t, nil
}
