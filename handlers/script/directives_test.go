package script

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/MatthiasWiesner/tasker"
)

// interpretation has everything that was read from a script's stdout.
type interpretation struct{ out, progress, result, err string }

func parse(t interface{ Fatal(...any) }, chunks ...string) interpretation {
	var out bytes.Buffer
	var p interpretation
	d := directiveParser{out: &out, progress: func(percent float64, message string) {
		p.progress += fmt.Sprintf("%g %s|", percent, message)
	}}
	for _, c := range chunks {
		if n, err := d.Write([]byte(c)); err != nil || n != len(c) {
			t.Fatal("write: ", n, err)
		}
	}
	if err := d.endLine(); err != nil {
		t.Fatal("endLine: ", err)
	}
	p.out, p.result = out.String(), string(d.result)
	if d.err != nil {
		p.err = d.err.Error()
	}
	return p
}

func TestDirectives(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", tasker.MaxResult+10)
	tests := []struct {
		name, in string
		want     interpretation
	}{
		{"nothing", "", interpretation{}},
		{"plain", "a\nb", interpretation{out: "a\nb"}},
		{"empty lines", "\n\n", interpretation{out: "\n\n"}},
		{"progress", "a\n::progress 40 unpacking files\nb\n", interpretation{out: "a\nb\n", progress: "40 unpacking files|"}},
		{"progress alone", "::progress 40", interpretation{progress: "40 |"}},
		{"progress forms", "::progress  12.5%  x \n::progress 100\n", interpretation{progress: "12.5 x|100 |"}},
		{"invalid progress", "::progress abc\n::progress 101 x\n::progress -1\n::progress NaN\n::progress \n", interpretation{out: "::progress abc\n::progress 101 x\n::progress -1\n::progress NaN\n::progress \n"}},
		{"result", "::result {\"a\": 1}\n", interpretation{result: `{"a": 1}`}},
		{"result without newline", "::result [1]", interpretation{result: `[1]`}},
		{"carriage return", "::result 3\r\n", interpretation{result: `3`}},
		{"the last result wins", "::result 1\n::result 2\n", interpretation{result: `2`}},
		{"invalid JSON", "::result 1\n::result {a}\n", interpretation{err: "the line ::result is refused: its JSON is not valid JSON at byte 2: invalid character 'a' looking for beginning of object key string: {a}"}},
		{"Latin-1", "::result {\"x\":\"Gr\xfcn\"}\n", interpretation{err: "the line ::result is refused: its JSON is not valid UTF-8 at byte 8: {\"x\":\"Gr\uFFFDn\"}"}},
		{"half of a surrogate pair", `::result {"x":"\ud83d"}`, interpretation{err: `the line ::result is refused: its JSON has half of a surrogate pair at byte 6, which is not a character: {"x":"\ud83d"}`}},
		{"duplicate keys", `::result {"x":1,"x":2}`, interpretation{err: `the line ::result is refused: its JSON has .x, which is given twice: {"x":1,"x":2}`}},
		{"deepest", "::result " + strings.Repeat("[", 64) + strings.Repeat("]", 64), interpretation{result: strings.Repeat("[", 64) + strings.Repeat("]", 64)}},
		{"no JSON", "::result \n", interpretation{err: "the line ::result has no JSON"}},
		{"valid after invalid JSON", "::result {a}\n::result 1\n", interpretation{result: `1`}},
		{"other colons", "::\n: :result 1\n::resul\n::results 1\n ::result 1\nx::result 1\n", interpretation{out: "::\n: :result 1\n::resul\n::results 1\n ::result 1\nx::result 1\n"}},
		{"a prefix at the end", "::resu", interpretation{out: "::resu"}},
		{"huge plain line", long + "\n::result 1\n", interpretation{out: long + "\n", result: "1"}},
		{"huge result", "::result \"" + long + "\"\nafter\n", interpretation{out: "after\n", err: "the line ::result is longer than 262144 bytes"}},
		{"largest result", `::result "` + long[:tasker.MaxResult-2] + "\"\n", interpretation{result: `"` + long[:tasker.MaxResult-2] + `"`}},
		{"huge progress", "::progress 7 " + long + "\nafter\n", interpretation{out: "after\n", progress: "7 " + long[:maxExcerpt] + "…|"}},
		{"binary", "\x00\xff::result 1\n\xfe", interpretation{out: "\x00\xff::result 1\n\xfe"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := parse(t, tt.in); got != tt.want {
				t.Errorf("whole: got %+v", got)
			}
			if got := parse(t, strings.Split(tt.in, "")...); got != tt.want {
				t.Errorf("byte by byte: got %.2000s", fmt.Sprintf("%+v", got))
			}
		})
	}
}

func TestDirectivesDoNotDependOnChunks(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		chunks := rapid.SliceOf(rapid.SampledFrom([]string{
			"::", ":", "progress", "::progress ", "4", "0", " ", "::result ", "{}", "\n", "\n", "x", "::resu", "lt ", "\r",
		})).Draw(t, "chunks")
		if a, b := parse(t, chunks...), parse(t, strings.Join(chunks, "")); a != b {
			t.Fatalf("in pieces %+v, whole %+v", a, b)
		}
	})
}

func TestIncompleteLinesAreCopiedAtOnce(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	d := directiveParser{out: &out}
	for _, step := range []struct{ write, out string }{
		{"Continue? ", "Continue? "}, {"y", "Continue? y"}, {"\n::x", "Continue? y\n::x"},
	} {
		if _, err := d.Write([]byte(step.write)); err != nil || out.String() != step.out {
			t.Errorf("after %q: %q, %v", step.write, out.String(), err)
		}
	}
}
