package e2e

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/selfcert"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

// withNginx starts a fleet whose agents use the API through the nginx of TASKER_TEST_NGINX.
// The settings are those of its location.
func withNginx(t *testing.T, listen, settings string) (f *fleet, nginx *process, url string) {
	t.Helper()
	program := os.Getenv("TASKER_TEST_NGINX")
	if program == "" {
		t.Skip("TASKER_TEST_NGINX is not set, so nothing is tested behind nginx; make test installs one")
	}
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatalf("TASKER_TEST_NGINX: %v", err)
	}
	f = newFleet(t, backends()["http+sqlite"](t))
	address, dir := freeAddress(t), filepath.Join(f.dir, "nginx")
	fingerprint := newCertificate(t, filepath.Join(dir, "tls"))
	var temporary strings.Builder
	for _, of := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&temporary, "  %s_temp_path %s/%s;\n", of, dir, of)
	}
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;\n" // its workers write below the directory of the test
	}
	config := f.write("nginx/nginx.conf", user+fmt.Sprintf(`daemon off;
worker_processes 1;
worker_shutdown_timeout 1s;
pid %[1]s/pid;
events {}
http {
  access_log off;
%[2]s  server {
    listen %[3]s %[4]s;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_certificate %[1]s/tls/%[5]s;
    ssl_certificate_key %[1]s/tls/%[6]s;
    location / {
      proxy_pass http://%[7]s;
      %[8]s
    }
  }
}
`, dir, &temporary, address, listen, selfcert.CertFile, selfcert.KeyFile, f.api, settings))
	nginx = startCommand(t, exec.Command(path, "-p", dir, "-c", config, "-e", "stderr")) //nolint:gosec // named by the environment
	url = "http://" + address
	server := fmt.Sprintf("server: {uri: %q}\n", url)
	if strings.Contains(listen, "ssl") {
		url = "https://" + address
		server = fmt.Sprintf("server: {uri: %q, ca_file: %q}\n", url, filepath.Join(dir, "tls", selfcert.CertFile))
		f.waitServes(address, fingerprint)
	}
	f.backend.agents = func(string) string { return server }
	return f, nginx, url
}

// Agents and event streams work behind nginx as Debian configures it, with a proxy_pass only:
// it buffers responses, speaks HTTP/1.0 to the control plane, and ends idle connections.
func TestBehindNginx(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ listen, settings string }{
		"defaults":             {"", ""},
		"HTTP/2 to clients":    {"ssl http2", ""},
		"HTTP/1.1 to plane":    {"", `proxy_http_version 1.1; proxy_set_header Connection "";`},
		"short idle timeout":   {"", "proxy_read_timeout 1s; proxy_send_timeout 1s;"},
		"small request bodies": {"", "client_max_body_size 4k;"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, _, url := withNginx(t, tt.listen, tt.settings)
			done := newSleepScript(f)
			f.startAgent("web-1")
			task := f.post("update-app", `{"identifier":"through-nginx","endpoints":["web-1"],"payload":2.5}`)
			statuses := watchThrough(t, url+"/update-app/through-nginx/events", filepath.Join(f.dir, "nginx", "tls"))
			a := f.waitFinished(task)
			if a.Task.Status != tasker.TaskSucceeded {
				t.Errorf("the task is %s: %+v", a.Task.Status, a.Responses)
			}
			done.check(t, a)
			wait.For(t, "the stream of events to report the end", func() bool { return strings.Contains(statuses(), `"succeeded"`) })
		})
	}
}

// watchThrough reads a stream of events until the test ends, and returns what it has read. It
// connects again when the stream ends.
func watchThrough(t *testing.T, url, tlsDir string) func() string {
	t.Helper()
	transport := &http.Transport{ForceAttemptHTTP2: true}
	if strings.HasPrefix(url, "https") {
		cert, err := selfcert.Load(tlsDir)
		if err != nil {
			t.Fatal(err)
		}
		transport.TLSClientConfig = selfcert.Trust(selfcert.Fingerprint(cert))
	}
	t.Cleanup(transport.CloseIdleConnections)
	ctx, cancel := context.WithCancel(t.Context())
	read := make(chan string, 100)
	done := make(chan struct{})
	t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
			if err != nil {
				t.Error(err)
				return
			}
			resp, err := transport.RoundTrip(req)
			if err != nil {
				continue // also while nginx starts
			}
			if want := strings.HasPrefix(url, "https"); (resp.ProtoMajor == 2) != want {
				t.Errorf("nginx serves %s", resp.Proto)
			}
			lines := bufio.NewScanner(resp.Body)
			for lines.Scan() {
				select {
				case read <- lines.Text():
				case <-ctx.Done():
				}
			}
			_ = resp.Body.Close()
		}
	}()
	var text strings.Builder
	return func() string {
		for {
			select {
			case line := <-read:
				text.WriteString(line)
			default:
				return text.String()
			}
		}
	}
}

// A reload of nginx ends the streams of the old workers; a stopped nginx refuses connections.
// The task continues, and its outcome arrives.
func TestNginxRestartsDuringTask(t *testing.T) {
	t.Parallel()
	f, nginx, _ := withNginx(t, "", "")
	done := newSleepScript(f)
	agent := f.startAgent("web-1")
	release := f.hold("perform")
	task := f.post("update-app", `{"identifier":"reloaded","endpoints":["web-1"],"payload":0}`)
	f.waitStatus(task, "web-1", tasker.Running)
	nginx.signal(t, syscall.SIGHUP)
	waitLog(t, agent, "connected to the control plane", 2)
	nginx.stop(t)
	release()
	wait.For(t, "the script to end", func() bool { return strings.Contains(strings.Join(done.lines(t), "\n"), "ended") })
	again := startCommand(t, exec.Command(nginx.cmd.Path, nginx.cmd.Args[1:]...)) //nolint:gosec // as before
	if a := f.waitFinished(task); a.Task.Status != tasker.TaskSucceeded || a.Responses[0].Attempt != 1 {
		t.Errorf("the task is %s: %+v", a.Task.Status, a.Responses)
	}
	done.check(t, f.get("update-app", task.ID))
	if again.cmd.ProcessState != nil {
		t.Errorf("nginx has ended:\n%s", again.log)
	}
}

// A proxy that refuses requests by itself, such as for its own list of addresses, knows
// nothing of the agent: the agent keeps its tasks and its reports, and sends them when it can.
func TestRefusalsOfNginxLoseNoReport(t *testing.T) {
	t.Parallel()
	for name, refusal := range map[string]string{
		"forbidden":     "deny all;",
		"password":      `auth_basic "password"; auth_basic_user_file /dev/null;`,
		"bad request":   "return 400;",
		"unprocessable": "return 422;",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, nginx, _ := withNginx(t, "", "# refusal")
			done := newSleepScript(f)
			agent := f.startAgent("web-1", "unauthorized_timeout: 1s")
			release := f.hold("perform")
			task := f.post("update-app", `{"identifier":"refused","endpoints":["web-1"],"payload":0}`)
			f.waitStatus(task, "web-1", tasker.Running)
			config := readFile(t, filepath.Join(f.dir, "nginx", "nginx.conf"))
			f.write("nginx/nginx.conf", strings.Replace(config, "# refusal", refusal, 1))
			nginx.signal(t, syscall.SIGHUP)
			waitLog(t, agent, "not the control plane, but a proxy or another server", 1)
			since := time.Now()
			wait.For(t, "more than the time-out of a refused agent to pass", func() bool { return time.Since(since) > 2*time.Second })
			release()
			wait.For(t, "the script to end", func() bool { return strings.Contains(strings.Join(done.lines(t), "\n"), "ended") })
			f.write("nginx/nginx.conf", config)
			nginx.signal(t, syscall.SIGHUP)
			if a := f.waitFinished(task); a.Task.Status != tasker.TaskSucceeded {
				t.Errorf("the task is %s: %+v", a.Task.Status, a.Responses)
			}
		})
	}
}
