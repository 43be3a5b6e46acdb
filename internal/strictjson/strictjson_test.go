package strictjson_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker/internal/strictjson"
)

func TestCheckAcceptsPortableJSON(t *testing.T) {
	t.Parallel()
	for _, doc := range []string{
		`null`, ` true `, `"text"`, `-1.5e-3`, `[]`, `{}`,
		`{"a":{"x":1},"b":{"x":1}}`,
		`{"emoji":"\ud83d\ude00","escaped":"\\ud83d","quote":"\"","nul":"\u0000"}`,
		strings.Repeat("[", strictjson.MaxDepth) + strings.Repeat("]", strictjson.MaxDepth),
	} {
		if err := strictjson.Check([]byte(doc)); err != nil {
			t.Errorf("Check(%.60s) = %v", doc, err)
		}
	}
}

func TestCheckRejects(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, doc, path, want string }{
		{"empty", "", "", "empty"},
		{"white space only", " \n\t", "", "empty"},
		{"byte order mark", "\xef\xbb\xbf{}", "", "byte order mark"},
		{"invalid UTF-8", "{\"a\":\"\xff\"}", "", "UTF-8 at byte 6"},
		{"truncated document", `{"a":`, "", "not valid JSON"},
		{"two documents", `{} {}`, "", "after top-level value"},
		{"trailing comma", `{"a":1,}`, "", "not valid JSON"},
		{"single quotes", `{'a':1}`, "", "not valid JSON"},
		{"NaN", `{"a":NaN}`, "", "not valid JSON"},
		{"comment", `{} // done`, "", "not valid JSON"},
		{"raw control character", "{\"a\":\"\n\"}", "", "not valid JSON"},
		{"duplicate key", `{"a":1,"a":2}`, ".a", "twice"},
		{"duplicate key, once escaped", `{"a":1,"\u0061":2}`, ".a", "twice"},
		{"nested duplicate key", `{"p":[0,{"k":1,"k":1}]}`, ".p[1].k", "twice"},
		{"high surrogate alone", `"\ud83d"`, "", "surrogate"},
		{"low surrogate alone", `"\ude00"`, "", "surrogate"},
		{"surrogates in the wrong order", `"\ude00\ud83d"`, "", "surrogate"},
		{"nested too deep", strings.Repeat("[", 129) + strings.Repeat("]", 129), "[0][0]", "nested deeper"},
		{"nested far too deep", strings.Repeat("[", 1e5), "", "JSON"},
		{"huge exponent", `{"n":1e999999999}`, ".n", "number"},
		{"tiny exponent", `{"n":1E-999999999}`, ".n", "number"},
		{"exponent beyond an int", `{"n":1e99999999999999999999}`, ".n", "number"},
		{"too long number", `[` + strings.Repeat("9", 1000) + `]`, "[0]", "number"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var e *strictjson.Error
			if err := strictjson.Check([]byte(tt.doc)); !errors.As(err, &e) {
				t.Fatalf("Check = %v, want an *Error", err)
			}
			if !strings.HasPrefix(e.Path, tt.path) || tt.path == "" && e.Path != "" {
				t.Errorf("path is %q, want %q", e.Path, tt.path)
			}
			if !strings.Contains(e.Message, tt.want) {
				t.Errorf("message is %q, want %q in it", e.Message, tt.want)
			}
			if len(e.Error()) > 300 {
				t.Errorf("the message has %d bytes", len(e.Error()))
			}
		})
	}
}

// canonical returns a document as json.Marshal writes it after Value.
func canonical(data []byte) ([]byte, error) {
	v, err := strictjson.Value(data)
	if err != nil {
		return nil, err
	}
	return json.Marshal(v)
}

func TestValue(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, a, b string
		same       bool
	}{
		{"order of keys", `{"a":1,"b":{"c":2,"d":3}}`, `{ "b": {"d":3, "c":2}, "a": 1 }`, true},
		{"escapes", `"\u00e4"`, `"ä"`, true},
		{"order of list items", `[1,2]`, `[2,1]`, false},
		{"numbers beyond a float64", `12345678901234567890`, `12345678901234567891`, false},
		{"string and number", `"1"`, `1`, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a, err := canonical([]byte(tt.a))
			if err != nil {
				t.Fatal(err)
			}
			b, err := canonical([]byte(tt.b))
			if err != nil {
				t.Fatal(err)
			}
			if got := string(a) == string(b); got != tt.same {
				t.Errorf("%s and %s: same = %t, want %t", a, b, got, tt.same)
			}
		})
	}
}

func FuzzCheck(f *testing.F) {
	f.Add([]byte(`{"a":[1,{"b":"\ud83d\ude00"}]}`))
	f.Add([]byte(`{"a":1,"a":2}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if strictjson.Check(data) != nil {
			return
		}
		once, err := canonical(data)
		if err != nil {
			t.Fatalf("canonical of a checked document: %v", err)
		}
		if err := strictjson.Check(once); err != nil {
			t.Fatalf("Check(canonical) = %v", err)
		}
		if twice, _ := canonical(once); string(once) != string(twice) {
			t.Fatalf("canonical is not stable: %s, %s", once, twice)
		}
	})
}
