package yamljson_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker/cmd/tasker/internal/yamljson"
)

func TestValuesAreKeptAsWritten(t *testing.T) {
	t.Parallel()
	for yaml, want := range map[string]string{
		// Numbers.
		"1.10": `1.10`, "3.10": `3.10`, "-1.50": `-1.50`, "0": `0`, "-0": `-0`, "8080": `8080`, "1e3": `1e3`, "1E+3": `1E+3`, "1.0e-3": `1.0e-3`, "1e400": `1e400`,
		"123456789012345678901234567890": `123456789012345678901234567890`, "0.1000000000000000055511151231257827": `0.1000000000000000055511151231257827`,
		// Texts.
		`"1.10"`: `"1.10"`, `'00123'`: `"00123"`, "!!str 1.10": `"1.10"`, "!!str 00123": `"00123"`, "2.4.1": `"2.4.1"`, "1,000": `"1,000"`, "12:30:45": `"12:30:45"`,
		"2026-01-02": `"2026-01-02"`, "2026-01-02T03:04:05Z": `"2026-01-02T03:04:05Z"`, "a <b> & c": `"a <b> & c"`, `"a\tb\nc"`: `"a\tb\nc"`, "ü\u2028": `"ü\u2028"`,
		"no": `"no"`, "yes": `"yes"`, "on": `"on"`, "off": `"off"`, "y": `"y"`, "NO": `"NO"`, "NaN": `"NaN"`, "Infinity": `"Infinity"`, `"true"`: `"true"`, `""`: `""`,
		"|\n  1.10\n  b\n": `"1.10\nb\n"`, ">-\n  a\n  b\n": `"a b"`, "1e": `"1e"`, "1.2.3.4": `"1.2.3.4"`, "-": `[null]`, "0xyz": `"0xyz"`, "1-2": `"1-2"`,
		// Booleans and null.
		"true": `true`, "false": `false`, "True": `true`, "FALSE": `false`, "null": `null`, "~": `null`, "": `null`,
		// Structures.
		"[]": `[]`, "{}": `{}`, "[1.10, 2]": `[1.10,2]`, "{1.10: x}": `{"1.10":"x"}`, "{true: x, 00: y}": `{"true":"x","00":"y"}`, "{b: 1, a: 2}": `{"b":1,"a":2}`,
		"{b: &x 1.10, c: *x}": `{"b":1.10,"c":1.10}`, "{b: &x {d: 1, e: 2}, c: {<<: *x, e: 3}}": `{"b":{"d":1,"e":2},"c":{"e":3,"d":1}}`,
		"{b: &x {d: 1}, c: &y {d: 2, e: 5}, f: {<<: [*x, *y]}}": `{"b":{"d":1},"c":{"d":2,"e":5},"f":{"d":1,"e":5}}`,
	} {
		got, err := yamljson.Convert([]byte("a: " + yaml + "\n"))
		if yaml == "-" {
			got, err = yamljson.Convert([]byte("a:\n  -\n"))
		}
		if err != nil || string(got) != `{"a":`+want+`}` {
			t.Errorf("%s is %s, %v; want %s", yaml, got, err, want)
		} else if !json.Valid(got) {
			t.Errorf("%s is not valid JSON: %s", yaml, got)
		}
	}
}

func TestNumberThatJSONCannotExpressIsRefused(t *testing.T) {
	t.Parallel()
	for _, number := range []string{
		"00123", "0777", "089", "-01", "-00", "0x1F", "-0x1f", "0o17", "0b11", "1_000", "1__0", "0.1_0", "+1", ".5", "5.", "+.5e1", ".inf", "-.inf", ".nan", ".Inf", ".NaN",
	} {
		got, err := yamljson.Convert([]byte("a: 1\n\nb:\n  - " + number + "\n"))
		if err == nil || !strings.Contains(err.Error(), "line 4: JSON has no number "+number+": put it in quotes") {
			t.Errorf("%s is %s, %v", number, got, err)
		}
	}
}

func TestDocumentIsRefused(t *testing.T) {
	t.Parallel()
	laughs := "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n"
	for i := range 9 {
		from, to := string(rune('0'+i)), string(rune('1'+i))
		laughs += "a" + to + ": &a" + to + " [" + strings.Repeat("*a"+from+", ", 10) + "]\n"
	}
	for document, want := range map[string]string{
		"":                         "it is empty",
		"# comment\n":              "it is empty",
		"a: 1\n---\nb: 2\n":        "line 3: a second document",
		"a: 1\nb: [\n":             "line 2: ",
		"a: 1\nb: 2\na: 3\n":       "line 3: ",
		"a: *x\n":                  "line 1: there is no anchor &x",
		"a: 1\nb: !!binary aGk=\n": "line 2: the tag !!binary is not supported",
		"a: 1\n? [b]\n: c\n":       "line 3: ",
		"{[b]: c}":                 "line 1: ",
		"{{b: 1}: c}":              "line 1: ",
		"? {b: 1}\n: c\n":          "line ",
		"*x : c\n":                 "line 1: ",
		"a: &x [*x]\n":             "contains itself",
		"a: {<<: 3}\n":             "<< needs a mapping",
		"a: 1\nb: Gr\xfcn\n":       "line 2: is not valid UTF-8",
		laughs:                     "with its aliases",
		"a: " + strings.Repeat("[", 300) + strings.Repeat("]", 300): "nested deeper",
	} {
		got, err := yamljson.Convert([]byte(document))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q is %.60s, %v; want %s", document, got, err, want)
		}
	}
}
