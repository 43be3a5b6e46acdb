package api_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/api"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

func TestInvalidCallback(t *testing.T) {
	t.Parallel()
	s := serve(t)
	for _, c := range []struct{ callback, location, want string }{
		{`1`, "body.callback", "a number"},
		{`[]`, "body.callback", "a list"},
		{`""`, "body.callback", "is no http:// or https:// URL"},
		{`"hooks.example.net"`, "body.callback", "is no http:// or https:// URL"},
		{`"http://hooks.example.net/"`, "body.callback", "must begin with https://"},
		{`"https://me:secret@hooks.example.net/"`, "body.callback", "has a user"},
		{`"https://hooks.example.net/` + strings.Repeat("x", 2048) + `"`, "body.callback", "bytes"},
		{`{}`, "body.callback.url", "is no"},
		{`{"url":1}`, "body.callback.url", "a number"},
		{`{"url":"ftp://hooks.example.net/"}`, "body.callback.url", "is no"},
		{`{"url":"https://hooks.example.net/","on":["finished"]}`, "body.callback.on", "known fields are events, url"},
		{`{"url":"https://hooks.example.net/","events":[]}`, "body.callback.events", "is empty"},
		{`{"url":"https://hooks.example.net/","events":"finished"}`, "body.callback.events", "it is a string, but must be a list"},
		{`{"url":"https://hooks.example.net/","events":["finished","started"]}`, "body.callback.events[1]", "but must be one of finished, incomplete, paused"},
	} {
		p := s.do(t, http.MethodPost, "/ping", `{"identifier":"1","callback":`+c.callback+`}`).problem(t, http.StatusUnprocessableEntity)
		if !slices.ContainsFunc(p.Errors, func(e fieldError) bool { return e.Location == c.location && strings.Contains(e.Message, c.want) }) {
			t.Errorf("%.100s: %+v, want %q at %s", c.callback, p.Errors, c.want, c.location)
		}
	}
	if a := s.do(t, http.MethodGet, "/ping/1", ""); a.status != http.StatusNotFound {
		t.Errorf("a task was created: %s", a.body)
	}
}

// A URL and an object with the same URL are the same request, and the task shows the
// deliveries.
func TestCallback(t *testing.T) {
	t.Parallel()
	s := serve(t)
	const url = "https://hooks.example.net/?a=1&b=2"
	post := func(callback string) answer {
		return s.do(t, http.MethodPost, "/ping", `{"identifier":"1","endpoints":["a"],"callback":`+callback+`}`)
	}
	task := decode[tasker.Task](t, post(`"`+url+`"`), http.StatusCreated)
	if c := task.Callback; c == nil || c.URL != url || !slices.Equal(c.Events, tasker.CallbackEvents()) {
		t.Errorf("the callback is %+v", c)
	}
	if same := decode[tasker.Task](t, post(`{"url":"`+url+`","events":null}`), http.StatusOK); same.ID != task.ID {
		t.Error("null events are not all events")
	}
	same := decode[tasker.Task](t, post(`{"url":"`+url+`","events":["paused","finished","incomplete","paused"]}`), http.StatusOK)
	if same.ID != task.ID {
		t.Errorf("the same request created another task")
	}
	for _, other := range []string{`"https://hooks.example.net/"`, `{"url":"` + url + `","events":["finished"]}`} {
		post(other).problem(t, http.StatusConflict)
	}
	get := func() api.TaskAndResponses {
		return decode[api.TaskAndResponses](t, s.do(t, http.MethodGet, "/ping/1", ""), http.StatusOK)
	}
	if list := get().Callbacks; list != nil {
		t.Errorf("callbacks before the end: %+v", list)
	}
	apply(t, s.store, hello("a"), update(task, "a", 1, tasker.Succeeded))
	calls, err := s.store.ClaimCalls(t.Context(), 10)
	if err != nil || len(calls) != 1 {
		t.Fatalf("%d calls, %v", len(calls), err)
	}
	if err := s.store.RecordCall(t.Context(), store.CallResult{Call: calls[0]}); err != nil {
		t.Fatal(err)
	}
	list := get().Callbacks
	if len(list) != 1 || list[0].Event != tasker.CallbackFinished || list[0].Status != tasker.DeliveryDelivered || list[0].Attempts != 1 || list[0].DeliveredAt == nil {
		t.Errorf("callbacks after the end: %+v", list)
	}
	check := compiler(t, s.do(t, http.MethodGet, "/openapi.json", "").body)
	check("/components/schemas/TaskAndResponses", s.do(t, http.MethodGet, "/ping/1", "").body)
}
