package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

// answer is the response to GET /{type}/{id}.
type answer struct {
	Task      tasker.Task       `json:"task"`
	Responses []tasker.Response `json:"responses"`
	Controls  []tasker.Control  `json:"controls"`
}

// response returns the response of an endpoint.
func (a answer) response(endpoint string) tasker.Response {
	for _, r := range a.Responses {
		if r.Endpoint == endpoint {
			return r
		}
	}
	return tasker.Response{}
}

// post creates a task, which the API must accept.
func (f *fleet) post(taskType, body string) tasker.Task {
	f.t.Helper()
	var task tasker.Task
	code := f.callRetrying(http.MethodPost, "/"+taskType, body, &task)
	if repeated := f.faulty && code == http.StatusOK; code != http.StatusCreated && !repeated {
		f.t.Fatalf("POST /%s answered %d", taskType, code)
	}
	return task
}

// get returns a task by id or identifier.
func (f *fleet) get(taskType, ref string) answer {
	f.t.Helper()
	var a answer
	if code := f.callRetrying(http.MethodGet, "/"+taskType+"/"+ref, "", &a); code != http.StatusOK {
		f.t.Fatalf("GET /%s/%s answered %d", taskType, ref, code)
	}
	return a
}

// waitFinished waits until a task is finished.
func (f *fleet) waitFinished(task tasker.Task) answer {
	f.t.Helper()
	var a answer
	wait.For(f.t, "task "+task.Identifier+" to finish", func() bool {
		a = f.get(task.Type, task.ID)
		return a.Task.FinishedAt != nil
	})
	return a
}

func (f *fleet) endpoint(name string) tasker.Endpoint {
	f.t.Helper()
	var e tasker.Endpoint
	f.call(http.MethodGet, "/endpoints/"+name, "", &e)
	return e
}

// call sends a request, decodes a 2xx response into out, and returns the status code.
func (f *fleet) call(method, path, body string, out any) int {
	f.t.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(f.t.Context(), method, "http://"+f.api+path, reader)
	if err != nil {
		f.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if f.token != "" {
		req.Header.Set("Authorization", "Bearer "+f.token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		f.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Fatalf("%s %s: %v", method, path, err)
	}
	if resp.StatusCode/100 == 2 && out != nil {
		if err := json.NewDecoder(bytes.NewReader(raw)).Decode(out); err != nil {
			f.t.Fatalf("%s %s: %v in %s", method, path, err, raw)
		}
	} else if resp.StatusCode/100 != 2 && resp.StatusCode != http.StatusNotFound {
		f.t.Logf("%s %s answered %d: %s", method, path, resp.StatusCode, raw)
	}
	return resp.StatusCode
}

// callRetrying sends a request, and repeats it after 503 if the test causes faults.
func (f *fleet) callRetrying(method, path, body string, out any) (code int) {
	f.t.Helper()
	wait.For(f.t, method+" "+path+" to be served", func() bool {
		code = f.call(method, path, body, out)
		return !f.faulty || code != http.StatusServiceUnavailable
	})
	return code
}
