package main

import (
	"log/slog"
	"sync"

	"github.com/MatthiasWiesner/tasker/config"
	"github.com/MatthiasWiesner/tasker/internal/daemon"
)

// reloader reloads at SIGHUP what can be reloaded.
type reloader struct {
	src     *config.Source
	log     *slog.Logger
	level   *slog.LevelVar
	hangups *daemon.Hangups

	mu    sync.Mutex
	parts []func()
}

// start begins to handle SIGHUP. It reloads the part, and those that are added later.
func (r *reloader) start(part func()) (stop func()) {
	r.add(part)
	return r.hangups.Handle(r.reload)
}

// add adds a part to reload.
func (r *reloader) add(part func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.parts = append(r.parts, part)
}

// reload sets the log level of the configuration and reloads the parts. While the
// configuration is not valid, the level stays.
func (r *reloader) reload() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, part := range r.parts {
		part()
	}
	c, file, err := load(r.src)
	if err != nil {
		r.log.Error("certificate, tokens and signing keys were read again; the log level stays, because the configuration is not valid", "file", file, "error", err)
		return
	}
	daemon.SetLevel(r.level, c.Log)
	r.log.Info("reloaded: log level, certificate, tokens and signing keys; other settings need a restart", "file", file)
}
