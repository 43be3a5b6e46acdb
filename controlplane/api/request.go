package api

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/api/strictjson"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

// The bounds of a request.
const (
	// maxBody holds the largest payload and the longest list of endpoints.
	maxBody      = 4 << 20
	maxEndpoints = 10_000
	minTimeout   = 100 * time.Millisecond
	maxTimeout   = 30 * 24 * time.Hour
	// maxFaults is how many faults of one request are told.
	maxFaults = 20
)

// requestFields are the fields of a request for a task.
func requestFields() []string {
	return []string{"identifier", "payload", "endpoints", "labels", "receive_timeout", "timeout", "rollout", "not_before", "dry_run", "callback"}
}

// request reads one body and gathers what is wrong with it.
type request struct {
	raw    map[string]json.RawMessage
	faults []*huma.ErrorDetail
}

// parse checks the body of a request for a task of type t and returns the task
// to be stored, or a problem that names each field at fault.
//
// What a selector of labels selects is not among the task's endpoints yet.
func (a *API) parse(t Type, body []byte) (store.NewTask, tasker.Selector, error) {
	var q request
	n, selector, err := q.task(a, t, body)
	if err != nil {
		return store.NewTask{}, nil, err
	}
	n.Fingerprint, err = a.fingerprint(t, n)
	return n, selector, err
}

func (q *request) task(a *API, t Type, body []byte) (store.NewTask, tasker.Selector, error) {
	if err := strictjson.Check(body); err != nil {
		var e *strictjson.Error
		errors.As(err, &e)
		return store.NewTask{}, nil, problem(http.StatusBadRequest, "the body cannot be read",
			&huma.ErrorDetail{Location: "body" + e.Path, Message: e.Message})
	}
	if json.Unmarshal(body, &q.raw) != nil || q.raw == nil {
		return store.NewTask{}, nil, problem(http.StatusUnprocessableEntity, "the body must be a JSON object",
			&huma.ErrorDetail{Location: "body", Message: "is " + kind(body) + ", but must be an object"})
	}
	for name := range q.raw {
		if known := requestFields(); !slices.Contains(known, name) {
			q.fault(cut(name), "is not known; known are %s", strings.Join(known, ", "))
		}
	}
	n := store.NewTask{
		Type:           t.Name,
		Identifier:     q.identifier(),
		Payload:        q.payload(),
		Endpoints:      q.endpoints(),
		ReceiveTimeout: q.duration("receive_timeout", a.receiveTimeout, maxTimeout),
		Timeout:        q.timeout(t),
		Action:         q.action(),
		NotBefore:      q.notBefore(),
		Rollout:        q.rollout(a, t),
		Callback:       q.callback(a.checkCallback),
	}
	var selector tasker.Selector
	n.Labels, selector = q.selector()
	if len(n.Payload) > tasker.MaxPayload {
		return store.NewTask{}, nil, problem(http.StatusRequestEntityTooLarge, "the payload is too large", &huma.ErrorDetail{
			Location: "body.payload", Message: fmt.Sprintf("has %d bytes; at most %d are allowed", len(n.Payload), tasker.MaxPayload),
		})
	}
	if len(q.faults) == 0 && t.Validate != nil {
		if err := t.Validate(n.Payload); err != nil {
			q.misfit(err)
		}
	}
	if len(q.faults) > 0 {
		return store.NewTask{}, nil, q.problem()
	}
	return n, selector, nil
}

func (q *request) problem() error {
	slices.SortStableFunc(q.faults, func(a, b *huma.ErrorDetail) int {
		return bytes.Compare([]byte(a.Location), []byte(b.Location))
	})
	detail := q.faults[0].Location + " " + q.faults[0].Message
	if more := len(q.faults) - maxFaults; more > 0 {
		q.faults = append(q.faults[:maxFaults], &huma.ErrorDetail{
			Location: "body", Message: fmt.Sprintf("and %d more faults", more),
		})
	}
	return problem(http.StatusUnprocessableEntity, detail, q.faults...)
}

func (q *request) fault(field, format string, args ...any) {
	q.faults = append(q.faults, &huma.ErrorDetail{Location: "body." + field, Message: fmt.Sprintf(format, args...)})
}

// misfit tells in which ways the payload does not fit, one by one where the
// error can: by paths like payload.argv[2].
func (q *request) misfit(err error) {
	var list interface {
		Each(func(path, message string))
	}
	if !errors.As(err, &list) {
		q.fault("payload", "is not valid: %v", err)
		return
	}
	list.Each(func(path, message string) { q.fault(path, "%s", message) })
}

// given returns a field's JSON; null counts as left out.
func (q *request) given(field string) (json.RawMessage, bool) {
	raw, found := q.raw[field]
	return raw, found && kind(raw) != "null"
}

func (q *request) identifier() string {
	raw, found := q.raw["identifier"]
	var id string
	switch {
	case !found:
		q.fault("identifier", "is mandatory")
	case kind(raw) != "a string":
		q.fault("identifier", "is %s, but must be a string", kind(raw))
	default:
		_ = json.Unmarshal(raw, &id)
		if err := tasker.ValidateNewIdentifier(id); err != nil {
			q.fault("identifier", "is not valid: %v", err)
		}
	}
	return id
}

// payload is the JSON as it came, without white space.
func (q *request) payload() []byte {
	raw, found := q.raw["payload"]
	if !found {
		return []byte("{}")
	}
	var b bytes.Buffer
	_ = json.Compact(&b, raw) // it is valid
	return b.Bytes()
}

func (q *request) endpoints() []string {
	raw, found := q.given("endpoints")
	if !found {
		return nil
	}
	var list []json.RawMessage
	switch {
	case kind(raw) != "a list":
		q.fault("endpoints", "is %s, but must be a list of names", kind(raw))
		return nil
	case json.Unmarshal(raw, &list) != nil:
		return nil
	case len(list) == 0:
		q.fault("endpoints", "is empty; leave it out to reach every endpoint that serves the type")
		return nil
	case len(list) > maxEndpoints:
		q.fault("endpoints", "has %d names; at most %d are allowed", len(list), maxEndpoints)
		return nil
	}
	names := make([]string, len(list))
	first := make(map[string]int, len(list))
	for i, raw := range list {
		at := "endpoints[" + strconv.Itoa(i) + "]"
		if kind(raw) != "a string" {
			q.fault(at, "is %s, but must be a name", kind(raw))
			continue
		}
		_ = json.Unmarshal(raw, &names[i])
		if err := tasker.ValidateEndpoint(names[i]); err != nil {
			q.fault(at, "is not valid: %v", err)
		} else if j, twice := first[names[i]]; twice {
			q.fault(at, "is %q again, which endpoints[%d] is already", names[i], j)
		} else {
			first[names[i]] = i
		}
	}
	return names
}

// timeout is that of the type, or a lower one.
func (q *request) timeout(t Type) time.Duration {
	most := t.Timeout
	if most == 0 {
		most = maxTimeout
	}
	return q.duration("timeout", t.Timeout, most)
}

func (q *request) duration(field string, usual, most time.Duration) time.Duration {
	raw, found := q.given(field)
	if !found {
		return usual
	}
	if k := kind(raw); k != "a string" && k != "a number" {
		q.fault(field, "is %s, but must be a text like 30s or 1h30m, or a number of seconds", k)
		return usual
	}
	var d tasker.Duration
	if err := json.Unmarshal(raw, &d); err != nil {
		q.fault(field, "is not valid: %v", err)
		return usual
	}
	if d.D() < minTimeout || d.D() > most {
		q.fault(field, "is %v, but must be between %v and %v", d, minTimeout, most)
	}
	return d.D()
}

// fingerprint is the same for requests that ask for the same: white space, the
// order of keys and of endpoints, and whether a default was written out make no
// difference.
func (a *API) fingerprint(t Type, n store.NewTask) ([sha256.Size]byte, error) {
	same := map[string]any{}
	switch {
	case n.Rollout != nil && n.Rollout.Order == tasker.OrderListed:
		same["endpoints"] = n.Endpoints // their order is that of the waves
	case n.Endpoints != nil:
		same["endpoints"] = slices.Sorted(slices.Values(n.Endpoints))
	}
	if n.ReceiveTimeout != a.receiveTimeout {
		same["receive_timeout"] = n.ReceiveTimeout
	}
	if n.Timeout != t.Timeout {
		same["timeout"] = n.Timeout
	}
	for field, v := range map[string]any{"labels": n.Labels, "dry_run": n.Action, "not_before": n.NotBefore, "rollout": n.Rollout, "callback": n.Callback} {
		if !reflect.ValueOf(v).IsZero() {
			same[field] = v
		}
	}
	var err error
	if same["payload"], err = strictjson.Value(n.Payload); err != nil {
		return [sha256.Size]byte{}, fmt.Errorf("canonical payload: %w", err)
	}
	whole, err := json.Marshal(same)
	if err != nil {
		return [sha256.Size]byte{}, fmt.Errorf("canonical request: %w", err)
	}
	return sha256.Sum256(whole), nil
}

// kind names the type of a valid JSON document.
func kind(raw []byte) string {
	switch raw = bytes.TrimSpace(raw); raw[0] {
	case '{':
		return "an object"
	case '[':
		return "a list"
	case '"':
		return "a string"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	default:
		return "a number"
	}
}
