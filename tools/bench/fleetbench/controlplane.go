package fleetbench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/MatthiasWiesner/tasker/client"
	"github.com/MatthiasWiesner/tasker/internal/backoff"
)

// controlPlane is the measured control plane, a child process.
type controlPlane struct {
	cmd    *exec.Cmd
	url    string
	token  string // of the administrator
	agents string // the agents' token
	client *client.Client
	ended  chan struct{}
	log    string // path of its log
	http   *http.Client
}

// startControlPlane starts a control plane and waits until it is ready.
func startControlPlane(ctx context.Context, o Options, env *environment) (*controlPlane, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	conf := fmt.Sprintf(`task_types: [{name: %s, handler: %s}]
handlers: [%s]
data_dir: %q
api: {port: %d, agent_token: on}
database: {uri: %q}
message_queue: {uri: %q}
log: {level: warn}
`, taskType, taskType, taskType, env.path("controlplane"), port, env.databaseURI(), env.amqp)
	if err := os.WriteFile(env.path("controlplane.yaml"), []byte(conf), 0o600); err != nil {
		return nil, fmt.Errorf("write a configuration: %w", err)
	}
	program := filepath.Join(o.Programs, "tasker-controlplane")
	if _, err := os.Stat(program); err != nil {
		return nil, fmt.Errorf("tasker-controlplane is not in %s; build all three programs with: make build", o.Programs)
	}
	p := &controlPlane{url: "http://127.0.0.1:" + strconv.Itoa(port), ended: make(chan struct{}), log: env.path("controlplane.log")}
	out, err := os.Create(p.log)
	if err != nil {
		return nil, fmt.Errorf("create a log: %w", err)
	}
	defer out.Close()
	p.cmd = exec.Command(program, "run", "--config", env.path("controlplane.yaml")) //nolint:gosec // our own program
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.SysProcAttr = out, out, childAttributes()
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the control plane: %w", err)
	}
	go func() {
		_ = p.cmd.Wait() // the log has the reason
		close(p.ended)
	}()
	if err := p.connect(ctx, env); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	return p, nil
}

func (p *controlPlane) pid() int { return p.cmd.Process.Pid }

// connect waits until the control plane is ready and reads its tokens.
func (p *controlPlane) connect(ctx context.Context, env *environment) error {
	ready, err := client.New(client.Options{URL: p.url})
	if err != nil {
		return err
	}
	defer ready.Close()
	if err := until(ctx, "the control plane to be ready", constant(20*time.Millisecond), func() (bool, error) {
		return ready.Ready(ctx) == nil, p.failed()
	}); err != nil {
		return err
	}
	for file, token := range map[string]*string{"admin.token": &p.token, "agent.token": &p.agents} {
		b, err := os.ReadFile(filepath.Join(env.path("controlplane"), file))
		if err != nil {
			return fmt.Errorf("read a token: %w", err)
		}
		*token = strings.TrimSpace(string(b))
	}
	p.http = &http.Client{Transport: &http.Transport{}, Timeout: time.Minute}
	p.client, err = client.New(client.Options{URL: p.url, Token: p.token})
	return err
}

// failed returns an error if the control plane has ended.
func (p *controlPlane) failed() error {
	select {
	case <-p.ended:
		log, _ := os.ReadFile(p.log) // without it the error has no reason
		return fmt.Errorf("the control plane has ended; its log ends with\n%s", strings.TrimSpace(string(log[max(0, len(log)-2000):])))
	default:
		return nil
	}
}

// stop ends the control plane and waits for it.
func (p *controlPlane) stop() error {
	if p.client != nil {
		p.client.Close()
		p.http.CloseIdleConnections()
	}
	err := p.failed()
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-p.ended:
	case <-time.After(20 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
	return err
}

// updates waits until at least minimum updates were stored, and returns their number.
// The control plane counts an update after the commit that finishes a task.
func (p *controlPlane) updates(ctx context.Context, minimum int) (float64, error) {
	for {
		n, err := p.metric(ctx, "tasker_controlplane_reports_total", `kind="update"`)
		if err != nil || n >= float64(minimum) {
			return n, err
		}
		if err := backoff.Sleep(ctx, minPollInterval); err != nil {
			return 0, err
		}
	}
}

// metric returns the sum of the series of one metric that have the labels.
func (p *controlPlane) metric(ctx context.Context, name string, labels ...string) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+p.token)
	resp, err := p.http.Do(req)
	if err != nil {
		return 0, fmt.Errorf("read the control plane's metrics: %w", err)
	}
	defer resp.Body.Close()
	sum := 0.0
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		line := lines.Text()
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest == "" || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		for _, l := range labels {
			ok = ok && strings.Contains(rest, l)
		}
		if !ok {
			continue
		}
		v, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
		if err != nil {
			return 0, fmt.Errorf("read the metric %s: %w", name, err)
		}
		sum += v
	}
	return sum, lines.Err()
}

// constant returns a function that always returns d.
func constant(d time.Duration) func() time.Duration { return func() time.Duration { return d } }

// until polls a condition until it holds. interval returns the time to the next poll.
func until(ctx context.Context, what string, interval func() time.Duration, holds func() (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, waitLimit, fmt.Errorf("waited %s for %s", waitLimit, what))
	defer cancel()
	for {
		ok, err := holds()
		if ok || err != nil {
			return err
		}
		select {
		case <-time.After(interval()):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
