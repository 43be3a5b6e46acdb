package reportrules_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/reportrules"
)

func update(change func(u *tasker.Update)) tasker.Report {
	u := &tasker.Update{TaskID: "t", Type: "ping", Attempt: 1, Seq: 1, Status: tasker.Succeeded}
	change(u)
	return tasker.Report{Version: 1, Endpoint: "web-1", Instance: "i", Update: u}
}

func heartbeat(p tasker.Presence) tasker.Report {
	return tasker.Report{Version: 1, Endpoint: "web-1", Instance: "i", Heartbeat: &tasker.Heartbeat{Presence: p}}
}

func hello(h tasker.Hello) tasker.Report {
	return tasker.Report{Version: 1, Endpoint: "web-1", Instance: "i", Hello: &h}
}

func TestRefusedReports(t *testing.T) {
	t.Parallel()
	many := func(n int) []string { return strings.Split(strings.Repeat("a,", n-1)+"a", ",") }
	labels := map[string]string{}
	for i := range 257 {
		labels[fmt.Sprint("l", i)] = ""
	}
	large := map[string]string{}
	for i := range 256 {
		large[fmt.Sprint("l", i)] = strings.Repeat("v", 255)
	}
	both := heartbeat(tasker.Presence{})
	both.Goodbye = &tasker.Goodbye{}
	for name, r := range map[string]tasker.Report{
		"no endpoint":             {Goodbye: &tasker.Goodbye{}},
		"an invalid endpoint":     {Endpoint: "../web", Goodbye: &tasker.Goodbye{}},
		"a long instance":         {Endpoint: "web-1", Instance: strings.Repeat("i", 257), Goodbye: &tasker.Goodbye{}},
		"no kind":                 {Endpoint: "web-1"},
		"two kinds":               both,
		"no task":                 update(func(u *tasker.Update) { u.TaskID = "" }),
		"a long task":             update(func(u *tasker.Update) { u.TaskID = strings.Repeat("t", 65) }),
		"a long type":             update(func(u *tasker.Update) { u.Type = strings.Repeat("t", 65) }),
		"attempt 0":               update(func(u *tasker.Update) { u.Attempt = 0 }),
		"a negative attempt":      update(func(u *tasker.Update) { u.Attempt = -1 }),
		"attempt 2^31":            update(func(u *tasker.Update) { u.Attempt = math.MaxInt32 + 1 }),
		"a negative seq":          update(func(u *tasker.Update) { u.Seq = -1 }),
		"status pending":          update(func(u *tasker.Update) { u.Status = tasker.Pending }),
		"status missing":          update(func(u *tasker.Update) { u.Status = tasker.Missing }),
		"an unknown status":       update(func(u *tasker.Update) { u.Status = "done" }),
		"a large exit code":       update(func(u *tasker.Update) { code := math.MaxInt32 + 1; u.ExitCode = &code }),
		"65 pieces of output":     update(func(u *tasker.Update) { u.Output = make([]tasker.Chunk, 65) }),
		"257 handlers":            heartbeat(tasker.Presence{Handlers: many(257)}),
		"a long handler":          heartbeat(tasker.Presence{Handlers: []string{strings.Repeat("h", 129)}}),
		"2001 scripts":            heartbeat(tasker.Presence{Scripts: many(2001)}),
		"257 labels":              heartbeat(tasker.Presence{Labels: labels}),
		"64 KiB of labels":        heartbeat(tasker.Presence{Labels: large}),
		"a long label":            heartbeat(tasker.Presence{Labels: map[string]string{strings.Repeat("l", 64): ""}}),
		"an empty label":          heartbeat(tasker.Presence{Labels: map[string]string{"": ""}}),
		"a long value":            heartbeat(tasker.Presence{Labels: map[string]string{"l": strings.Repeat("v", 256)}}),
		"a line break in a value": heartbeat(tasker.Presence{Labels: map[string]string{"l": "a\nb"}}),
		"a long version":          heartbeat(tasker.Presence{Version: strings.Repeat("1", 129)}),
		"a long session":          hello(tasker.Hello{Session: strings.Repeat("s", 257)}),
		"an unfinished attempt 0": hello(tasker.Hello{Unfinished: []tasker.AssignmentRef{{TaskID: "t"}}}),
		"a hello's long version":  hello(tasker.Hello{Presence: tasker.Presence{Version: strings.Repeat("1", 129)}}),
	} {
		if _, err := reportrules.Check(r); !errors.Is(err, reportrules.ErrRefused) {
			t.Errorf("%s: %v, want it refused", name, err)
		}
	}
}

func TestCorrectedReports(t *testing.T) {
	t.Parallel()
	deep := func(n int) json.RawMessage {
		return json.RawMessage(strings.Repeat("[", n) + strings.Repeat("]", n))
	}
	result := func(result, wantError string) [2]tasker.Report {
		return [2]tasker.Report{
			update(func(u *tasker.Update) { u.Result = json.RawMessage(result) }),
			update(func(u *tasker.Update) { u.Status, u.Error = tasker.Failed, "the result is not kept: it "+wantError }),
		}
	}
	for name, reports := range map[string][2]tasker.Report{
		"an honest update": {
			update(func(u *tasker.Update) { u.Result, u.OutputBytes = deep(64), 7 }),
			update(func(u *tasker.Update) { u.Result, u.OutputBytes = deep(64), 7 }),
		},
		"a Latin-1 result":          result("{\"x\":\"Gr\xfcn\"}", "is not valid UTF-8 at byte 8"),
		"a lone surrogate":          result(`{"x":"\ud83d"}`, "has half of a surrogate pair at byte 6, which is not a character"),
		"duplicate keys":            result(`{"x":1,"x":2}`, "has .x, which is given twice"),
		"a result of 65 levels":     result(string(deep(65)), "has [0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0]…, which is nested deeper than 64"),
		"an invalid result":         result(`{`, "is not valid JSON at byte 1: unexpected end of JSON input"),
		"a result of MaxResult + 1": result(`"`+strings.Repeat("x", tasker.MaxResult-1)+`"`, "has 262145 bytes as JSON; at most 262144 are allowed"),
		"an invalid running result": {update(func(u *tasker.Update) { u.Status, u.Result = tasker.Running, deep(65) }), update(func(u *tasker.Update) { u.Status = tasker.Running })},
		"a failure's invalid result": {update(func(u *tasker.Update) { u.Status, u.Error, u.Result = tasker.TimedOut, "slow", json.RawMessage(`{`) }), update(func(u *tasker.Update) {
			u.Status, u.Error = tasker.TimedOut, "slow; the result is not kept: it is not valid JSON at byte 1: unexpected end of JSON input"
		})},
		"long and invalid texts": {
			update(func(u *tasker.Update) {
				u.Reason, u.Error, u.Progress = strings.Repeat("ä", 16<<10), "\xff", &tasker.Progress{Percent: 101, Message: strings.Repeat("x", 20<<10)}
			}),
			update(func(u *tasker.Update) {
				u.Reason, u.Error, u.Progress = strings.Repeat("ä", 8<<10-2)+"…", "\uFFFD", &tasker.Progress{Percent: 100, Message: strings.Repeat("x", 16<<10-3) + "…"}
			}),
		},
		"negative numbers": {
			update(func(u *tasker.Update) { u.OutputBytes, u.Progress = -5, &tasker.Progress{Percent: -1} }),
			update(func(u *tasker.Update) { u.Progress = &tasker.Progress{} }),
		},
		"a presence out of range": {
			heartbeat(tasker.Presence{Metrics: "http://evil/x", Key: "<script>", Running: -1, Waiting: math.MaxInt64, Load: -3, Heartbeat: tasker.Duration(48 * time.Hour)}),
			heartbeat(tasker.Presence{Waiting: math.MaxInt32, Heartbeat: tasker.Duration(time.Hour)}),
		},
		"an honest hello": {
			hello(tasker.Hello{Session: "s", Presence: tasker.Presence{Metrics: "127.0.0.1:9464", Load: 1.5, Labels: map[string]string{"role": "web"}}, Unfinished: []tasker.AssignmentRef{{TaskID: "t", Attempt: 1}}}),
			hello(tasker.Hello{Session: "s", Presence: tasker.Presence{Metrics: "127.0.0.1:9464", Load: 1.5, Labels: map[string]string{"role": "web"}}, Unfinished: []tasker.AssignmentRef{{TaskID: "t", Attempt: 1}}}),
		},
	} {
		got, err := reportrules.Check(reports[0])
		if diff := cmp.Diff(reports[1], got); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, diff)
		}
		if again, err := reportrules.Check(got); err != nil || !cmp.Equal(got, again) {
			t.Errorf("%s: a second check changes it: %v %+v", name, err, again)
		}
	}
}

func TestMetricsAddresses(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]bool{
		"127.0.0.1:9464": true, "web-1:9464": true, "web-1.example.org.:1": true, "my_host:65535": true, "[::1]:9464": true, "[2001:db8::7]:80": true,
		"0.0.0.0:9464": false, "[::]:9464": false, "[::ffff:0.0.0.0]:9464": false,
		"": false, " ": false, "web-1": false, ":9464": false, "web-1:": false, "web-1:0": false, "web-1:65536": false, "web-1:http": false,
		"web-1:+80": false, "web-1:080": false, "http://evil/x": false, "http://evil:80": false, "evil/x:80": false, "a:1,b:2": false, "a b:80": false,
		"user@evil:80": false, "evil?x:80": false, "evil#x:80": false, "[web-1]:80": false, "[127.0.0.1]:80": false, "[fe80::1%eth0]:80": false,
		"::1:9464": false, "-a:80": false, "a..b:80": false, "evil\n:80": false, "ünï:80": false, strings.Repeat("a", 64) + ":80": false,
		strings.Repeat("a.", 127) + "a:80": false,
	} {
		if got := reportrules.IsMetricsAddress(address); got != want {
			t.Errorf("%.80q: %t, want %t", address, got, want)
		}
	}
}

func TestSizeOfReports(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		encoded string
		refused bool
	}{
		"the largest":         {strings.Repeat(" ", reportrules.MaxReport), false},
		"one byte more":       {strings.Repeat(" ", reportrules.MaxReport+1), true},
		"many values":         {strings.Repeat("[],", reportrules.MaxValues/2), false},
		"too many values":     {strings.Repeat("[],", reportrules.MaxValues/2+1), true},
		"commas in a text":    {`"` + strings.Repeat(`,\"`, reportrules.MaxValues+1) + `"`, false},
		"values after a text": {`"\\",` + strings.Repeat(`0,`, reportrules.MaxValues+1), true},
	} {
		if err := reportrules.CheckSize([]byte(tt.encoded)); errors.Is(err, reportrules.ErrRefused) != tt.refused {
			t.Errorf("%s: %v, want refused: %t", name, err, tt.refused)
		}
	}
}
