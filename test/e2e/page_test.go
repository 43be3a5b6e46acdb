package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/MatthiasWiesner/tasker/client"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

// A user creates a task on the API page in a browser.
func TestPageInABrowser(t *testing.T) {
	t.Parallel()
	url, admin := startPlane(t)
	browser := newBrowser(t)
	browser.createTask(url, admin)
	if made, err := connectTo(t, url, admin).List(t.Context(), "ping", client.ListOptions{}); err != nil || len(made.Tasks) != 1 {
		t.Errorf("there are %+v, %v; want one task", made.Tasks, err)
	}
	browser.checkErrors()
}

// startPlane starts a control plane that requires tokens, and returns its URL and the
// token of an admin.
func startPlane(t *testing.T) (url, admin string) {
	t.Helper()
	dir, address := t.TempDir(), freeAddress(t)
	host, port, _ := net.SplitHostPort(address)
	config := filepath.Join(dir, "controlplane.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, "%sdata_dir: %q\napi: {address: %s, port: %s}\n", types, dir, host, port), 0o600); err != nil {
		t.Fatal(err)
	}
	startProgram(t, "tasker-controlplane", "run", "--config", config)
	wait.For(t, "the token to be written", func() bool {
		content, err := os.ReadFile(filepath.Join(dir, "admin.token"))
		admin = strings.TrimSpace(string(content))
		return err == nil && admin != ""
	})
	url = "http://" + address
	c := connectTo(t, url, admin)
	wait.For(t, "the control plane to be ready", func() bool {
		_, err := c.Endpoints(t.Context())
		return err == nil
	})
	return url, admin
}

// connectTo returns a client of a control plane.
func connectTo(t *testing.T, url, token string) *client.Client {
	t.Helper()
	c, err := client.New(client.Options{URL: url, Token: token})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// browser is a Chromium with one page.
type browser struct {
	t   *testing.T
	ctx context.Context //nolint:containedctx // it is the browser, to chromedp

	mu     sync.Mutex
	faults []string
}

// newBrowser runs the Chromium of TASKER_TEST_CHROMIUM until the test ends.
func newBrowser(t *testing.T) *browser {
	t.Helper()
	program := os.Getenv("TASKER_TEST_CHROMIUM")
	if program == "" {
		t.Skip("TASKER_TEST_CHROMIUM is not set, so nothing is tested in a browser; make test installs one")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(program), chromedp.WindowSize(1280, 1000),
		chromedp.WSURLReadTimeout(stopTimeout))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // it refuses to be root with one
	}
	ctx, cancel := chromedp.NewExecAllocator(context.WithoutCancel(t.Context()), options...) // it ends after the test's context
	t.Cleanup(cancel)
	b := &browser{t: t}
	b.ctx, cancel = chromedp.NewContext(ctx, chromedp.WithListener(b.record))
	t.Cleanup(func() {
		_ = chromedp.Cancel(b.ctx) // waits until it has ended
		cancel()
	})
	// The browser ends with the context of its first action.
	if err := chromedp.Do(b.ctx); err != nil {
		t.Fatalf("TASKER_TEST_CHROMIUM: %v", err)
	}
	return b
}

// record records the errors of the page. A refused request is none, because the page then
// asks for the token.
func (b *browser) record(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		b.faults = append(b.faults, e.ExceptionDetails.Text)
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError && e.Entry.Source != log.EntrySourceNetwork {
			b.faults = append(b.faults, e.Entry.Text)
		}
	}
}

// createTask opens the page, enters a wrong token, then the right one, and creates a task
// from the displayed example.
func (b *browser) createTask(url, admin string) {
	b.t.Helper()
	const (
		form, token, alert, proceed = chromedp.CSS("#token"), chromedp.CSS("#token-value"), chromedp.CSS("#token [role=alert]:not(:empty)"), chromedp.CSS("#token button")

		create  = chromedp.CSS("#operations-ping-create-ping")
		unfold  = create + " .opblock-summary-control"
		execute = create + " .btn.execute"
		answer  = create + " .live-responses-table tbody .response-col_status"
	)
	b.do(
		chromedp.Navigate(url), // leads to the page
		chromedp.WaitVisible(token),
		chromedp.WaitNotVisible(chromedp.CSS("#swagger-ui")),
		chromedp.SendKeys(token, "mistyped"),
		chromedp.Click(proceed),
		chromedp.WaitVisible(alert),
		chromedp.SendKeys(token, admin),
		chromedp.Click(proceed),
		chromedp.WaitNotVisible(form),
		chromedp.Click(unfold),
		chromedp.Click(execute),
		chromedp.WaitVisible(answer),
	)
	status, err := chromedp.Run(b.ctx, chromedp.Text(answer))
	if err != nil || strings.TrimSpace(status) != fmt.Sprint(http.StatusCreated) {
		b.t.Errorf("the page shows %q, %v; want that the task was created", status, err)
	}
}

// do performs steps, each as soon as the page is ready for it.
func (b *browser) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	for i, step := range steps {
		ctx, cancel := context.WithTimeout(b.ctx, stopTimeout)
		err := chromedp.Do(ctx, step)
		cancel()
		if err != nil {
			shown, _ := chromedp.Run(b.ctx, chromedp.Text(chromedp.CSS("body")))
			b.t.Fatalf("step %d: %v; the page shows:\n%s", i+1, err, shown)
		}
	}
}

// checkErrors fails the test if the page had errors.
func (b *browser) checkErrors() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, fault := range b.faults {
		b.t.Errorf("in the page: %s", fault)
	}
}
