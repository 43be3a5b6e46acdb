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

// plane is the control plane under measurement, a process of its own.
type plane struct {
	cmd    *exec.Cmd
	url    string
	token  string // the administrator's
	agents string // the agents'
	client *client.Client
	ended  chan struct{}
	log    string
	http   *http.Client
}

// startPlane starts the control plane and waits until it is ready.
func startPlane(ctx context.Context, o Options, g *ground) (*plane, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	conf := fmt.Sprintf(`task_types: [{name: %s, handler: %s}]
handlers: [%s]
data_dir: %q
api: {port: %d}
database: {uri: %q}
message_queue: {uri: %q}
log: {level: warn}
`, taskType, taskType, taskType, g.path("controlplane"), port, g.databaseURI(), g.amqp)
	if err := os.WriteFile(g.path("controlplane.yaml"), []byte(conf), 0o600); err != nil {
		return nil, fmt.Errorf("write a configuration: %w", err)
	}
	program := filepath.Join(o.Programs, "tasker-controlplane")
	if _, err := os.Stat(program); err != nil {
		return nil, fmt.Errorf("tasker-controlplane is not in %s; build all three programs with: make build", o.Programs)
	}
	p := &plane{url: "http://127.0.0.1:" + strconv.Itoa(port), ended: make(chan struct{}), log: g.path("controlplane.log")}
	out, err := os.Create(p.log)
	if err != nil {
		return nil, fmt.Errorf("make a log: %w", err)
	}
	defer out.Close()
	p.cmd = exec.Command(program, "run", "--config", g.path("controlplane.yaml")) //nolint:gosec // our own program
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.SysProcAttr = out, out, child()
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the control plane: %w", err)
	}
	go func() {
		_ = p.cmd.Wait() // how it ended is in its log
		close(p.ended)
	}()
	if err := p.connect(ctx, g); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	return p, nil
}

func (p *plane) pid() int { return p.cmd.Process.Pid }

// connect waits until the control plane is ready and reads its tokens.
func (p *plane) connect(ctx context.Context, g *ground) error {
	ready, err := client.New(client.Options{URL: p.url})
	if err != nil {
		return err
	}
	defer ready.Close()
	if err := until(ctx, "the control plane to be ready", every(20*time.Millisecond), func() (bool, error) {
		return ready.Ready(ctx) == nil, p.failed()
	}); err != nil {
		return err
	}
	for file, token := range map[string]*string{"admin.token": &p.token, "agent.token": &p.agents} {
		b, err := os.ReadFile(filepath.Join(g.path("controlplane"), file))
		if err != nil {
			return fmt.Errorf("read a token: %w", err)
		}
		*token = strings.TrimSpace(string(b))
	}
	p.http = &http.Client{Transport: &http.Transport{}, Timeout: time.Minute}
	p.client, err = client.New(client.Options{URL: p.url, Token: p.token})
	return err
}

// failed is why the control plane is not there any more, if so.
func (p *plane) failed() error {
	select {
	case <-p.ended:
		log, _ := os.ReadFile(p.log) // without it there is nothing to tell
		return fmt.Errorf("the control plane has ended; its log ends with\n%s", strings.TrimSpace(string(log[max(0, len(log)-2000):])))
	default:
		return nil
	}
}

// stop ends the control plane and waits for it.
func (p *plane) stop() error {
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

// updates is the number of updates that were stored, once it is at least so many:
// they are counted after the commit by which a task is seen to have finished.
func (p *plane) updates(ctx context.Context, least int) (float64, error) {
	for {
		n, err := p.metric(ctx, "tasker_controlplane_reports_total", `kind="update"`)
		if err != nil || n >= float64(least) {
			return n, err
		}
		if err := backoff.Sleep(ctx, look); err != nil {
			return 0, err
		}
	}
}

// metric reads one metric of the control plane; its series are added up.
func (p *plane) metric(ctx context.Context, name string, labels ...string) (float64, error) {
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

// every is the same time always.
func every(d time.Duration) func() time.Duration { return func() time.Duration { return d } }

// until waits for a condition, by looking again after each pause.
func until(ctx context.Context, what string, pause func() time.Duration, holds func() (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("waited %s in vain for %s", patience, what))
	defer cancel()
	for {
		ok, err := holds()
		if ok || err != nil {
			return err
		}
		select {
		case <-time.After(pause()):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
