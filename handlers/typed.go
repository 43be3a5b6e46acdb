package handlers

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/MatthiasWiesner/tasker"
)

// Typed makes a Handler of a function that takes its payload as a P.
//
// The payload is decoded strictly: an unknown field, or one of another type, is
// a rejection. If info.Schema is nil, it is derived from P: a field without
// omitempty or omitzero is mandatory, and the tag `jsonschema:"…"` describes it.
// Typed panics if no schema can be derived, say because P has a channel in it.
func Typed[P any](info Info, handle func(ctx context.Context, payload P, call Call) (Result, error)) Handler {
	if info.Schema == nil {
		info.Schema = schemaOf[P](info.Name)
	}
	return typed[P]{info: info, handle: handle}
}

type typed[P any] struct {
	info   Info
	handle func(context.Context, P, Call) (Result, error)
}

func (t typed[P]) Info() Info { return t.info }

func (t typed[P]) Handle(ctx context.Context, call Call) (Result, error) {
	payload := call.Payload
	if len(payload) == 0 {
		payload = json.RawMessage("{}")
	}
	var p P
	dec := json.NewDecoder(bytes.NewReader(payload))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&p); err != nil {
		return Result{}, Reject("payload: %v", err)
	}
	return t.handle(ctx, p, call)
}

func schemaOf[P any](name string) json.RawMessage {
	schema, err := jsonschema.For[P](&jsonschema.ForOptions{TypeSchemas: map[reflect.Type]*jsonschema.Schema{
		reflect.TypeFor[json.RawMessage](): {},
		reflect.TypeFor[tasker.Duration](): {Types: []string{"string", "number"}},
	}})
	if err == nil {
		var b []byte
		if b, err = json.Marshal(schema); err == nil {
			return b
		}
	}
	panic(fmt.Sprintf("handler %s: derive the schema of its payload: %v", name, err))
}
