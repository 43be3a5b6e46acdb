package hosts

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

// The commands of the README suffice to set up a fleet.
func TestReadmeCommands(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	line := func(l string) string {
		t.Helper()
		if !strings.Contains(string(readme), "\n"+l+"\n") {
			t.Errorf("the README lacks the line: %s", l)
		}
		return l
	}
	l := newLab(t, plane, one, two)
	k := deb()
	for host, programs := range map[string][]string{plane: {control, "tasker"}, one: {agent}, two: {agent}} {
		for _, program := range programs {
			l.file(host, program, newer, k)
			// As in ./dist, there is also a package for another architecture.
			l.put(host, fmt.Sprintf("/tmp/%s_%s-1_riscv64.deb", program, newer), "", "644")
		}
	}
	install := func(host, packages string) {
		t.Helper()
		l.sh(host, "cd /tmp; "+strings.ReplaceAll(line("apt-get install -y "+packages), "amd64", runtime.GOARCH))
	}
	install(plane, "./tasker-controlplane_*_amd64.deb ./tasker_*_amd64.deb")
	l.sh(plane, line("sed -i 's/address: 127.0.0.1/address: 0.0.0.0/' /etc/tasker-controlplane/config.yaml && systemctl restart tasker-controlplane"))
	output := l.sh(plane, line("tasker enrol-token create --ttl 1h --max-uses 50")+" 2>/dev/null")
	line("tasker-agent enrol --server https://controlplane:8888 --token TOKEN")
	if !strings.HasPrefix(output, "tasker-agent enrol --server https://controlplane:8888 --token ") {
		t.Fatalf("enrol-token create prints %q", output)
	}
	// A user who may not read the token gets this reason, not one about HTTPS.
	if got := l.sh(plane, "runuser -u nobody -- tasker endpoints 2>&1 || true"); !strings.Contains(got, "may not read /var/lib/tasker") {
		t.Errorf("another user gets %s", got)
	}
	for _, host := range []string{one, two} {
		install(host, "./tasker-agent_*_amd64.deb")
		l.sh(host, output)
		l.checkService(host, agent, "enabled active")
	}
	got := l.sh(plane, line("tasker task create ping --endpoint loadbalancer-1 --endpoint loadbalancer-2 --payload '\"hello\"' --watch"))
	if !strings.Contains(got, "2 succeeded") {
		t.Errorf("the task prints %s", got)
	}
}

// A revoked endpoint is refused at once. Its running tasks are interrupted, and later ones are
// missing, both with a reason. The endpoint can enrol again.
func TestRevoke(t *testing.T) {
	t.Parallel()
	for name, on := range map[string]func(*testing.T) topology{
		"http+sqlite": func(*testing.T) topology { return overHTTP() }, "rabbitmq+mysql": overRabbitMQ,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, on(t))
			task := f.command("long", "while [ ! -e /run/go ]; do sleep 0.05; done", one, two)
			f.waitRunning(task, one)
			f.waitRunning(task, two)
			var e tasker.Endpoint
			if code := f.call(http.MethodPost, "/endpoints/"+one+"/revoke", "", &e); code != http.StatusOK || e.RevokedAt == nil || e.Connected {
				t.Fatalf("revoke answered %d: %+v", code, e)
			}
			if r := f.get(task).response(t, one); r.Status != tasker.Interrupted || r.Reason != "revoked" {
				t.Errorf("the running task: %+v", r)
			}
			f.sh(two, "touch /run/go")
			if a := f.waitFinished(task); a.Task.Status != tasker.TaskFailed || a.response(t, two).Status != tasker.Succeeded {
				t.Errorf("the task: %+v", a)
			}
			wait.For(t, "the agent to report that it is refused", func() bool {
				return strings.Contains(f.sh(one, "systemctl show --value --property=StatusText "+agent), "refused by the control plane")
			})
			var late tasker.Task
			body := `{"identifier":"late","endpoints":["loadbalancer-1","loadbalancer-2"],"receive_timeout":1}`
			if code := f.call(http.MethodPost, "/ping", body, &late); code != http.StatusCreated {
				t.Fatalf("POST answered %d", code)
			}
			a := f.waitFinished(late)
			if r := a.response(t, one); a.Task.Status != tasker.TaskIncomplete || !strings.HasPrefix(r.Reason, "revoked at ") {
				t.Errorf("the later task: %+v", a)
			}

			f.sh(one, "tasker-agent enrol --server https://controlplane:8888 --token "+f.enrolToken(1))
			f.waitConnected(one)
			f.checkPing("again", one, two)
		})
	}
}

// A name belongs to one server, and a token is limited in its uses.
func TestEnrolmentIsRefused(t *testing.T) {
	t.Parallel()
	f := newFleet(t, overHTTP())
	enrol := func(host, rest string) string {
		return f.sh(host, "tasker-agent enrol --server https://controlplane:8888 "+rest+" 2>&1 || echo exit code $?")
	}
	once := f.enrolToken(1)
	// The second server has no identity.
	f.sh(two, "systemctl stop "+agent+"; rm /var/lib/tasker-agent/identity.json")
	output := enrol(two, "--endpoint "+one+" --token "+once)
	for _, want := range []string{"taken", "since", "tasker endpoint revoke " + one, "exit code 1"} {
		if !strings.Contains(output, want) {
			t.Errorf("enrol prints %q, want %q in it", output, want)
		}
	}
	if output := enrol(two, "--token "+f.enrolToken(1)); !strings.Contains(output, "taken") {
		t.Errorf("its own name, with another secret: %q", output)
	}
	if output := enrol(two, "--endpoint web-9 --token "+once); strings.Contains(output, "exit code") {
		t.Errorf("a free name: %q", output)
	}
	f.waitConnected("web-9")
	f.sh(two, "systemctl stop "+agent+"; rm /var/lib/tasker-agent/identity.json")
	if output := enrol(two, "--endpoint web-10 --token "+once); !strings.Contains(output, "used up") {
		t.Errorf("the second use: %q", output)
	}
	forged := once[:strings.Index(once, ".")+1] + strings.Repeat("A", 43)
	if output := enrol(two, "--endpoint web-10 --token "+forged); !strings.Contains(output, "exit code 1") || !strings.Contains(output, "certificate") {
		t.Errorf("the certificate of another control plane: %q", output)
	}
	f.checkPing("undisturbed", one)
}

// userData is the part of a cloud-init file that the example uses.
type userData struct {
	WriteFiles []struct {
		Path        string `yaml:"path"`
		Permissions string `yaml:"permissions"`
		Content     string `yaml:"content"`
	} `yaml:"write_files"`
	RunCmd []string `yaml:"runcmd"`
}

// The user data of the example installs and enrols the agent.
func TestFirstStart(t *testing.T) {
	t.Parallel()
	f := newFleet(t, overHTTP())
	if code := f.call(http.MethodPost, "/endpoints/"+two+"/revoke", "", nil); code != http.StatusOK {
		t.Fatalf("revoke answered %d", code)
	}
	f.remove(two, agent, deb())
	f.sh(two, "apt-get purge -qq -y "+agent+" 2>&1; test ! -e /var/lib/tasker-agent")
	example, err := os.ReadFile("../../examples/cloud-init/user-data.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var data userData
	if err := yaml.Unmarshal(bytes.ReplaceAll(example, []byte("TOKEN"), []byte(f.enrolToken(1))), &data); err != nil {
		t.Fatal(err)
	}
	for _, file := range data.WriteFiles {
		f.put(two, file.Path, file.Content, strings.TrimPrefix(file.Permissions, "0"))
	}
	f.sh(two, "mkdir -p /opt/tasker; mv "+f.file(two, agent, newer, deb())+" /opt/tasker/tasker-agent.deb")
	for _, command := range data.RunCmd {
		f.sh(two, command+" 2>&1")
	}
	f.waitConnected(two)
	f.checkService(two, agent, "enabled active")
	f.sh(two, "test ! -e /etc/tasker-agent/enrol.yaml")
	f.checkPing("first", two)
}
