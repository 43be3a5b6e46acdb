package agentcmd

import (
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker/internal/identity"
	"github.com/MatthiasWiesner/tasker/internal/selfcert"
)

func TestEnrolAndCheckConfig(t *testing.T) {
	t.Parallel()
	_, url := newFakeControlPlane(t)
	src := configure(t)
	if _, err := execute(t, "check-config", "--config", src.File); err == nil || !strings.Contains(err.Error(), "tasker-agent enrol") {
		t.Errorf("check-config before the enrolment: %v", err)
	}
	file := filepath.Join(t.TempDir(), "token")
	write(t, file, "\ufeff"+goodToken+"\r\n") // as some editors write it
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := execute(t, "enrol", "--config", src.File, "--server", url, "--token-file", file); err == nil || !strings.Contains(err.Error(), "chmod 600 "+file) {
		t.Errorf("enrol with a token that others can read: %v", err)
	}
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := execute(t, "enrol", "--config", src.File, "--server", url, "--token-file", file, "--endpoint", "web-1")
	if err != nil || !strings.Contains(out, "endpoint web-1") || !strings.Contains(out, "tasker-agent run --config "+src.File) {
		t.Errorf("enrol: %v\n%s", err, out)
	}
	if strings.Contains(out, "not encrypted") {
		t.Errorf("an unnecessary warning about a local connection:\n%s", out)
	}
	out, err = execute(t, "check-config", "--config", src.File)
	if err != nil || !strings.Contains(out, "enrolled as web-1") {
		t.Errorf("check-config after the enrolment: %v\n%s", err, out)
	}
	if out, err = execute(t, "enrol", "--config", src.File, "--server", url, "--token", goodToken); err != nil || !strings.Contains(out, "endpoint web-1") {
		t.Errorf("again, with the same name: %v\n%s", err, out)
	}
	_, err = execute(t, "enrol", "--config", src.File, "--server", url, "--token", goodToken, "--endpoint", "web-2")
	if !errors.Is(err, identity.ErrAlreadyEnrolled) || !strings.Contains(err.Error(), "--force") {
		t.Errorf("another name: %v", err)
	}
	if out, err = execute(t, "enrol", "--config", src.File, "--server", url, "--token", goodToken, "--endpoint", "web-2", "--force"); err != nil {
		t.Errorf("another name, with --force: %v\n%s", err, out)
	}
	write(t, src.File, "data_dir: "+filepath.Dir(src.File)+"/data\nendpoint: web-1\n")
	if _, err = execute(t, "check-config", "--config", src.File); err == nil || !strings.Contains(err.Error(), src.File+":2:11: endpoint: is \"web-1\"") {
		t.Errorf("a configuration with another name: %v", err)
	}
	if _, err = execute(t, "enrol", "--config", src.File, "--server", url, "--token", goodToken, "--endpoint", "web-3", "--force"); err == nil || !strings.Contains(err.Error(), src.File+":2:11: endpoint") {
		t.Errorf("enrolled with a name that contradicts the configuration: %v", err)
	}
}

// The token and the secret are sent to other machines by HTTPS only, unless the configuration
// allows plain text: by the command and with a request file, before and after an enrolment.
func TestEnrolmentRefusesPlainTextToOtherMachines(t *testing.T) {
	t.Parallel()
	_, url := newFakeControlPlane(t)
	src := configure(t)
	const other, advice = "http://192.0.2.1:8888", "allow_plain_text: true"
	request := filepath.Join(filepath.Dir(src.File), requestFile)
	for _, enrolled := range []bool{false, true} {
		if enrolled {
			if out, err := execute(t, "enrol", "--config", src.File, "--server", url, "--token", goodToken, "--endpoint", "web-1"); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		}
		if _, err := execute(t, "enrol", "--config", src.File, "--server", other, "--token", goodToken, "--endpoint", "web-1", "--force"); err == nil || !strings.Contains(err.Error(), advice) {
			t.Errorf("enrolled %t: enrol by HTTP: %v", enrolled, err)
		}
		write(t, request, "server: "+other+"\ntoken: "+goodToken+"\nendpoint: web-1\n")
		if _, err := load(src); err == nil || !strings.Contains(err.Error(), advice) {
			t.Errorf("enrolled %t: a request file with HTTP: %v", enrolled, err)
		}
		if err := os.Remove(request); err != nil {
			t.Fatal(err)
		}
	}
}

func TestEnrolNeedsAToken(t *testing.T) {
	src := configure(t)
	_, url := newFakeControlPlane(t)
	t.Setenv(tokenVariable, "")
	if _, err := execute(t, "enrol", "--config", src.File, "--server", url); err == nil || !strings.Contains(err.Error(), tokenVariable) {
		t.Errorf("got %v", err)
	}
	t.Setenv(tokenVariable, goodToken)
	if out, err := execute(t, "enrol", "--config", src.File, "--server", url, "--endpoint", "web-1"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// The token contains the fingerprint of a control plane's own certificate.
func TestEnrolByFingerprint(t *testing.T) {
	t.Parallel()
	p := &fakeControlPlane{}
	server := httptest.NewTLSServer(p)
	t.Cleanup(server.Close)
	fingerprint := selfcert.Fingerprint(server.TLS.Certificates[0])
	src := configure(t)
	_, err := execute(t, "enrol", "--config", src.File, "--server", server.URL, "--token", goodToken+"."+strings.Repeat("A", 43), "--endpoint", "web-1")
	if !errors.Is(err, identity.ErrUnreachable) || !strings.Contains(err.Error(), "another control plane") {
		t.Errorf("the token of another control plane: %v", err)
	}
	if out, err := execute(t, "enrol", "--config", src.File, "--server", server.URL, "--token", goodToken+"."+fingerprint, "--endpoint", "web-1"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s, err := load(src)
	if err != nil {
		t.Fatal(err)
	}
	runUntil(t, s, p.called)
	p.checkConnection(t, "web-1")
}
