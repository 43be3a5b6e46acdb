package api_test

import (
	"encoding/json"
	"net/http"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/MatthiasWiesner/tasker/controlplane/api"
)

// TestOpenAPIDocument compares the document, without its descriptions, with
// testdata/openapi.json. To accept a change of the API, run the test with
// TASKER_UPDATE_OPENAPI=1.
func TestOpenAPIDocument(t *testing.T) {
	t.Parallel()
	s := serve(t, func(o *api.Options) { o.Types = o.Types[1:] }) // the type with a payload schema
	var document any
	if err := json.Unmarshal(s.do(t, http.MethodGet, "/openapi.json", "").body, &document); err != nil {
		t.Fatal(err)
	}
	got, err := json.MarshalIndent(withoutDescriptions(document), "", " ")
	if err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/openapi.json"
	if os.Getenv("TASKER_UPDATE_OPENAPI") != "" {
		if err := os.WriteFile(golden, append(got, '\n'), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)+"\n"); diff != "" {
		t.Errorf("the API has changed (-want +got):\n%s", diff)
	}
}

// withoutDescriptions removes the texts for people from a part of the document.
func withoutDescriptions(part any) any {
	switch part := part.(type) {
	case map[string]any:
		for key, value := range part {
			if _, isText := value.(string); isText && (key == "description" || key == "summary") {
				delete(part, key)
				continue
			}
			part[key] = withoutDescriptions(value)
		}
	case []any:
		for i, value := range part {
			part[i] = withoutDescriptions(value)
		}
	}
	return part
}
