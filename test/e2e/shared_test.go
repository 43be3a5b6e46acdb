package e2e

import (
	"context"
	"errors"
	"log/slog"
	"regexp"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport"
	"github.com/MatthiasWiesner/tasker/internal/transport/httplink"
	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

// forger returns a link with the shared credential of the fleet's agents that claims to be
// another agent of an endpoint.
func (f *fleet) forger(endpoint string) transport.Link {
	f.t.Helper()
	uri := regexp.MustCompile(`uri: "([^"]+)"`).FindStringSubmatch(f.backend.agents(f.api))[1]
	log := slog.New(slog.DiscardHandler)
	var link transport.Link
	var err error
	if strings.HasPrefix(uri, "amqp") {
		link, err = rabbitmq.NewLink(rabbitmq.LinkOptions{URI: uri, Endpoint: endpoint, Instance: "forged", Log: log})
	} else {
		link, err = httplink.NewLink(httplink.LinkOptions{URI: uri, Endpoint: endpoint, Instance: "forged", Log: log})
	}
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = link.Close() })
	return link
}

// The holder of a credential that agents share can neither report for a live agent, nor for
// an enrolled endpoint, nor mark one of them as disconnected.
func TestSharedCredentialCannotSpeakForLiveOrEnrolledAgents(t *testing.T) {
	t.Parallel()
	forEachBackend(t, func(t *testing.T, f *fleet) {
		newSleepScript(f)
		f.startAgent("plain")
		enrolled := uniqueName("enrolled")
		f.startEnrolled(enrolled, f.enrolToken(`{}`))
		release := f.hold("perform")
		task := f.post("update-app", `{"identifier":"1","endpoints":["plain"],"payload":0}`)
		f.waitStatus(task, "plain", tasker.Running)
		ping := f.post("ping", `{"identifier":"1","endpoints":["`+enrolled+`"]}`)
		f.waitFinished(ping)
		before := map[string]tasker.Endpoint{}
		for name, about := range map[string]tasker.Task{"plain": task, enrolled: ping} {
			before[name] = f.endpoint(name)
			forged := []tasker.Report{
				{Update: &tasker.Update{TaskID: about.ID, Type: about.Type, Attempt: 1, Seq: 1 << 40, Status: tasker.Failed, Error: "forged"}},
				{Goodbye: &tasker.Goodbye{}},
			}
			link := f.forger(name)
			for _, r := range forged {
				r.Version, r.Endpoint, r.Instance = tasker.WireVersion, name, "forged"
				f.sendForged(link, r)
			}
		}
		release()
		if a := f.waitFinished(task); a.Task.Status != tasker.TaskSucceeded {
			t.Errorf("after forged reports the task is %s: %+v", a.Task.Status, a.Responses)
		}
		if a := f.get("ping", ping.ID); a.Task.Status != tasker.TaskSucceeded || a.response(enrolled).Error != "" {
			t.Errorf("after forged reports the finished task is %+v", a)
		}
		for name, was := range before {
			if e := f.endpoint(name); !e.Connected || e.Instance != was.Instance {
				t.Errorf("after forged reports: %+v", e)
			}
		}
	})
}

// sendForged sends a forged report until it was sent, or refused. Over RabbitMQ the broker
// accepts it; then the control plane handles it before the reports that follow.
func (f *fleet) sendForged(link transport.Link, r tasker.Report) {
	f.t.Helper()
	wait.For(f.t, "the forged report to be sent", func() bool {
		err := link.Send(context.Background(), r)
		return err == nil || strings.Contains(err.Error(), "in use by another agent") || strings.Contains(err.Error(), "only its own secret") || errors.Is(err, transport.ErrRefused)
	})
}
