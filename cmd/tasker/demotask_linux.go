package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/google/uuid"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/client"
)

// task hands a task to the agents and shows what becomes of it.
func (d *demo) task(ctx context.Context) error {
	request := client.Request{
		Identifier: uuid.NewString(),
		Payload:    json.RawMessage(demoPayload),
		Endpoints:  d.endpoints,
	}
	body, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("write the request: %w", err)
	}
	d.say("\nPOST /%s %s", demoType, body)
	task, err := d.client.Create(ctx, demoType, request)
	if err != nil {
		return err
	}
	if d.outcome = d.watch(ctx, d.client, task); ctx.Err() != nil {
		return ctx.Err()
	}
	state, err := d.client.Get(ctx, demoType, task.ID)
	if err != nil {
		return err
	}
	d.say("\nGET /%s/%s", demoType, task.ID)
	if err := d.printJSON(state); err != nil {
		return err
	}
	d.goOn(task)
	return nil
}

// goOn tells what to do next.
func (d *demo) goOn(t tasker.Task) {
	url := d.sites.url()
	d.say("\nAPI docs  %s/docs (asks for the token below)", url)
	d.say("Metrics   %s/metrics (with the token)", url)
	for _, name := range d.endpoints {
		d.say("          http://%s/metrics (%s)", d.sites.metrics[name], name)
	}
	d.say("\nGo on here in another terminal:")
	d.say("  export TASKER_URL=%s TASKER_TOKEN=%s", url, d.token)
	d.say("  %s endpoints", os.Args[0])
	d.say("  %s task create facts -e loadbalancer-1 --wait -o json", os.Args[0])
	if len(d.endpoints) > 1 {
		d.say("with a version that does not serve, which a rollout takes to one server and back:")
		d.say(`  %s task create %s --labels role=loadbalancer --payload '{"version": "2.5.0-broken"}' --canary 1 --on-failure rollback --watch`, os.Args[0], demoType)
	}
	const curl = `  curl -sS -H "Authorization: Bearer $TASKER_TOKEN"`
	d.say("or as your own programs would:")
	d.say(`%s -H 'Content-Type: application/json' $TASKER_URL/ping -d '{"identifier": "hello-1", "payload": {"foo": "bar"}, "endpoints": ["loadbalancer-1"]}'`, curl)
	d.say("%s -N $TASKER_URL/ping/hello-1/events", curl)
	d.say("%s $TASKER_URL/%s/%s", curl, demoType, t.ID)
}
