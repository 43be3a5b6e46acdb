package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/api"
)

func TestReferences(t *testing.T) {
	t.Parallel()
	s := serve(t)
	for _, id := range []string{
		"plain", "with space", "what?", "a#b", "100%", "a%2Fb", "über", "日本語", ".", "..", "...", "a+b", "a&b=c;d", "~", `"quoted"`, `back\slash`, "%", "%zz", "+", " ",
	} {
		t.Run(id, func(t *testing.T) {
			t.Parallel()
			body, err := json.Marshal(map[string]any{"identifier": id})
			if err != nil {
				t.Fatal(err)
			}
			task := s.create(t, "/ping", string(body))
			paths := []string{"/ping/" + url.PathEscape(id), "/ping/" + url.PathEscape(task.ID)}
			if strings.Trim(id, ".") == "" {
				paths = append(paths, "/ping/"+strings.ReplaceAll(id, ".", "%2e"))
			}
			for _, path := range paths {
				got := decode[api.TaskAndResponses](t, s.do(t, http.MethodGet, path, ""), http.StatusOK)
				if got.Task.ID != task.ID || got.Task.Identifier != id {
					t.Errorf("GET %s gave %q", path, got.Task.Identifier)
				}
			}
			cancelled := decode[tasker.Task](t, s.do(t, http.MethodPost, paths[0]+"/cancel", ""), http.StatusAccepted)
			if cancelled.ID != task.ID || cancelled.CancelRequestedAt == nil {
				t.Errorf("POST %s/cancel gave %+v", paths[0], cancelled)
			}
		})
	}
}

func TestListPages(t *testing.T) {
	t.Parallel()
	s := serve(t)
	var want []string
	for i := range 7 {
		task := s.create(t, "/ping", fmt.Sprintf(`{"identifier":"%d","endpoints":["a"]}`, i))
		want = append([]string{task.Identifier}, want...)
	}
	s.create(t, "/command", `{"identifier":"other","payload":{"argv":["a"]}}`)
	type list struct {
		Tasks []tasker.Task `json:"tasks"`
		Next  *string       `json:"next"`
	}
	var got []string
	for next, pages := "", 1; ; pages++ {
		page := decode[list](t, s.do(t, http.MethodGet, "/ping?limit=3&status=pending&cursor="+url.QueryEscape(next), ""), http.StatusOK)
		for _, task := range page.Tasks {
			got = append(got, task.Identifier)
		}
		if page.Next == nil || *page.Next == "" {
			if pages != 3 {
				t.Errorf("%d pages", pages)
			}
			break
		}
		next = *page.Next
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("newest first (-want +got):\n%s", diff)
	}
	if a := s.do(t, http.MethodGet, "/ping?status=failed", ""); string(a.body) != `{"tasks":[],"next":""}`+"\n" {
		t.Errorf("an empty list is %s", a.body)
	}
}

func TestCancelAndRetry(t *testing.T) {
	t.Parallel()
	s := serve(t)
	apply(t, s.store, hello("a"), hello("b"))
	task := s.create(t, "/ping", `{"identifier":"1","endpoints":["a","b"]}`)
	s.do(t, http.MethodPost, "/ping/1/retry", "").problem(t, http.StatusConflict)

	apply(t, s.store, update(task, "a", 1, tasker.Succeeded), update(task, "b", 1, tasker.Running))
	for range 2 { // the second cancel changes nothing
		got := decode[tasker.Task](t, s.do(t, http.MethodPost, "/ping/1/cancel", ""), http.StatusAccepted)
		if got.CancelRequestedBy != "local" || got.FinishedAt != nil {
			t.Errorf("cancelled: %+v", got)
		}
	}
	apply(t, s.store, update(task, "b", 2, tasker.Cancelled))
	if got := decode[api.TaskAndResponses](t, s.do(t, http.MethodGet, "/ping/1", ""), http.StatusOK); got.Task.Status != tasker.TaskCancelled {
		t.Errorf("status %s", got.Task.Status)
	}
	decode[tasker.Task](t, s.do(t, http.MethodPost, "/ping/1/cancel", "{}"), http.StatusAccepted)

	got := decode[tasker.Task](t, s.do(t, http.MethodPost, "/ping/1/retry", ""), http.StatusAccepted)
	if got.FinishedAt != nil || got.Counts[tasker.Pending] != 1 || got.Counts[tasker.Succeeded] != 1 {
		t.Errorf("retried: %+v", got)
	}
	after := decode[api.TaskAndResponses](t, s.do(t, http.MethodGet, "/ping/1", ""), http.StatusOK)
	if after.Responses[0].Attempt != 1 || after.Responses[1].Attempt != 2 {
		t.Errorf("attempts: %+v", after.Responses)
	}

	done := s.create(t, "/ping", `{"identifier":"2","endpoints":["a"]}`)
	apply(t, s.store, update(done, "a", 1, tasker.Succeeded))
	if p := s.do(t, http.MethodPost, "/ping/2/retry", "").problem(t, http.StatusConflict); !strings.Contains(p.Detail, "nothing to retry") {
		t.Errorf("retry of a succeeded task: %+v", p)
	}
}
