package api_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

func TestRejectedRequests(t *testing.T) {
	t.Parallel()
	const post, get = http.MethodPost, http.MethodGet
	many := `["` + strings.TrimSuffix(strings.Repeat(`a","`, 10_001), `","`) + `"]`
	tests := []struct {
		name, method, path, body string
		header                   []string
		status                   int
		// location is that of one of the errors, want a part of its message. Without a
		// location, want is a part of the detail.
		location, want string
	}{
		// The request as a whole.
		{"no body", post, "/ping", "", []string{"Content-Type", "application/json"}, 400, "", "body is required"},
		{"white space only", post, "/ping", " \n", nil, 400, "body", "empty"},
		{"no content type", post, "/ping", seedBody, []string{"Content-Type", ""}, 415, "header.Content-Type", "missing"},
		{"a form", post, "/ping", "identifier=1", []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, "header.Content-Type", "x-www-form-urlencoded"},
		{"JSON declared as text", post, "/ping", seedBody, []string{"Content-Type", "text/plain"}, 415, "header.Content-Type", "text/plain"},
		{"JSON declared as a JSON variant", post, "/ping", seedBody, []string{"Content-Type", "application/vnd.x+json"}, 415, "header.Content-Type", "vnd.x"},
		{"invalid content type", post, "/ping", seedBody, []string{"Content-Type", ";;;"}, 415, "header.Content-Type", ";;;"},
		{"other charset", post, "/ping", seedBody, []string{"Content-Type", "application/json; charset=latin1"}, 415, "header.Content-Type", "latin1"},
		{"compressed", post, "/ping", "\x1f\x8b\b", []string{"Content-Encoding", "gzip"}, 415, "header.Content-Encoding", `"gzip"`},
		{"compressed plan", post, "/ping/plan", "\x1f\x8b\b", []string{"Content-Encoding", "zstd"}, 415, "header.Content-Encoding", `"zstd"`},
		{"compressed request for a token", post, "/tokens", "\x1f\x8b\b", []string{"Content-Encoding", "gzip"}, 415, "header.Content-Encoding", `"gzip"`},
		{"compressed cancel", post, "/ping/1/cancel", "\x1f\x8b\b", []string{"Content-Encoding", "gzip, br"}, 415, "header.Content-Encoding", `"gzip, br"`},
		{"malformed", post, "/ping", `{"identifier":"1"`, nil, 400, "body", "not valid JSON"},
		{"not JSON", post, "/ping", `hello`, nil, 400, "body", "not valid JSON at byte 1"},
		{"trailing data", post, "/ping", `{"identifier":"1"}{"identifier":"2"}`, nil, 400, "body", "after top-level value"},
		{"trailing comma", post, "/ping", `{"identifier":"1",}`, nil, 400, "body", "not valid JSON"},
		{"byte order mark", post, "/ping", "\xef\xbb\xbf" + `{"identifier":"1"}`, nil, 400, "body", "byte order mark"},
		{"invalid UTF-8", post, "/ping", "{\"identifier\":\"\xff\"}", nil, 400, "body", "UTF-8"},
		{"invalid UTF-8 in the payload", post, "/ping", "{\"identifier\":\"1\",\"payload\":\"\xc3(\"}", nil, 400, "body", "UTF-8"},
		{"a list", post, "/ping", `[]`, nil, 422, "body", "is a list"},
		{"a string", post, "/ping", `"identifier"`, nil, 422, "body", "is a string"},
		{"a number", post, "/ping", `1`, nil, 422, "body", "is a number"},
		{"null", post, "/ping", `null`, nil, 422, "body", "is null"},
		{"too large", post, "/ping", `{"identifier":"1","payload":"` + strings.Repeat("x", 5<<20) + `"}`, nil, 413, "", "too large"},
		{"unknown field", post, "/ping", `{"identifier":"1","priority":1}`, nil, 422, "body.priority", "not known"},
		{"field in other case", post, "/ping", `{"Identifier":"1"}`, nil, 422, "body.Identifier", "not known"},
		{"field of the answer", post, "/ping", `{"identifier":"1","status":"succeeded"}`, nil, 422, "body.status", "not known"},
		{"duplicate field", post, "/ping", `{"identifier":"1","identifier":"2"}`, nil, 400, "body.identifier", "twice"},

		// identifier
		{"no identifier", post, "/ping", `{}`, nil, 422, "body.identifier", "mandatory"},
		{"identifier null", post, "/ping", `{"identifier":null}`, nil, 422, "body.identifier", "is null"},
		{"identifier a number", post, "/ping", `{"identifier":1}`, nil, 422, "body.identifier", "is a number, but must be a string"},
		{"identifier a boolean", post, "/ping", `{"identifier":true}`, nil, 422, "body.identifier", "is a boolean"},
		{"identifier a list", post, "/ping", `{"identifier":["1"]}`, nil, 422, "body.identifier", "is a list"},
		{"identifier an object", post, "/ping", `{"identifier":{}}`, nil, 422, "body.identifier", "is an object"},
		{"identifier empty", post, "/ping", `{"identifier":""}`, nil, 422, "body.identifier", "mandatory"},
		{"identifier too long", post, "/ping", `{"identifier":"` + strings.Repeat("x", 256) + `"}`, nil, 422, "body.identifier", "256 bytes"},
		{"identifier too long in bytes", post, "/ping", `{"identifier":"` + strings.Repeat("ü", 128) + `"}`, nil, 422, "body.identifier", "256 bytes"},
		{"identifier with a slash", post, "/ping", `{"identifier":"a/b"}`, nil, 422, "body.identifier", "'/'"},
		{"identifier with an escaped slash", post, "/ping", `{"identifier":"a\/b"}`, nil, 422, "body.identifier", "'/'"},
		{"identifier with a line end", post, "/ping", `{"identifier":"a\nb"}`, nil, 422, "body.identifier", "control character"},
		{"identifier with a NUL", post, "/ping", `{"identifier":"a\u0000b"}`, nil, 422, "body.identifier", "control character"},
		{"identifier with half a surrogate pair", post, "/ping", `{"identifier":"a\ud83d"}`, nil, 400, "body", "surrogate"},
		{"reserved identifier of an undo task", post, "/ping", `{"identifier":"undo-019ceb9f-4c48-7d2e-9b0a-5f1f4d0c8a11-1"}`, nil, 422, "body.identifier", "reserved for tasks that undo other tasks"},

		// payload
		{"payload too large", post, "/ping", `{"identifier":"1","payload":"` + strings.Repeat("x", tasker.MaxPayload-1) + `"}`, nil, 413, "body.payload", "1048577 bytes"},
		{"payload with a duplicate key", post, "/ping", `{"identifier":"1","payload":{"a":{"b":1,"b":2}}}`, nil, 400, "body.payload.a.b", "twice"},
		{"payload nested too deep", post, "/ping", `{"identifier":"1","payload":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}`, nil, 400, "body.payload[0][0]", "nested"},
		{"payload nested beyond the parser's limit", post, "/ping", `{"identifier":"1","payload":` + strings.Repeat("[", 50_000), nil, 400, "body", "JSON"},
		{"payload with a huge exponent", post, "/ping", `{"identifier":"1","payload":{"n":1e999999999}}`, nil, 422, "body.payload.n", "number"},
		{"payload with a number beyond a float64", post, "/ping", `{"identifier":"1","payload":{"d":1e400}}`, nil, 422, "body.payload.d", "many parsers cannot read"},
		{"payload with a long number beyond a float64", post, "/ping", `{"identifier":"1","payload":[-1` + strings.Repeat("0", 309) + `]}`, nil, 422, "body.payload[0]", "many parsers cannot read"},
		{"plan with a number beyond a float64", post, "/ping/plan", `{"identifier":"1","payload":{"d":1e309}}`, nil, 422, "body.payload.d", "many parsers cannot read"},
		{"payload without a required field", post, "/command", `{"identifier":"1","payload":{}}`, nil, 422, "body.payload.argv", "missing"},
		{"omitted payload with a required field", post, "/command", `{"identifier":"1"}`, nil, 422, "body.payload.argv", "missing"},
		{"payload of a wrong type", post, "/command", `{"identifier":"1","payload":"uptime"}`, nil, 422, "body.payload", "must be an object"},
		{"payload with an item of a wrong type", post, "/command", `{"identifier":"1","payload":{"argv":["a",2]}}`, nil, 422, "body.payload.argv[1]", "must be a string"},
		{"payload with an unknown field", post, "/command", `{"identifier":"1","payload":{"argv":["a"],"shell":true}}`, nil, 422, "body.payload.shell", "not known"},
		{"payload with an empty list", post, "/command", `{"identifier":"1","payload":{"argv":[]}}`, nil, 422, "body.payload.argv", "has 0 items, but must have at least 1"},

		// endpoints
		{"endpoints empty", post, "/ping", `{"identifier":"1","endpoints":[]}`, nil, 422, "body.endpoints", "is empty"},
		{"endpoints a string", post, "/ping", `{"identifier":"1","endpoints":"loadbalancer-1"}`, nil, 422, "body.endpoints", "is a string"},
		{"endpoints an object", post, "/ping", `{"identifier":"1","endpoints":{"a":1}}`, nil, 422, "body.endpoints", "is an object"},
		{"endpoints a boolean", post, "/ping", `{"identifier":"1","endpoints":false}`, nil, 422, "body.endpoints", "is a boolean"},
		{"endpoint a number", post, "/ping", `{"identifier":"1","endpoints":["a",2]}`, nil, 422, "body.endpoints[1]", "is a number"},
		{"endpoint null", post, "/ping", `{"identifier":"1","endpoints":[null]}`, nil, 422, "body.endpoints[0]", "is null"},
		{"endpoint a list", post, "/ping", `{"identifier":"1","endpoints":[["a"]]}`, nil, 422, "body.endpoints[0]", "is a list"},
		{"endpoint empty", post, "/ping", `{"identifier":"1","endpoints":["a",""]}`, nil, 422, "body.endpoints[1]", "not valid"},
		{"endpoint in upper case", post, "/ping", `{"identifier":"1","endpoints":["Loadbalancer-1"]}`, nil, 422, "body.endpoints[0]", "Loadbalancer-1"},
		{"endpoint with a space", post, "/ping", `{"identifier":"1","endpoints":["a b"]}`, nil, 422, "body.endpoints[0]", "not valid"},
		{"endpoint with a line end", post, "/ping", `{"identifier":"1","endpoints":["a\n"]}`, nil, 422, "body.endpoints[0]", "not valid"},
		{"endpoint with a slash", post, "/ping", `{"identifier":"1","endpoints":["a/b"]}`, nil, 422, "body.endpoints[0]", "not valid"},
		{"endpoint with a wildcard", post, "/ping", `{"identifier":"1","endpoints":["*all*"]}`, nil, 422, "body.endpoints[0]", "not valid"},
		{"endpoint that begins with a dash", post, "/ping", `{"identifier":"1","endpoints":["-a"]}`, nil, 422, "body.endpoints[0]", "not valid"},
		{"endpoint too long", post, "/ping", `{"identifier":"1","endpoints":["` + strings.Repeat("a", 129) + `"]}`, nil, 422, "body.endpoints[0]", "not valid"},
		{"duplicate endpoint", post, "/ping", `{"identifier":"1","endpoints":["a","b","a"]}`, nil, 422, "body.endpoints[2]", "the same as endpoints[0]"},
		{"too many endpoints", post, "/ping", `{"identifier":"1","endpoints":` + many + `}`, nil, 422, "body.endpoints", "10001 names"},

		// labels, dry_run, not_before and rollout
		{"labels a list", post, "/ping", `{"identifier":"1","labels":["a=b"]}`, nil, 422, "body.labels", "is a list"},
		{"invalid labels", post, "/ping", `{"identifier":"1","labels":"a b"}`, nil, 422, "body.labels", "KEY=VALUE"},
		{"labels with an empty value", post, "/ping", `{"identifier":"1","labels":"role=web,zone!="}`, nil, 422, "body.labels", "no value for zone"},
		{"labels of no endpoint", post, "/ping", `{"identifier":"1","labels":"role=nobody"}`, nil, 422, "body.labels", "no endpoint"},
		{"rollout of no endpoint", post, "/ping", `{"identifier":"1","rollout":{}}`, nil, 422, "body.endpoints", "no endpoint"},
		{"dry_run a string", post, "/ping", `{"identifier":"1","dry_run":"yes"}`, nil, 422, "body.dry_run", "true or false"},
		{"not_before a number", post, "/ping", `{"identifier":"1","not_before":1}`, nil, 422, "body.not_before", "is a number"},
		{"invalid not_before", post, "/ping", `{"identifier":"1","not_before":"tomorrow"}`, nil, 422, "body.not_before", "RFC 3339"},
		{"not_before too far", post, "/ping", `{"identifier":"1","not_before":"2999-01-01T00:00:00Z"}`, nil, 422, "body.not_before", "ahead"},
		{"rollout a list", post, "/ping", `{"identifier":"1","rollout":[]}`, nil, 422, "body.rollout", "is a list"},
		{"rollout with an unknown field", post, "/ping", `{"identifier":"1","endpoints":["a"],"rollout":{"waves":1}}`, nil, 422, "body.rollout.waves", "known fields are batch"},
		{"rollout with an invalid canary", post, "/ping", `{"identifier":"1","endpoints":["a"],"rollout":{"canary":"few"}}`, nil, 422, "body.rollout.canary", "not an amount"},
		{"rollout with a batch of 0", post, "/ping", `{"identifier":"1","endpoints":["a"],"rollout":{"batch":[1,0]}}`, nil, 422, "body.rollout.batch[1]", "at least one"},
		{"rollout with a batch of 0%", post, "/ping", `{"identifier":"1","endpoints":["a"],"rollout":{"batch":"0%"}}`, nil, 422, "body.rollout.batch", "at least one"},
		{"rollout with an empty list of batches", post, "/ping", `{"identifier":"1","endpoints":["a"],"rollout":{"batch":[]}}`, nil, 422, "body.rollout.batch", "empty list"},
		{"rollout with too many batches", post, "/ping", `{"identifier":"1","endpoints":["a"],"rollout":{"batch":[1` + strings.Repeat(",1", 1000) + `]}}`, nil, 422, "body.rollout.batch", "at most 1000"},
		{"rollout with a batch over 100%", post, "/ping", `{"identifier":"1","endpoints":["a"],"rollout":{"batch":"101%"}}`, nil, 422, "body.rollout.batch", "not an amount"},
		{"rollout with an invalid max_failures", post, "/ping", `{"identifier":"1","endpoints":["a"],"rollout":{"max_failures":-1}}`, nil, 422, "body.rollout.max_failures", "not an amount"},
		{"rollout with a too long pause_between", post, "/ping", `{"identifier":"1","endpoints":["a"],"rollout":{"pause_between":"200h"}}`, nil, 422, "body.rollout.pause_between", "at most"},
		{"rollout pause_after_canary a string", post, "/ping", `{"identifier":"1","endpoints":["a"],"rollout":{"canary":1,"pause_after_canary":"no"}}`, nil, 422, "body.rollout.pause_after_canary", "must be a boolean"},
		{"rollout order an object", post, "/ping", `{"identifier":"1","endpoints":["a"],"rollout":{"order":{}}}`, nil, 422, "body.rollout.order", "it is an object, but must be a string"},
		{"rollout with pause_after_canary but no canary", post, "/ping", `{"identifier":"1","endpoints":["a"],"rollout":{"pause_after_canary":true}}`, nil, 422, "body.rollout.pause_after_canary", "no canary"},
		{"rollout with an invalid order", post, "/ping", `{"identifier":"1","endpoints":["a"],"rollout":{"order":"best"}}`, nil, 422, "body.rollout.order", "listed, name, random"},
		{"rollout with an invalid on_failure", post, "/ping", `{"identifier":"1","endpoints":["a"],"rollout":{"on_failure":"ignore"}}`, nil, 422, "body.rollout.on_failure", "stop, pause, rollback"},
		{"rollback of a payload without undo", post, "/command", `{"identifier":"1","payload":{"argv":["a"]},"endpoints":["a"],"rollout":{"on_failure":"rollback"}}`, nil, 422, "body.rollout.on_failure", "the payload has no undo, without which the handler command cannot undo"},
		{"rollback of an omitted payload", post, "/command", `{"identifier":"1","endpoints":["a"],"rollout":{"on_failure":"rollback"}}`, nil, 422, "body.rollout.on_failure", "the payload has no undo"},
		{"rollback of a payload that is a list", post, "/command", `{"identifier":"1","payload":[],"endpoints":["a"],"rollout":{"on_failure":"rollback"}}`, nil, 422, "body.payload", "must be an object"},
		{"gate null", post, "/ping", `{"identifier":"1","endpoints":["a"],"rollout":{"gate":null}}`, nil, 422, "body.rollout.gate", "is null"},
		{"canary null", post, "/ping", `{"identifier":"1","endpoints":["a"],"rollout":{"canary":null}}`, nil, 422, "body.rollout.canary", "is null"},
		{"on_failure empty", post, "/ping", `{"identifier":"1","endpoints":["a"],"rollout":{"on_failure":""}}`, nil, 422, "body.rollout.on_failure", "is empty"},
		{"empty gate", post, "/ping", `{"identifier":"1","endpoints":["a"],"rollout":{"gate":{}}}`, nil, 422, "body.rollout.gate", "one of the two"},
		{"gate with promql and url", post, "/ping", `{"identifier":"1","endpoints":["a"],"rollout":{"gate":{"promql":"up","url":"http://x/"}}}`, nil, 422, "body.rollout.gate", "one of the two"},
		{"gate without a Prometheus", post, "/ping", `{"identifier":"1","endpoints":["a"],"rollout":{"gate":{"promql":"up"}}}`, nil, 422, "body.rollout.gate.promql", "prometheus.uri"},
		{"gate with a file URL", post, "/ping", `{"identifier":"1","endpoints":["a"],"rollout":{"gate":{"url":"file:///etc/passwd"}}}`, nil, 422, "body.rollout.gate.url", "http"},
		{"gate URL with a user", post, "/ping", `{"identifier":"1","endpoints":["a"],"rollout":{"gate":{"url":"http://u:p@x/"}}}`, nil, 422, "body.rollout.gate.url", "user"},
		{"gate URL of another machine without TLS", post, "/ping", `{"identifier":"1","endpoints":["a"],"rollout":{"gate":{"url":"http://169.254.169.254/latest"}}}`, nil, 422, "body.rollout.gate.url", "what gates.allow in the configuration"},
		{"gate query too long", post, "/ping", `{"identifier":"1","endpoints":["a"],"rollout":{"gate":{"promql":"` + strings.Repeat("x", 4097) + `"}}}`, nil, 422, "body.rollout.gate.promql", "4097 bytes"},
		{"gate with an invalid for", post, "/ping", `{"identifier":"1","endpoints":["a"],"rollout":{"gate":{"url":"https://x/","for":"a while"}}}`, nil, 422, "body.rollout.gate.for", "not a duration"},

		// receive_timeout and timeout
		{"receive_timeout a boolean", post, "/ping", `{"identifier":"1","receive_timeout":true}`, nil, 422, "body.receive_timeout", "is a boolean"},
		{"receive_timeout a list", post, "/ping", `{"identifier":"1","receive_timeout":[30]}`, nil, 422, "body.receive_timeout", "is a list"},
		{"invalid receive_timeout", post, "/ping", `{"identifier":"1","receive_timeout":"soon"}`, nil, 422, "body.receive_timeout", "soon"},
		{"receive_timeout empty", post, "/ping", `{"identifier":"1","receive_timeout":""}`, nil, 422, "body.receive_timeout", "not a duration"},
		{"receive_timeout negative", post, "/ping", `{"identifier":"1","receive_timeout":-1}`, nil, 422, "body.receive_timeout", "negative"},
		{"receive_timeout zero", post, "/ping", `{"identifier":"1","receive_timeout":0}`, nil, 422, "body.receive_timeout", "between"},
		{"receive_timeout too long", post, "/ping", `{"identifier":"1","receive_timeout":"8760h"}`, nil, 422, "body.receive_timeout", "between"},
		{"receive_timeout beyond an int64", post, "/ping", `{"identifier":"1","receive_timeout":1e300}`, nil, 422, "body.receive_timeout", "not valid"},
		{"timeout an object", post, "/ping", `{"identifier":"1","timeout":{}}`, nil, 422, "body.timeout", "is an object"},
		{"invalid timeout", post, "/ping", `{"identifier":"1","timeout":"5 minutes"}`, nil, 422, "body.timeout", "5 minutes"},
		{"timeout zero", post, "/ping", `{"identifier":"1","timeout":"0s"}`, nil, 422, "body.timeout", "between"},
		{"timeout above the type's", post, "/command", `{"identifier":"1","payload":{"argv":["a"]},"timeout":"10m1s"}`, nil, 422, "body.timeout", "10m0s"},
		{"timeout too long, type without one", post, "/ping", `{"identifier":"1","timeout":"721h"}`, nil, 422, "body.timeout", "between"},

		// Paths, methods and queries.
		{"unknown type", post, "/reboot", seedBody, nil, 404, "", "task_types in the configuration of the control plane has: ping, command"},
		{"unknown type, list", get, "/reboot", "", nil, 404, "", "task_types in the configuration of the control plane has: ping, command"},
		{"type in other case", post, "/Ping", seedBody, nil, 404, "", `"Ping"`},
		{"trailing slash", post, "/ping/", seedBody, nil, 404, "", "this path does not exist"},
		{"double slash", post, "//ping", seedBody, nil, 404, "", "this path does not exist"},
		{"post to the root", post, "/", seedBody, nil, 405, "", "GET, HEAD"},
		{"post to a task", post, "/ping/1", seedBody, nil, 405, "", "GET, HEAD"},
		{"put", http.MethodPut, "/ping", seedBody, nil, 405, "", "GET, HEAD, POST"},
		{"delete", http.MethodDelete, "/ping/1", "", nil, 405, "", "DELETE is not allowed"},
		{"get of a control", get, "/ping/1/cancel", "", nil, 405, "", "POST"},
		{"unknown query parameter", post, "/ping?wait=true", seedBody, nil, 422, "query.wait", "unknown"},
		{"unreadable query", post, "/ping?a=%zz", seedBody, nil, 400, "", "query string"},
		{"unknown status", get, "/ping?status=done", "", nil, 422, "query.status", "expected value to be one of"},
		{"invalid limit", get, "/ping?limit=all", "", nil, 422, "query.limit", "integer"},
		{"limit zero", get, "/ping?limit=0", "", nil, 422, "query.limit", ">= 1"},
		{"limit too high", get, "/ping?limit=1000000", "", nil, 422, "query.limit", "<= 200"},
		{"limit twice", get, "/ping?limit=1&limit=2", "", nil, 422, "query.limit", "2 times"},
		{"invalid cursor", get, "/ping?cursor=nonsense!", "", nil, 422, "query.cursor", "not the value of next"},
		{"unknown task", get, "/ping/nope", "", nil, 404, "", `"nope"`},
		{"cancel of an unknown task", post, "/ping/nope/cancel", "", nil, 404, "", `"nope"`},
		{"retry of an unknown task", post, "/ping/nope/retry", "", nil, 404, "", `"nope"`},
		{"events of an unknown task", get, "/ping/nope/events", "", nil, 404, "", `"nope"`},
		{"output of an unknown task", get, "/ping/nope/responses/a/output", "", nil, 404, "", `"nope"`},
		{"reference with a slash", get, "/ping/a%2Fb", "", nil, 404, "", `"a/b"`},
		{"reference with invalid UTF-8", get, "/ping/%ff", "", nil, 404, "", `\xff`},
		{"too long reference", get, "/ping/" + strings.Repeat("x", 300), "", nil, 404, "", "xxx…"},
		{"cancel with a body", post, "/ping/nope/cancel", `{"endpoints":["a"]}`, nil, 422, "body", "must be empty"},
		{"invalid event id", get, "/ping/nope/events", "", []string{"Last-Event-ID", "x"}, 422, "header.Last-Event-ID", "integer"},
		{"unknown endpoint", get, "/endpoints/nope", "", nil, 404, "", `"nope"`},
		{"invalid endpoint name", get, "/endpoints/NOPE", "", nil, 404, "", `"NOPE"`},
		{"agents without an HTTP transport", get, "/agent/orders", "", nil, 404, "", "message queue"},
	}
	s := serve(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := s.do(t, tt.method, tt.path, tt.body, tt.header...)
			p := a.problem(t, tt.status)
			if len(a.body) > 4000 {
				t.Errorf("the problem has %d bytes", len(a.body))
			}
			matched := tt.location == "" && strings.Contains(p.Detail, tt.want)
			for _, e := range p.Errors {
				matched = matched || tt.location != "" && strings.HasPrefix(e.Location, tt.location) && strings.Contains(e.Message, tt.want)
			}
			if !matched {
				t.Errorf("the problem has no %q at %q: %s", tt.want, tt.location, a.body)
			}
			if tt.status == http.StatusMethodNotAllowed && a.header.Get("Allow") == "" {
				t.Error("Allow is missing")
			}
			for _, taskType := range []string{"ping", "command"} {
				page, err := s.store.Tasks(t.Context(), store.TaskQuery{Type: taskType})
				if err != nil {
					t.Fatal(err)
				}
				if len(page.Tasks) > 0 {
					t.Fatalf("a task was stored: %+v", page.Tasks)
				}
			}
		})
	}
}

func TestAllErrorsAreReported(t *testing.T) {
	t.Parallel()
	s := serve(t)
	p := s.do(t, http.MethodPost, "/ping", `{"name":"1","endpoints":["A","b","b"],"timeout":"x"}`).problem(t, 422)
	var locations []string
	for _, e := range p.Errors {
		locations = append(locations, e.Location)
	}
	if got, want := strings.Join(locations, " "), "body.endpoints[0] body.endpoints[2] body.identifier body.name body.timeout"; got != want {
		t.Errorf("errors at %s, want %s", got, want)
	}

	names, err := json.Marshal(strings.Split(strings.Repeat("BAD,", 5000), ","))
	if err != nil {
		t.Fatal(err)
	}
	p = s.do(t, http.MethodPost, "/ping", `{"identifier":"1","endpoints":`+string(names)+`}`).problem(t, 422)
	if len(p.Errors) != 21 || !strings.Contains(p.Errors[20].Message, "4981 more") {
		t.Errorf("%d errors, the last one is %+v", len(p.Errors), p.Errors[len(p.Errors)-1])
	}
}
