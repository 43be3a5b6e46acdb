package transporttest

import (
	"fmt"
	"slices"
	"time"

	"github.com/MatthiasWiesner/tasker"
)

// presence returns the presence of an agent with these handlers. With the script handler it
// also has the script for update-app.
func presence(handlers []string) tasker.Presence {
	p := tasker.Presence{Version: "test", Handlers: handlers}
	if slices.Contains(handlers, tasker.ScriptHandler) {
		p.Scripts = []string{"update-app"}
	}
	return p
}

func report(endpoint string) tasker.Report {
	return tasker.Report{Version: tasker.WireVersion, Endpoint: endpoint, Instance: "journal-of-" + endpoint}
}

func hello(endpoint string, handlers ...string) tasker.Report {
	r := report(endpoint)
	r.Hello = &tasker.Hello{Presence: presence(handlers), Session: "session-of-" + endpoint}
	return r
}

func heartbeat(endpoint string, handlers ...string) tasker.Report {
	r := report(endpoint)
	r.Heartbeat = &tasker.Heartbeat{Presence: presence(handlers)}
	return r
}

func update(endpoint, task string) tasker.Report {
	r := report(endpoint)
	r.Update = &tasker.Update{TaskID: task, Type: "ping", Attempt: 1, Seq: 1, Status: tasker.Running}
	return r
}

// updates returns reports of the tasks prefix-0, prefix-1, …
func updates(endpoint, prefix string, n int) []tasker.Report {
	rs := make([]tasker.Report, n)
	for i := range rs {
		rs[i] = update(endpoint, fmt.Sprintf("%s-%d", prefix, i))
	}
	return rs
}

func assignment(endpoint, taskType, task string) tasker.Order {
	return tasker.Order{
		Version: tasker.WireVersion, Endpoint: endpoint, Type: taskType, Expires: time.Now().Add(time.Hour).UTC(),
		Assignment: &tasker.Assignment{TaskID: task, Identifier: task, Attempt: 1, Handler: taskType, Payload: []byte(`{}`)},
	}
}

// assignments returns orders of the tasks prefix-0, prefix-1, …
func assignments(endpoint, prefix string, n int) []tasker.Order {
	os := make([]tasker.Order, n)
	for i := range os {
		os[i] = assignment(endpoint, "ping", fmt.Sprintf("%s-%d", prefix, i))
	}
	return os
}

func cancelOf(endpoint, taskType, task string) tasker.Order {
	return tasker.Order{
		Version: tasker.WireVersion, Endpoint: endpoint, Type: taskType, Cancel: &tasker.Cancel{TaskID: task, Attempt: 1},
	}
}

func welcome(endpoint string) tasker.Order {
	return tasker.Order{
		Version: tasker.WireVersion, Endpoint: endpoint, Welcome: &tasker.Welcome{Session: "session-of-" + endpoint, Now: time.Now().UTC()},
	}
}

// orderNames returns a name for each order: the task of an assignment, "cancel TASK" or
// "welcome".
func orderNames(orders []tasker.Order) []string {
	names := []string{}
	for _, o := range orders {
		switch {
		case o.Assignment != nil:
			names = append(names, o.Assignment.TaskID)
		case o.Cancel != nil:
			names = append(names, "cancel "+o.Cancel.TaskID)
		case o.Welcome != nil:
			names = append(names, "welcome")
		default:
			names = append(names, "nothing")
		}
	}
	return names
}

// updatedTasks returns the tasks of the updates among the reports.
func updatedTasks(reports []tasker.Report) []string {
	names := []string{}
	for _, r := range reports {
		if r.Update != nil {
			names = append(names, r.Update.TaskID)
		}
	}
	return names
}

// names returns prefix-0, prefix-1, …
func names(prefix string, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("%s-%d", prefix, i)
	}
	return list
}

// missing returns the elements of want that are not in got.
func missing(want, got []string) []string {
	have := make(map[string]bool, len(got))
	for _, g := range got {
		have[g] = true
	}
	var left []string
	for _, w := range want {
		if !have[w] {
			left = append(left, w)
		}
	}
	return left
}
