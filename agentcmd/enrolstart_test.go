package agentcmd

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// With a request file beside its configuration an agent enrols at its start, however
// long that takes, and deletes the file afterwards.
func TestEnrolAtFirstStart(t *testing.T) {
	manager := fakeServiceManager(t)
	p, url := newFakeControlPlane(t)
	src := configure(t)
	request := filepath.Join(filepath.Dir(src.File), requestFile)
	write(t, request, "server: "+url+"\ntoken: tasker-enrol-wrong\n")
	s, err := load(src)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(s.summary(), request) {
		t.Errorf("check-config prints %q", s.summary())
	}
	corrected := false
	logged := runUntil(t, s, func() bool {
		if !corrected && strings.Contains(manager.String(), "READY=1\nWATCHDOG=1\nSTATUS=waiting for the enrolment at "+url) {
			corrected = true
			write(t, request, "server: "+url+"\ntoken: "+goodToken+"\nendpoint: web-7\n")
		}
		return p.called()
	})
	secret := p.checkConnection(t, "web-7")
	if _, err := os.Stat(request); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the request file: %v", err)
	}
	if !strings.Contains(logged, "the token is not known") || strings.Contains(logged, goodToken) || strings.Contains(logged, secret) {
		t.Errorf("log:\n%s", logged)
	}
}

func TestEnrolledAgentStartsDespiteARefusedRequest(t *testing.T) {
	t.Parallel()
	p, url := newFakeControlPlane(t)
	src := configure(t)
	if out, err := execute(t, "enrol", "--config", src.File, "--server", url, "--token", goodToken, "--endpoint", "web-1"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	request := filepath.Join(filepath.Dir(src.File), requestFile)
	write(t, request, "server: "+url+"\ntoken: "+goodToken+"\nendpoint: web-2\n")
	s, err := load(src)
	if err != nil {
		t.Fatal(err)
	}
	logged := runUntil(t, s, p.called)
	if !strings.Contains(logged, "the agent keeps its identity") || !strings.Contains(logged, "--force") {
		t.Errorf("log:\n%s", logged)
	}
	if _, err := os.Stat(request); err != nil {
		t.Error(err)
	}
}

func TestStopWhileEnrollingIsNoError(t *testing.T) {
	manager := fakeServiceManager(t)
	_, url := newFakeControlPlane(t)
	src := configure(t)
	write(t, filepath.Join(filepath.Dir(src.File), requestFile), "server: "+url+"\ntoken: wrong\nendpoint: web-1\n")
	s, err := load(src)
	if err != nil {
		t.Fatal(err)
	}
	runUntil(t, s, func() bool { return strings.Contains(manager.String(), "waiting for the enrolment") })
}
