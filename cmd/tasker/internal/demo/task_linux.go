package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/google/uuid"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/client"
)

const (
	taskType = "update-app"
	payload  = `{"version": "2.4.1"}`
)

// performTask creates a task for the agents, and shows its progress and its outcome.
func (r *run) performTask(ctx context.Context) error {
	request := client.Request{
		Identifier: uuid.NewString(),
		Payload:    json.RawMessage(payload),
		Endpoints:  r.endpoints,
	}
	body, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("encode the request: %w", err)
	}
	r.printf("\nPOST /%s %s", taskType, body)
	task, err := r.client.Create(ctx, taskType, request)
	if err != nil {
		return err
	}
	if r.outcome = r.Watch(ctx, r.client, task); ctx.Err() != nil {
		return ctx.Err()
	}
	state, err := r.client.Get(ctx, taskType, task.ID)
	if err != nil {
		return err
	}
	r.printf("\nGET /%s/%s", taskType, task.ID)
	if err := r.PrintJSON(state); err != nil {
		return err
	}
	r.printNextSteps(task)
	return nil
}

// printNextSteps prints the URLs and commands to try next.
func (r *run) printNextSteps(t tasker.Task) {
	url, program := r.addresses.url(), os.Args[0]
	r.printf("\nAPI docs  %s/docs (asks for the token below)", url)
	r.printf("Metrics   %s/metrics (with the token)", url)
	for _, name := range r.endpoints {
		r.printf("          http://%s/metrics (%s)", r.addresses.metrics[name], name)
	}
	r.printf("\nTry next, in another terminal:")
	r.printf("  export TASKER_URL=%s TASKER_TOKEN=%s", url, r.token)
	r.printf("  %s endpoints", program)
	r.printf("  %s task create facts -e loadbalancer-1 --wait -o json", program)
	if len(r.endpoints) > 1 {
		r.printf("A rollout of a broken version, which stops after one server and is rolled back:")
		r.printf(`  %s task create %s --labels role=loadbalancer --payload '{"version": "2.5.0-broken"}' --canary 1 --on-failure rollback --watch`, program, taskType)
	}
	const curl = `  curl -sS -H "Authorization: Bearer $TASKER_TOKEN"`
	r.printf("The API, as your own programs would call it:")
	r.printf(`%s -H 'Content-Type: application/json' $TASKER_URL/ping -d '{"identifier": "hello-1", "payload": {"foo": "bar"}, "endpoints": ["loadbalancer-1"]}'`, curl)
	r.printf("%s -N $TASKER_URL/ping/hello-1/events", curl)
	r.printf("%s $TASKER_URL/%s/%s", curl, taskType, t.ID)
}
