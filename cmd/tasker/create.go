package main

import (
	"encoding/json"
	"io"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/client"
	"github.com/MatthiasWiesner/tasker/cmd/tasker/internal/describe"
)

// createFlags holds the flags of create.
type createFlags struct {
	file                           string
	identifier, payload            string
	endpoints                      []string
	labels, notBefore              string
	all                            bool
	dryRun                         bool
	timeout, receiveTimeout        string
	callback                       string
	callbackEvents                 []string
	rollout                        string
	canary, batch, maxFailures     string
	pauseBetween, onFailure        string
	pauseAfterCanary, watch, await bool
}

func createCommand(a *app) *cobra.Command {
	var f createFlags
	cmd := &cobra.Command{
		Use:   "create TYPE",
		Short: "Create a task",
		Long: `Create a task and print it. The same request with the same identifier is the same task:
a command with --identifier can be repeated safely.

The task is for the endpoints that --endpoint names and those that --labels selects now.
--all is for every endpoint that serves the type. Such a task finishes after the receive
timeout at the earliest, because endpoints may still connect; with waves it is for the
endpoints that serve the type when it is created. One of these flags is mandatory, and an
empty value is an error: an unset variable of a script reaches no server.

With --canary, --batch, --max-failures, --pause-between, --pause-after-canary or
--on-failure, the task is performed in waves. --rollout sets all of this in JSON.
To see the waves first: tasker rollout plan FILE

The control plane calls the URL of --callback when the task has finished, when an endpoint
has not received the task, and when its rollout has paused. tasker task get shows the
outcome of these calls.

--file is the whole request in JSON or YAML, as for POST /TYPE. TYPE may be left out if the
file contains it as type. Without an identifier in the file, one is generated. A file
without endpoints and labels needs --all too. Values are sent as they are written in YAML:
1.10 stays 1.10, and no is a text. A number that JSON cannot express, such as 00123, is
refused; in quotes it is a text.

` + exitCodes,
		Example: `  tasker task create ping -e loadbalancer-1 --watch
  tasker task create update-app -e loadbalancer-1 -e loadbalancer-2 --payload '{"version": "2.4.1"}' --watch
  tasker task create update-app --labels 'role=web,zone!=b' --canary 1 --batch 10%,50% --max-failures 5% --pause-between 1m --watch
  tasker task create update-app --file update.yaml --watch
  tasker task create command --all --payload @command.json --timeout 5m --wait -o json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.create(cmd, strings.Join(args, ""), f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.file, "file", "", "a file with the whole request in JSON or YAML; - is the standard input")
	flags.StringVar(&f.identifier, "identifier", "", "your own name for the task (default: a generated UUID)")
	flags.StringVar(&f.payload, "payload", "", "JSON, or @FILE, or - for the standard input (default: {})")
	flags.StringSliceVarP(&f.endpoints, "endpoint", "e", nil, "an endpoint, or several with commas; repeatable")
	flags.StringVar(&f.labels, "labels", "", "the endpoints that have these labels, like role=web,zone!=b")
	flags.BoolVar(&f.all, "all", false, "every endpoint that serves the type")
	flags.StringVar(&f.notBefore, "not-before", "", "the earliest start: a time like 2026-01-02T03:04:05Z, or a duration from now, like 2h")
	flags.BoolVar(&f.dryRun, "dry-run", false, "report what would be changed, and change nothing")
	flags.StringVar(&f.timeout, "timeout", "", "bound the execution on each endpoint, like 10m")
	flags.StringVar(&f.receiveTimeout, "receive-timeout", "", "the time in which all endpoints should receive the task, like 30s")
	flags.StringVar(&f.callback, "callback", "", "a URL that the control plane calls on events of the task")
	flags.StringSliceVar(&f.callbackEvents, "callback-events", nil, "the events: finished, incomplete, paused (default: all)")
	flags.StringVar(&f.rollout, "rollout", "", "perform the task in waves: the rollout as JSON, or @FILE, or -")
	flags.StringVar(&f.canary, "canary", "", "the size of a first wave, like 1 or 5%")
	flags.StringVar(&f.batch, "batch", "", "the sizes of the waves after it, like 25% or 1,10%,50%; the last one repeats")
	flags.StringVar(&f.maxFailures, "max-failures", "", "how many endpoints may fail, like 2 or 5% of all (default: 0)")
	flags.StringVar(&f.pauseBetween, "pause-between", "", "the time between two waves, like 30s")
	flags.BoolVar(&f.pauseAfterCanary, "pause-after-canary", false, "pause after the first wave until the rollout is resumed")
	flags.StringVar(&f.onFailure, "on-failure", "", "if more endpoints fail than allowed: stop, pause or rollback (default: stop)")
	flags.BoolVar(&f.watch, "watch", false, "show the progress until the task has finished")
	flags.BoolVar(&f.await, "wait", false, "wait until the task has finished, then show it")
	cmd.MarkFlagsMutuallyExclusive("watch", "wait")
	cmd.MarkFlagsMutuallyExclusive("all", "endpoint")
	cmd.MarkFlagsMutuallyExclusive("all", "labels")
	for _, short := range waveFlags() {
		cmd.MarkFlagsMutuallyExclusive("rollout", short)
	}
	cmd.MarkFlagsMutuallyExclusive("file", "rollout")
	a.formatFlag(cmd)
	return cmd
}

// waveFlags returns the names of the flags that set one field of a rollout each.
func waveFlags() []string {
	return []string{"canary", "batch", "max-failures", "pause-between", "pause-after-canary", "on-failure"}
}

func (a *app) create(cmd *cobra.Command, taskType string, f createFlags) error {
	send, err := a.prepareCreate(cmd, &taskType, f)
	if err != nil {
		return err
	}
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	task, err := send(c)
	if err != nil {
		return err
	}
	switch {
	case f.watch:
		return a.watch(cmd.Context(), c, task)
	case f.await:
		last, err := follow(cmd.Context(), c, task, &summary{a})
		if err != nil {
			return err
		}
		return outcome(last.Task)
	case a.json():
		return a.printJSON(task)
	}
	return a.printFacts(describe.TaskFacts(task))
}

// prepareCreate checks the flags and returns the call that creates the task. It sets
// taskType if the file names it.
func (a *app) prepareCreate(cmd *cobra.Command, taskType *string, f createFlags) (func(*client.Client) (tasker.Task, error), error) {
	if f.file != "" {
		var extra string
		cmd.Flags().Visit(func(flag *pflag.Flag) {
			switch flag.Name {
			case "file", "all", "watch", "wait", "output", "url", "token", "ca-file":
			default:
				extra = flag.Name
			}
		})
		if extra != "" {
			return nil, usage("--file is the whole request: set --%s in the file instead", extra)
		}
		q, err := readRequest(f.file, a.in)
		if err != nil {
			return nil, err
		}
		if *taskType, err = q.taskType(*taskType); err != nil {
			return nil, err
		}
		if err := q.checkSelection(*taskType, f.all); err != nil {
			return nil, err
		}
		return func(c *client.Client) (tasker.Task, error) { return c.CreateJSON(cmd.Context(), *taskType, q.body()) }, nil
	}
	if *taskType == "" {
		return nil, usage("TYPE is missing: %s", cmd.UseLine())
	}
	r, err := f.request(cmd, a.in)
	if err == nil && len(r.Endpoints) == 0 && r.Labels == "" && !r.All {
		err = usage("the task has no endpoints: name them with --endpoint or --labels, or use --all for every endpoint that serves %s", *taskType)
	}
	return func(c *client.Client) (tasker.Task, error) { return c.Create(cmd.Context(), *taskType, r) }, err
}

// request returns the request of the flags, as far as it can be checked locally.
func (f createFlags) request(cmd *cobra.Command, stdin io.Reader) (client.Request, error) {
	r := client.Request{Identifier: f.identifier, Endpoints: f.endpoints, Labels: f.labels, All: f.all, DryRun: f.dryRun}
	if r.Identifier == "" {
		r.Identifier = uuid.NewString()
	}
	var err error
	if f.payload == "-" && f.rollout == "-" {
		return r, usage("--payload and --rollout cannot both be the standard input")
	}
	if r.Payload, err = optionalJSON("--payload", f.payload, stdin); err != nil {
		return r, err
	}
	if r.Rollout, err = optionalJSON("--rollout", f.rollout, stdin); err != nil {
		return r, err
	}
	for _, flag := range waveFlags() {
		if !cmd.Flags().Changed(flag) {
			continue
		}
		if r.Rollout, err = f.rolloutSpec(); err != nil {
			return r, err
		}
		break
	}
	if r.Callback, err = f.callbackOf(cmd); err != nil {
		return r, err
	}
	if r.NotBefore, err = notBefore(f.notBefore, time.Now()); err != nil {
		return r, err
	}
	if r.Timeout, err = optionalDuration("--timeout", f.timeout); err != nil {
		return r, err
	}
	r.ReceiveTimeout, err = optionalDuration("--receive-timeout", f.receiveTimeout)
	return r, err
}

// rolloutSpec returns the rollout of the short flags as JSON.
func (f createFlags) rolloutSpec() (json.RawMessage, error) {
	s := tasker.RolloutSpec{PauseAfterCanary: f.pauseAfterCanary, OnFailure: tasker.OnFailure(f.onFailure)}
	amount := func(flag, value string) (tasker.Amount, error) {
		a, err := tasker.ParseAmount(strings.TrimSpace(value))
		if err != nil {
			return a, usage("%s: %w", flag, err)
		}
		return a, nil
	}
	var err error
	for flag, given := range map[string]struct {
		value  string
		target *tasker.Amount
	}{"--canary": {f.canary, &s.Canary}, "--max-failures": {f.maxFailures, &s.MaxFailures}} {
		if given.value == "" {
			continue
		}
		if *given.target, err = amount(flag, given.value); err != nil {
			return nil, err
		}
	}
	if f.batch != "" {
		for part := range strings.SplitSeq(f.batch, ",") {
			size, err := amount("--batch", part)
			if err != nil {
				return nil, err
			}
			s.Batch = append(s.Batch, size)
		}
	}
	between, err := optionalDuration("--pause-between", f.pauseBetween)
	if err != nil {
		return nil, err
	}
	if between != nil {
		s.PauseBetween = *between
	}
	s.SetDefaults()
	return json.Marshal(s)
}

// optionalDuration parses the value of a flag; nil if it is empty.
func optionalDuration(flag, s string) (*tasker.Duration, error) {
	if s == "" {
		return nil, nil //nolint:nilnil // the control plane has a default
	}
	v, err := tasker.ParseDuration(s)
	if err != nil {
		return nil, usage("%s: %w", flag, err)
	}
	d := tasker.Duration(v)
	return &d, nil
}

// notBefore parses a time, or a duration from now; nil if s is empty.
func notBefore(s string, now time.Time) (*time.Time, error) {
	if s == "" {
		return nil, nil //nolint:nilnil // at once
	}
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		in, err := tasker.ParseDuration(s)
		if err != nil {
			return nil, usage("--not-before %q is neither a time like 2026-01-02T03:04:05Z nor a duration like 2h", s)
		}
		at = now.Add(in)
	}
	return &at, nil
}
