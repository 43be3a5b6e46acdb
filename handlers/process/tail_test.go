package process_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker/handlers/process"
)

func TestTail(t *testing.T) {
	t.Parallel()
	const most = 1000
	long := strings.Repeat("x", most)
	for in, want := range map[string]string{
		"":                                 "",
		"\n \n":                            "",
		"one":                              "one",
		"one\ntwo\n\n  \n":                 "one; two",
		"one\ntwo\nthree":                  "two; three",
		"one\r\ntwo\r\n":                   "one; two",
		"10%\r20%\r100%\nfull":             "100%; full",
		"one\n\xfftwo":                     "one; \uFFFDtwo",
		"\x1b[31mone\x1b[0m\n\x1b[2J\n":    "one",
		"one\n\x1b]52;c;cm0=\atwo\x00\n":   "one; two",
		"one\n" + long + "\n":              "one; " + long,
		"one\n" + long + "yy\n":            "one; " + long + "…",
		"one\n" + long[1:] + "é, and so":   "one; " + long[1:] + "…",
		long + long + "\none\nand short\n": "one; and short",
	} {
		for _, chunks := range [][]string{{in}, strings.Split(in, "")} {
			var out bytes.Buffer
			l := process.Tail{Out: &out, Lines: 2}
			for _, c := range chunks {
				if n, err := l.Write([]byte(c)); n != len(c) || err != nil {
					t.Fatal(n, err)
				}
			}
			if got := l.String(); got != want {
				t.Errorf("%.40q: got %.40q, want %.40q", in, got, want)
			}
			if out.String() != in {
				t.Errorf("%.40q: copied %.40q", in, out.String())
			}
		}
	}
}

func TestTailExplain(t *testing.T) {
	t.Parallel()
	failed := errors.New("exit code 1")
	l := process.Tail{Out: &bytes.Buffer{}}
	if err := l.Explain(failed); err != failed { //nolint:errorlint // the same error
		t.Errorf("without output: %v", err)
	}
	_, _ = l.Write([]byte("one\nno space left\n"))
	if err := l.Explain(failed); !errors.Is(err, failed) || err.Error() != "exit code 1: no space left" {
		t.Errorf("got %v", err)
	}
	if err := l.Explain(nil); err != nil {
		t.Errorf("without an error: %v", err)
	}
}

func TestOutputExplainsWithStderrBeforeStdout(t *testing.T) {
	t.Parallel()
	failed := errors.New("exit code 5")
	for _, tt := range []struct{ stderr, stdout, want string }{
		{"E: cannot open db\n", "cleaning up\n", "exit code 5: E: cannot open db"},
		{"", "cleaning up\n", "exit code 5: cleaning up"},
		{" \n", "cleaning up", "exit code 5: cleaning up"},
		{"", "", "exit code 5"},
	} {
		var out bytes.Buffer
		o := process.NewOutput(&out, 1)
		for _, w := range []struct {
			to   *process.Tail
			text string
		}{{o.Stderr, tt.stderr}, {o.Stdout, tt.stdout}} {
			if _, err := w.to.Write([]byte(w.text)); err != nil {
				t.Fatal(err)
			}
		}
		if got := o.Explain(failed); got.Error() != tt.want || !errors.Is(got, failed) || o.Explain(nil) != nil {
			t.Errorf("got %v, want %s", got, tt.want)
		}
		if got := out.String(); got != tt.stderr+tt.stdout {
			t.Errorf("output %q", got)
		}
	}
}
