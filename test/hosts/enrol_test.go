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

// A newcomer types what the README says, and nothing else.
func TestTheReadmesLines(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	line := func(l string) string {
		t.Helper()
		if !strings.Contains(string(readme), "\n"+l+"\n") {
			t.Errorf("the README does not say: %s", l)
		}
		return l
	}
	l := newLab(t, plane, one, two)
	k := deb()
	for host, programs := range map[string][]string{plane: {control, "tasker"}, one: {agent}, two: {agent}} {
		for _, program := range programs {
			l.file(host, program, newer, k)
			// Beside it lies that for another processor, as in ./dist.
			l.put(host, fmt.Sprintf("/tmp/%s_%s-1_riscv64.deb", program, newer), "", "644")
		}
	}
	install := func(host, packages string) {
		t.Helper()
		l.sh(host, "cd /tmp; "+strings.ReplaceAll(line("apt-get install -y "+packages), "amd64", runtime.GOARCH))
	}
	install(plane, "./tasker-controlplane_*_amd64.deb ./tasker_*_amd64.deb")
	l.sh(plane, line("sed -i 's/address: 127.0.0.1/address: 0.0.0.0/' /etc/tasker-controlplane/config.yaml && systemctl restart tasker-controlplane"))
	said := l.sh(plane, line("tasker enrol-token create --ttl 1h --max-uses 50")+" 2>/dev/null")
	line("tasker-agent enrol --server https://controlplane:8888 --token TOKEN")
	if !strings.HasPrefix(said, "tasker-agent enrol --server https://controlplane:8888 --token ") {
		t.Fatalf("the token comes as %q", said)
	}
	// Who may not read the token is told so, though what answers speaks of https.
	if got := l.sh(plane, "runuser -u nobody -- tasker endpoints 2>&1 || true"); !strings.Contains(got, "may not read /var/lib/tasker") {
		t.Errorf("another user is told %s", got)
	}
	for _, host := range []string{one, two} {
		install(host, "./tasker-agent_*_amd64.deb")
		l.sh(host, said)
		l.is(host, agent, "enabled active")
	}
	got := l.sh(plane, line("tasker task create ping --endpoint loadbalancer-1 --endpoint loadbalancer-2 --payload '\"hello\"' --watch"))
	if !strings.Contains(got, "2 succeeded") {
		t.Errorf("the task says %s", got)
	}
}

// A revoked endpoint is shut out at once: what it was at is interrupted, what comes
// is missing, and both say why. It can be enrolled anew.
func TestRevoke(t *testing.T) {
	t.Parallel()
	for name, on := range map[string]func(*testing.T) fabric{
		"http+sqlite": func(*testing.T) fabric { return overHTTP() }, "rabbitmq+mysql": overRabbitMQ,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, on(t))
			task := f.command("long", "while [ ! -e /run/go ]; do sleep 0.05; done", one, two)
			f.begins(task, one)
			f.begins(task, two)
			var e tasker.Endpoint
			if code := f.call(http.MethodPost, "/endpoints/"+one+"/revoke", "", &e); code != http.StatusOK || e.RevokedAt == nil || e.Connected {
				t.Fatalf("revoke answered %d: %+v", code, e)
			}
			if r := f.get(task).of(t, one); r.Status != tasker.Interrupted || r.Reason != "revoked" {
				t.Errorf("what it was at: %+v", r)
			}
			f.sh(two, "touch /run/go")
			if a := f.ends(task); a.Task.Status != tasker.TaskFailed || a.of(t, two).Status != tasker.Succeeded {
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
			a := f.ends(late)
			if r := a.of(t, one); a.Task.Status != tasker.TaskIncomplete || !strings.HasPrefix(r.Reason, "revoked at ") {
				t.Errorf("afterwards: %+v", a)
			}

			f.sh(one, "tasker-agent enrol --server https://controlplane:8888 --token "+f.enrolToken(1))
			f.connected(one)
			f.pings("anew", one, two)
		})
	}
}

// A name has one server, and a token is good for what it says.
func TestEnrolmentIsRefused(t *testing.T) {
	t.Parallel()
	f := newFleet(t, overHTTP())
	enrol := func(host, rest string) string {
		return f.sh(host, "tasker-agent enrol --server https://controlplane:8888 "+rest+" 2>&1 || echo exit code $?")
	}
	once := f.enrolToken(1)
	// The second server is a new one: it has no identity.
	f.sh(two, "systemctl stop "+agent+"; rm /var/lib/tasker-agent/identity.json")
	said := enrol(two, "--endpoint "+one+" --token "+once)
	for _, want := range []string{"taken", "since", "tasker endpoint revoke " + one, "exit code 1"} {
		if !strings.Contains(said, want) {
			t.Errorf("it says %q, want it to speak of %q", said, want)
		}
	}
	if said := enrol(two, "--token "+f.enrolToken(1)); !strings.Contains(said, "taken") {
		t.Errorf("its own name, with another secret: %q", said)
	}
	if said := enrol(two, "--endpoint web-9 --token "+once); strings.Contains(said, "exit code") {
		t.Errorf("a free name: %q", said)
	}
	f.connected("web-9")
	f.sh(two, "systemctl stop "+agent+"; rm /var/lib/tasker-agent/identity.json")
	if said := enrol(two, "--endpoint web-10 --token "+once); !strings.Contains(said, "used up") {
		t.Errorf("the second use: %q", said)
	}
	forged := once[:strings.Index(once, ".")+1] + strings.Repeat("A", 43)
	if said := enrol(two, "--endpoint web-10 --token "+forged); !strings.Contains(said, "exit code 1") || !strings.Contains(said, "certificate") {
		t.Errorf("somebody else's certificate: %q", said)
	}
	f.pings("undisturbed", one)
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
	f.connected(two)
	f.is(two, agent, "enabled active")
	f.sh(two, "test ! -e /etc/tasker-agent/enrol.yaml")
	f.pings("first", two)
}
