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

// Typed returns a Handler that calls a function with its payload decoded into a P.
//
// The payload is decoded strictly: an unknown field or a wrong type is rejected. If
// info.Schema is nil, the schema is derived from P: a field without omitempty or omitzero
// is required, and the tag `jsonschema:"…"` describes a field. Typed panics if no schema
// can be derived, for example because P contains a channel.
func Typed[P any](info Info, handle func(ctx context.Context, payload P, call Call) (Result, error)) Handler {
	if info.Schema == nil {
		info.Schema = deriveSchema[P](info.Name)
	}
	return typedHandler[P]{info: info, handle: handle}
}

type typedHandler[P any] struct {
	info   Info
	handle func(context.Context, P, Call) (Result, error)
}

func (h typedHandler[P]) Info() Info { return h.info }

func (h typedHandler[P]) Handle(ctx context.Context, call Call) (Result, error) {
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
	return h.handle(ctx, p, call)
}

func deriveSchema[P any](name string) json.RawMessage {
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
	panic(fmt.Sprintf("handler %s: derive the payload schema: %v", name, err))
}
