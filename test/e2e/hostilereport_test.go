package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"

	"pgregory.net/rapid"
)

// hostileTaskMark stands for a task in a hostile report. The sender replaces it.
const hostileTaskMark = "TASK-OF-THE-TEST"

// hostileEndpoint is the name that the hostile agent is enrolled under.
const hostileEndpoint = "hostile"

// field is a field of a hostile report.
type field struct {
	name string
	// plausible draws a value that an agent could send.
	plausible *rapid.Generator[string]
}

func oneOf(values ...string) *rapid.Generator[string] { return rapid.SampledFrom(values) }

// object draws a JSON object. Each field is plausible, hostile, missing or there twice.
func object(fields ...field) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		var parts []string
		for _, f := range fields {
			quoted := `"` + f.name + `":`
			switch rapid.IntRange(0, 39).Draw(t, f.name) { // small numbers are drawn more often
			case 37:
			case 38:
				parts = append(parts, quoted+hostileValue().Draw(t, "value"))
			case 39:
				parts = append(parts, quoted+f.plausible.Draw(t, "value"), quoted+hostileValue().Draw(t, "again"))
			default:
				parts = append(parts, quoted+f.plausible.Draw(t, "value"))
			}
		}
		return "{" + strings.Join(parts, ",") + "}"
	})
}

// list draws a JSON array.
func list(item *rapid.Generator[string], most int) *rapid.Generator[string] {
	return rapid.Map(rapid.SliceOfN(item, 0, most), func(items []string) string { return "[" + strings.Join(items, ",") + "]" })
}

// hostileValue draws a value of any form, perhaps not even JSON.
func hostileValue() *rapid.Generator[string] {
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	return rapid.OneOf(
		oneOf("null", "0", "-1", "1e999", "-1e308", "9223372036854775807", "-9223372036854775808", "99999999999999999999999999", "true", `""`, "[]", "{}", "x", "",
			`"\ud83d"`, "\"\xff\xfe\"", "\"Gr\xfcn\"", `"\u0000"`, `"\u2028</script>"`, `{"a":1,"a":2}`, `"9999-12-31T23:59:59-23:59"`, `"0001-01-01T00:00:00Z"`),
		rapid.Just(deep(65)), rapid.Just(deep(9000)),
		rapid.Map(rapid.IntRange(1, 100_000), func(n int) string { return `"` + strings.Repeat("x", n) + `"` }),
		rapid.Map(rapid.IntRange(1, 30_000), func(n int) string { return "[" + strings.Repeat("{},", n) + "{}]" }),
		rapid.Map(rapid.String(), quoteJSON),
		rapid.Map(rapid.Float64(), func(n float64) string { return fmt.Sprint(n) }),
	)
}

func quoteJSON(s string) string {
	b, _ := json.Marshal(s) // a string can be encoded
	return string(b)
}

func hostilePresence() []field {
	name := rapid.Map(rapid.StringMatching(`[a-z]{1,10}`), quoteJSON)
	return []field{
		{"version", oneOf(`"1.0"`, `"(devel)"`)},
		{"labels", object(field{"role", oneOf(`"web"`, `"a\nb"`)}, field{"x", rapid.Map(rapid.String(), quoteJSON)})},
		{"handlers", list(rapid.OneOf(oneOf(`"ping"`, `"script"`, `"command"`), name), 300)},
		{"scripts", list(rapid.OneOf(oneOf(`"update-app"`), name), 300)},
		{"metrics", oneOf(`"127.0.0.1:9464"`, `"http://evil/x"`, `"a:1,b:2"`, `" "`, `"evil:99999"`)},
		{"running", oneOf("0", "7", "-7")},
		{"waiting", oneOf("0", "1e15")},
		{"load", oneOf("0.5", "-1", "1e300")},
		{"heartbeat", oneOf(`"10s"`, `"1ns"`, `"2000000h"`)},
	}
}

func hostileUpdate() *rapid.Generator[string] {
	moment := oneOf(`"2026-01-02T03:04:05Z"`, `"9999-12-31T23:59:59Z"`, `"0001-01-01T00:00:00Z"`, `"2262-04-11T23:47:16Z"`)
	text := rapid.OneOf(oneOf(`""`, `"no space"`), rapid.Map(rapid.String(), quoteJSON), rapid.Map(rapid.IntRange(0, 60_000), func(n int) string { return `"` + strings.Repeat("é", n) + `"` }))
	chunk := object(
		field{"offset", rapid.OneOf(oneOf("0", "-1", "9223372036854775807"), rapid.Map(rapid.IntRange(0, 1<<20), func(n int) string { return fmt.Sprint(n) }))},
		field{"data", rapid.Map(rapid.IntRange(0, 200_000), func(n int) string {
			return `"` + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("\xff", n))) + `"`
		})},
	)
	return object(
		field{"task_id", oneOf(`"`+hostileTaskMark+`"`, `"unknown"`, `"' OR 1=1 --"`)}, field{"type", oneOf(`"ping"`)},
		field{"attempt", oneOf("1", "1", "1", "2", "0", "2147483648")},
		field{"seq", rapid.Map(rapid.IntRange(0, 1<<40), func(n int) string { return fmt.Sprint(n) })},
		field{"status", oneOf(`"received"`, `"running"`, `"running"`, `"running"`, `"succeeded"`, `"failed"`, `"cancelled"`, `"missing"`, `"done"`)},
		field{"reason", text}, field{"error", text}, field{"result", rapid.OneOf(oneOf(`{"changed":true}`), hostileValue())},
		field{"exit_code", oneOf("0", "-1", "99999999999")},
		field{"progress", object(field{"percent", oneOf("50", "-1", "1e9")}, field{"message", text})},
		field{"received_at", moment}, field{"started_at", moment}, field{"finished_at", moment},
		field{"output", list(chunk, 3)}, field{"output_bytes", oneOf("0", "-5", "1000000", "9223372036854775807")},
		field{"output_truncated", oneOf("true", "false")},
	)
}

// hostileReport draws a report of any form.
func hostileReport() *rapid.Generator[string] {
	ref := object(field{"task_id", oneOf(`"`+hostileTaskMark+`"`, `"unknown"`)}, field{"attempt", oneOf("1")})
	hello := object(append(hostilePresence(), field{"session", oneOf(`"s"`, `"t"`)}, field{"unfinished", list(ref, 50)})...)
	body := rapid.OneOf(
		rapid.Map(hello, func(v string) string { return `"hello":` + v }),
		rapid.Map(object(hostilePresence()...), func(v string) string { return `"heartbeat":` + v }),
		rapid.Map(hostileUpdate(), func(v string) string { return `"update":` + v }),
		rapid.Map(hostileUpdate(), func(v string) string { return `"update":` + v }),
		oneOf(`"goodbye":{}`, `"goodbye":7`, `"goodbye":{},"hello":{}`, `"later":1`, ""),
	)
	return rapid.Custom(func(t *rapid.T) string {
		endpoint := rapid.SampledFrom([]string{hostileEndpoint, hostileEndpoint, hostileEndpoint, hostileEndpoint, hostileEndpoint, "web-1", "*all*", "../x"}).Draw(t, "endpoint")
		version := rapid.SampledFrom([]int{1, 1, 1, 1, 1, 1, 2, 3, -1}).Draw(t, "version")
		return fmt.Sprintf(`{"v":%d,"endpoint":"%s","instance":"i",%s}`, version, endpoint, body.Draw(t, "body"))
	})
}

// hostileReports draws many reports, which the hostile agent then sends again and again.
func hostileReports(n int) []string {
	generator, reports := hostileReport(), make([]string, n)
	first := rand.IntN(1 << 20)
	for i := range reports {
		reports[i] = generator.Example(first + i)
	}
	return reports
}
