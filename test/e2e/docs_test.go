package e2e

import (
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker/internal/wait"
)

// root is the root of the repository, seen from this package.
const root = "../.."

// testedElsewhere are the beginnings of documented commands that other tests run.
func testedElsewhere() []string {
	return []string{
		"apt-get install -y ./tasker", "sed -i 's/address:", "tasker enrol-token create", "tasker-agent enrol ", // test/hosts, TestReadmeCommands
		"tasker-agent service ",                                                                              // test/hosts
		"tasker-controlplane run", "tasker-agent run", "bin/tasker-controlplane run", "bin/tasker-agent run", // every test of this package
		"test/servers", "make demo ARGS=", // make test and TestDemo
		"bin/tasker-bench ", // tools/bench parses the documented flags
		"git clone ", "cd tasker",
	}
}

// documents returns the Markdown files of the repository by their path.
func documents(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && strings.HasPrefix(entry.Name(), ".") && entry.Name() != ".." {
			return fs.SkipDir
		}
		if filepath.Ext(path) != ".md" {
			return nil
		}
		content, err := os.ReadFile(path) //nolint:gosec // our own documents
		found[strings.TrimPrefix(path, root+"/")] = string(content)
		return err
	})
	if err != nil || len(found) < 10 {
		t.Fatalf("found %d documents: %v", len(found), err)
	}
	return found
}

// shellCommands returns the commands of a document's sh blocks. A command whose quotes
// are open continues on the next line. Scripts, which begin with #!, are left out.
func shellCommands(document string) []string {
	var commands []string
	for _, block := range regexp.MustCompile("(?ms)^```sh\n(.*?)^```").FindAllStringSubmatch(document, -1) {
		if strings.HasPrefix(block[1], "#!") {
			continue
		}
		command := ""
		for line := range strings.Lines(block[1]) {
			command += line
			if strings.Count(command, "'")%2 == 1 {
				continue
			}
			if command = strings.TrimSpace(command); command != "" && command[0] != '#' {
				commands = append(commands, command)
			}
			command = ""
		}
	}
	return commands
}

// TestDocumentedCommands runs every command that a document shows in a sh block, or
// knows which test does.
func TestDocumentedCommands(t *testing.T) {
	t.Parallel()
	for name, document := range documents(t) {
		var toRun []string
	commands:
		for _, command := range shellCommands(document) {
			for _, prefix := range testedElsewhere() {
				if strings.HasPrefix(command, prefix) {
					continue commands
				}
			}
			toRun = append(toRun, command)
		}
		if len(toRun) > 0 {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				runDocumented(t, toRun)
			})
		}
	}
}

func runDocumented(t *testing.T, commands []string) {
	t.Helper()
	f := newFleet(t, backends()["http+sqlite"](t))
	f.script("update-app", "#!/bin/sh\n# tasker: undo=yes\necho '::result {\"changed\": true}'\n")
	for _, name := range []string{"loadbalancer-1", "loadbalancer-2"} {
		f.startAgent(name)
	}
	config, err := os.ReadFile(filepath.Join(f.dir, "loadbalancer-1.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	web := strings.NewReplacer("loadbalancer-1", "web-1", "role: loadbalancer", "role: web", "metrics: {address: 127.0.0.1, port: ", "metrics: {port: 0} #")
	startProgram(t, "tasker-agent", "run", "--config", f.write("web-1.yaml", web.Replace(string(config))))
	wait.For(t, "web-1 to be connected", func() bool { return f.endpoint("web-1").Connected })
	// The task that documents refer to: a rollout between two waves.
	f.post("update-app", `{"identifier":"e7bd91d0-16ad-11e2-892e-0800200c9a66","payload":{"foo":"bar"},
		"endpoints":["loadbalancer-1","loadbalancer-2"],"rollout":{"canary":1,"pause_between":"1h"}}`)
	f.write("update.yaml", example(t, "rollout/update.yaml"))
	f.write("controlplane.yaml", "task_types: [ping]\ndata_dir: "+filepath.Join(f.dir, "initialized")+"\n")

	path, err := filepath.Abs(programs)
	if err != nil {
		t.Fatal(err)
	}
	repository, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	hooks := "http://" + freeAddress(t)
	for _, command := range commands {
		dir := f.dir
		if target, ok := strings.CutPrefix(command, "make "); ok {
			dir, command = repository, "make --dry-run "+target
		}
		if strings.HasPrefix(command, "curl ") {
			// Without a Prometheus there is no gate, as the document says.
			command = "curl --fail-with-body " + regexp.MustCompile(`(?s),\s*"gate": \{.*?"for": "[^"]*"\}`).ReplaceAllString(strings.TrimPrefix(command, "curl "), "")
		}
		command = strings.NewReplacer("127.0.0.1:8888", f.api, "https://ci.example.net", hooks, "bin/tasker ", "tasker ").Replace(command)
		cmd := exec.CommandContext(t.Context(), "bash", "-euc", command) //nolint:gosec // our own documents
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "PATH="+path+":"+os.Getenv("PATH"), "TASKER_URL=http://"+f.api, "TOKEN=none")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s\n%v\n%s", command, err, out)
		}
	}
}

// TestDocumentedLinks checks that every relative link of a document leads to a file,
// and to a heading of it if the link names one.
func TestDocumentedLinks(t *testing.T) {
	t.Parallel()
	all := documents(t)
	for name, document := range all {
		for _, link := range regexp.MustCompile(`\]\(([^)#\s]*)(#[^)\s]*)?\)`).FindAllStringSubmatch(document, -1) {
			target, heading := link[1], strings.TrimPrefix(link[2], "#")
			if strings.Contains(target, "://") {
				continue
			}
			path := name
			if target != "" {
				path = filepath.Join(filepath.Dir(name), target)
			}
			if _, err := os.Stat(filepath.Join(root, path)); err != nil {
				t.Errorf("%s links to %s, which does not exist", name, target)
			}
			if heading != "" && !hasHeading(all[path], heading) {
				t.Errorf("%s links to %s#%s, which is no heading there", name, path, heading)
			}
		}
	}
}

// hasHeading reports whether a document has a heading with this anchor.
func hasHeading(document, anchor string) bool {
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(document, -1) {
		slug := regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(heading[1]), "")
		if strings.ReplaceAll(slug, " ", "-") == anchor {
			return true
		}
	}
	return false
}

// The tests that a document names exist.
func TestDocumentedTests(t *testing.T) {
	t.Parallel()
	tests := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, "_test.go") && !strings.Contains(path, "transporttest") {
			return err
		}
		source, err := os.ReadFile(path) //nolint:gosec // a file of the repository
		for _, name := range regexp.MustCompile(`(?m)^func (Test\w+|Fuzz\w+|Benchmark\w+)\(`).FindAllStringSubmatch(string(source), -1) {
			tests[name[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for name, document := range documents(t) {
		for _, test := range regexp.MustCompile("`((Test|Fuzz|Benchmark)[A-Z]\\w*)[^`]*`").FindAllStringSubmatch(document, -1) {
			if named++; !tests[test[1]] {
				t.Errorf("%s names the test %s, which does not exist", name, test[1])
			}
		}
	}
	if named == 0 {
		t.Error("no document names a test")
	}
}

// TestDocumentedRequest posts the example of the README.
func TestDocumentedRequest(t *testing.T) {
	t.Parallel()
	f := newFleet(t, backends()["http+sqlite"](t))
	f.script("update-app", "#!/bin/sh\n")
	block := regexp.MustCompile("(?s)```json\n(.*?)```").FindStringSubmatch(documents(t)["README.md"])
	if block == nil {
		t.Fatal("the README has no json block")
	}
	if code := f.call(http.MethodPost, "/update-app", block[1], nil); code != http.StatusCreated {
		t.Errorf("the request of the README was answered with %d", code)
	}
}
