package api

import (
	"encoding/json"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/MatthiasWiesner/tasker"
)

// The descriptions that people read at /docs.
const (
	aboutText = "tasker hands a task to a named set of servers (endpoints) and tells, per server, what became of it.\n\n" +
		"* A **task** is one request; it has your `identifier` and our `id`, and either names it in a path.\n" +
		"* A **response** is one endpoint's part in it: `pending → sent → received → running →` " +
		"`succeeded`, `failed`, `timed_out`, `cancelled`, `rejected` or `interrupted`; or `missing`, if it was not received in time, or `skipped`, if a rollout stopped before it.\n" +
		"* The task's status follows from its responses: `pending`, `sent`, `running`, or `paused` for a rollout, then `succeeded`, `failed`, `cancelled` or `incomplete` (an endpoint is missing).\n\n" +
		"Errors are `application/problem+json` (RFC 9457); `errors[].location` names the field at fault. " +
		"While the database is away, calls answer 503 with `Retry-After`; repeating a request is always safe."

	createText = "Stores the task for its endpoints and answers at once; how it goes on is seen at its path.\n\n" +
		"The same `identifier` again is the same task: the same request answers 200 with the stored task, another one 409. " +
		"So after a lost answer, just send the request again."
	planText = "Checks a request as creating the task would, and answers whom it would reach and in which waves. Nothing is stored, and no endpoint hears of it. " +
		"409 if there is another task of the same `identifier`."
	listText   = "Newest first. `next` is the `cursor` of the next page; on the last one it is empty."
	getText    = "The task, and for each endpoint where it stands and, if it is not done, the reason why."
	cancelText = "Responses that were not sent yet end at once; a running one is said to be `cancelled` only when the endpoint has ended every process of it. " +
		"A rollout that is to be rolled back, and of which something still runs, is not rolled back any more; its reason says so. On a finished task it changes nothing."
	retryText  = "Makes a new attempt on each endpoint that did not succeed, a rollout's in waves of those. 409 while an attempt is still open, or if there is nothing to retry."
	pauseText  = "The rollout begins no further wave until it is resumed; what runs goes on. On a paused one it changes nothing. 409 if the task is no rollout, or over."
	resumeText = "The rollout goes on where it was paused; what has failed until now is accepted. 409 if it is not paused."
	undoText   = "Makes a task of its own that brings back what was there before this one, on the endpoints where this one was started, and answers it. " +
		"The task that is undone names it as `undone_by`. Asked again, it is the same task. 409 while the task has not ended, if it was started nowhere, or if its handler cannot undo it."
	eventsText = "A stream of server-sent events. The first one is the whole task with all its responses, the following ones have the task and only those responses that changed, or whose endpoint has fallen silent or been heard of again (`silent_since`; one that is resumed tells anew who is silent). " +
		"The id of an event is the task's `version`: with it as `Last-Event-ID` the stream goes on where it broke off. " +
		"The stream ends when the task has finished; asked again for what came after that, it answers 204."
	outputText = "What the handler of the last attempt printed: the beginning and the end are kept, and a line says how many bytes were left out between. " +
		"As JSON: the pieces kept, with their offsets (`data` is base64)."
	endpointsText = "Every endpoint ever heard of, by name. `next` is the `cursor` of the next page; on the last one it is empty."
	endpointText  = "What the endpoint last said of itself."
	targetsText   = "Prometheus' HTTP service discovery: the metrics address of every agent, with the label `endpoint` and, for relabelling, " +
		"`__meta_tasker_connected`, `__meta_tasker_version`, `__meta_tasker_types` and one `__meta_tasker_label_NAME` for each label of the endpoint."
	createTokenText = "Makes a token with which servers enrol (`tasker-agent enrol --server URL --token TOKEN`), each with a name of its own. " +
		"`ttl` is how long it is good, 1m to 720h, `max_uses` for how many servers. The token is in this answer only."
	listTokensText  = "The newest thousand, newest first, without the tokens themselves."
	revokeTokenText = "Nobody can enrol with it any more. Those who have stay."
	enrolText       = "A server gets in: its endpoint's name becomes that of the secret it has chosen (32 random bytes in base64url), which is good for its own calls only. " +
		"Repeating the same request changes nothing and answers 200. 401: the token is not known, revoked, expired or used up. 409: the name is in use."
	revokeText = "Its secret is of no more use, at once, and what it was at is `interrupted`. Its name can be enrolled anew, with another secret. Repeating it changes nothing."
	healthText = "Answers as long as the program runs. No token is needed."
	readyText  = "200 if the database and the transport can be reached, 503 with the parts that cannot otherwise. No token is needed; the reasons are told only with one."
)

// fieldTexts describe the fields of answers, by schema and field.
func fieldTexts() map[string]map[string]string {
	return map[string]map[string]string{
		"Task": {
			"id":                  "Ours, a UUIDv7.",
			"identifier":          "Yours, unique within the type.",
			"type":                "The task type.",
			"payload":             "What the handler works with.",
			"endpoints":           "Who shall perform it; null is everyone who serves the type.",
			"status":              "Where the task stands; follows from the responses.",
			"reason":              "Why, for a task that is incomplete without any response.",
			"counts":              "The number of responses in each status.",
			"created_at":          "When it was stored.",
			"finished_at":         "When every response had ended; null before.",
			"receive_timeout":     "Time in which all endpoints should receive the task.",
			"receive_deadline":    "When that time ends.",
			"timeout":             "Bounds the execution on each endpoint; 0s is no bound.",
			"cancel_requested_at": "When a cancel was asked for; null if it was not.",
			"cancel_requested_by": "By whom.",
			"version":             "Grows with each change of the task or of a response.",
			"labels":              "The selector by which endpoints were added when the task was stored.",
			"action":              "`plan` for a dry run, `undo` for a task that undoes another one; absent for others.",
			"undoes":              "The id of the task that this one undoes.",
			"not_before":          "When the task begins, if not at once.",
			"rollout":             "How it is performed in waves, and where that stands; absent if it is not.",
			"callback":            "Who is told what becomes of it; absent is nobody.",
		},
		"Response": {
			"endpoint":         "The endpoint's name.",
			"wave":             "The wave of a rollout that it belongs to, from 1; left out if it succeeded before the rollout was retried.",
			"status":           "Where the endpoint stands with the task.",
			"attempt":          "Counts from 1; each retry makes a new one.",
			"reason":           "Why it is not done, or why it ended without the handler's own word.",
			"error":            "The handler's error.",
			"result":           "The handler's result: any JSON.",
			"exit_code":        "That of the process, where there was one.",
			"progress":         "What the handler last said about how far it is.",
			"presumed":         "The clock ended it in place of a silent agent; a late report wins.",
			"late":             "The report came after the clock had ended the response.",
			"silent_since":     "When the endpoint was last heard of, while it should be at this and is not connected; absent otherwise. After `api.lost_after` it is `interrupted`.",
			"sent_at":          "When it was handed to the transport.",
			"received_at":      "When the agent had it in its journal.",
			"started_at":       "When the handler was started.",
			"finished_at":      "When it ended.",
			"output_bytes":     "How many bytes the handler printed, all in all.",
			"output_truncated": "Less than that was kept.",
			"version":          "The task's version at which this response last changed.",
		},
		"Rollout":     rolloutTexts(),
		"RolloutSpec": rolloutTexts(),
		"Callback":    callbackTexts()["Callback"],
		"Delivery":    callbackTexts()["Delivery"],
		"Gate": {
			"promql": "What Prometheus is asked: it holds if the answer is anything but nothing, zero or NaN. `$endpoints` stands for a regular expression of the endpoints so far.",
			"url":    "It holds if this URL answers 2xx: https, or http to the control plane's own machine, unless its configuration (`gates.allow`) says otherwise.",
			"for":    "How long it must hold.",
		},
		"Control":  {"action": "cancel, pause, resume, retry or undo.", "at": "When.", "by": "By whom."},
		"Progress": {"percent": "0 to 100.", "message": "What it is at."},
		"Endpoint": {
			"name":        "The endpoint's name.",
			"instance":    "Identifies the agent's journal.",
			"connected":   "Heard of within three heartbeats, and not stopped since.",
			"first_seen":  "When it was first heard of.",
			"last_seen":   "When it was last heard of.",
			"enrolled_at": "When it was enrolled, if it was: it has a secret of its own.",
			"revoked_at":  "Since when it is shut out, if it is.",
			"types":       "The configured task types that it serves.",
			"version":     "The agent program's version.",
			"labels":      "The labels of the agent's configuration.",
			"handlers":    "The agent's handlers.",
			"scripts":     "The task types for which its script handler has an executable.",
			"metrics":     "host:port of the agent's metrics; empty is none.",
			"running":     "Assignments being performed.",
			"waiting":     "Assignments accepted and not yet started.",
			"load":        "The server's one-minute load average.",
			"heartbeat":   "The interval of its heartbeats; large fleets are told to send them less often.",
		},
		"TaskAndResponses": {
			"task":      "The task.",
			"responses": "One for each endpoint, by name.",
			"controls":  "What people asked of the task.",
			"undone_by": "The id of the task that undoes the last attempt, by hand or as a rollback; absent if none does.",
			"callbacks": "The events that its callback was to be told, and what became of that.",
		},
		"WavePlan": {
			"type":          "The task type.",
			"task":          "The id of the task that the same request has made before; absent if it is new.",
			"rollout":       "What was asked for; null is all at once.",
			"waves":         "The endpoints in their waves; with the order `random` only as many as they will be.",
			"broadcast":     "It goes to whoever serves the type while it is open, as of now to the one wave.",
			"not_connected": "Those of them that are not connected, or shut out.",
			"not_serving":   "Those that are connected, but would reject the task.",
		},
		"TaskList":     {"tasks": "Newest first.", "next": "The cursor of the next page; empty on the last one."},
		"EndpointList": {"endpoints": "By name.", "next": "The cursor of the next page; empty on the last one."},
		"Output": {
			"endpoint":  "The endpoint's name.",
			"attempt":   "The attempt that printed it.",
			"bytes":     "How many bytes were printed, all in all.",
			"truncated": "Less than that was kept.",
			"chunks":    "The pieces kept.",
		},
		"EnrolToken": {
			"id":         "Names the token, to revoke it.",
			"created_at": "When it was made.",
			"created_by": "By whom.",
			"expires_at": "When it is of no more use.",
			"max_uses":   "How many endpoints it is good for.",
			"uses":       "How many it has let in.",
			"revoked_at": "When it was revoked, if it was.",
			"token":      "The secret; in the answer to its creation only.",
		},
		"EnrolTokenRequest": {"ttl": "How long it is good: 30m, 1h, or a number of seconds as text.", "max_uses": "How many endpoints it is good for."},
		"EnrolTokenList":    {"tokens": "Newest first."},
		"EnrolRequest":      {"endpoint": "The name to enrol under.", "secret": "What the server has chosen: 43 to 128 characters of base64url."},
		"Enrolment": {
			"endpoint": "The name.",
			"server":   "Where the agent connects to, as the user of its name and with its secret as the password; absent: here.",
			"keys":     "Ed25519 public keys, in base64: every order is signed with one of them.",
		},
		"Chunk":       {"offset": "Where the piece begins, in bytes.", "data": "The piece, in base64."},
		"TargetGroup": {"targets": "host:port of an agent's metrics.", "labels": "Its labels."},
		"Health":      {"status": "ok", "version": "The control plane's version."},
		"Readiness":   {"status": "ready", "parts": "What the control plane needs, by name."},
		"Part":        {"ready": "It is there.", "error": "Why it is not."},
	}
}

func exampleRequest(payload json.RawMessage, endpoints ...string) map[string]any {
	body := map[string]any{"identifier": exampleIdentifier, "payload": payload}
	if endpoints != nil {
		body["endpoints"] = endpoints
	}
	return body
}

const exampleIdentifier = "e7bd91d0-16ad-11e2-892e-0800200c9a66"

func exampleTask(taskType string, payload json.RawMessage) tasker.Task {
	created := time.Date(2026, time.March, 14, 9, 26, 53, 0, time.UTC)
	return tasker.Task{
		ID: "019ceb9f-4c48-7d2e-9b0a-5f1f4d0c8a11", Identifier: exampleIdentifier, Type: taskType, Payload: payload,
		Endpoints: []string{"loadbalancer-1", "loadbalancer-2"}, Status: tasker.TaskPending, Counts: tasker.Counts{tasker.Pending: 2},
		CreatedAt: created, ReceiveTimeout: tasker.Duration(30 * time.Second), ReceiveDeadline: created.Add(30 * time.Second), Version: 1,
	}
}

// exampleAnswer is what became of exampleTask.
func exampleAnswer(taskType string) TaskAndResponses {
	task := exampleTask(taskType, json.RawMessage(`{"foo":"bar"}`))
	at := func(seconds int) *time.Time {
		t := task.CreatedAt.Add(time.Duration(seconds) * time.Second)
		return &t
	}
	zero := 0
	task.Status, task.Counts = tasker.TaskIncomplete, tasker.Counts{tasker.Succeeded: 1, tasker.Missing: 1}
	task.FinishedAt, task.Version = at(30), 6
	return TaskAndResponses{Task: task, Responses: []tasker.Response{
		{
			Endpoint: "loadbalancer-1", Status: tasker.Succeeded, Attempt: 1, Result: json.RawMessage(`{"updated":true}`), ExitCode: &zero,
			Progress: &tasker.Progress{Percent: 100, Message: "done"},
			SentAt:   at(0), ReceivedAt: at(0), StartedAt: at(0), FinishedAt: at(12), OutputBytes: 2048, Version: 5,
		},
		{
			Endpoint: "loadbalancer-2", Status: tasker.Missing, Attempt: 1, Reason: "offline since 2026-03-14T08:00:00Z",
			Presumed: true, FinishedAt: at(30), Version: 6,
		},
	}}
}

// exampleProblems are answers to a create, by status.
func exampleProblems() map[int]*huma.ErrorModel {
	return map[int]*huma.ErrorModel{
		http.StatusBadRequest: problem(http.StatusBadRequest, "the body cannot be read",
			&huma.ErrorDetail{Location: "body.payload.foo", Message: "is given twice"}),
		http.StatusUnprocessableEntity: problem(http.StatusUnprocessableEntity, "body.identifier is mandatory",
			&huma.ErrorDetail{Location: "body.identifier", Message: "is mandatory"},
			&huma.ErrorDetail{Location: "body.endpoints[1]", Message: `is "loadbalancer-1" again, which endpoints[0] is already`}),
	}
}

func eventsResponses() map[string]*huma.Response {
	return map[string]*huma.Response{
		"200": described("The stream.", "text/event-stream", huma.MediaType{
			Schema:  &huma.Schema{Type: huma.TypeString},
			Example: "retry: 1000\n\nid: 3\ndata: {\"task\":{\"status\":\"running\",…},\"responses\":[{\"endpoint\":\"loadbalancer-1\",\"status\":\"running\",…},…]}\n\n",
		}, nil),
		"204": {Description: "The task has finished, and there is nothing newer than the given Last-Event-ID."},
	}
}

func outputResponses(schemas huma.Registry) map[string]*huma.Response {
	number, truth := &huma.Schema{Type: huma.TypeInteger}, &huma.Schema{Type: huma.TypeBoolean}
	ok := described("The output.", "text/plain", huma.MediaType{
		Schema:  &huma.Schema{Type: huma.TypeString},
		Example: "Fetching…\n[... 1048576 bytes left out ...]\nDone.\n",
	}, map[string]*huma.Param{
		outputBytesHeader:     {Description: "How many bytes were printed, all in all.", Schema: number},
		outputTruncatedHeader: {Description: "Less than that was kept.", Schema: truth},
		outputAttemptHeader:   {Description: "The attempt that printed it.", Schema: number},
	})
	ok.Content["application/json"] = &huma.MediaType{Schema: schemas.Schema(reflect.TypeFor[Output](), true, "Output")}
	return map[string]*huma.Response{"200": ok}
}
