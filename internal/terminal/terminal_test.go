package terminal_test

import (
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker/internal/terminal"
)

func TestWriter(t *testing.T) {
	t.Parallel()
	const reset = "\x1b[0m"
	tests := []struct {
		name, text, want string
	}{
		{"empty", "", ""},
		{"text", "one\n\n\ttwo, 日本語 ✔\n", "one\n\n\ttwo, 日本語 ✔\n"},
		{"a colour", "\x1b[1;31mred\x1b[0m\n", "\x1b[1;31mred\x1b[0m\n"},
		{"a colour of many", "\x1b[38:2::255:0:0mred\x1b[m\n", "\x1b[38:2::255:0:0mred\x1b[m\n"},
		{"a colour that is left on", "\x1b[31mred\n", "\x1b[31mred\n" + reset},
		{"key reporting modes", "a\x1b[>4;2mb\x1b[?4mc", "abc"},
		{"a colour with something between", "a\x1b[31 mb", "ab"},
		{"more parameters than a colour has", "a\x1b[" + strings.Repeat("1;", 40) + "mb", "ab"},
		{"the cursor", "a\x1b[2J\x1b[1;1H\x1b[3Ab\x1b[Kc", "abc"},
		{"another screen", "a\x1b[?1049hb", "ab"},
		{"query to the terminal", "a\x1b[6nb\x1b[cc", "abc"},
		{"the title", "a\x1b]0;root@web-1: #\ab", "ab"},
		{"the clipboard", "a\x1b]52;c;cm0gLXJmIC8K\x1b\\b", "ab"},
		{"a link", "\x1b]8;;http://evil.example\x1b\\here\x1b]8;;\x1b\\", "here"},
		{"device control", "a\x1bP$qm\x1b\\b\x1b_x\x1b\\c\x1b^y\x1b\\d\x1bXz\x1b\\e", "abcde"},
		{"sequences in one rune", "a\u009b2Jb\u009d0;title\u009cc\u0090q\u009cd\u0085e", "abcde"},
		{"sequences in one byte", "a\x9b2Jb", "a\uFFFD2Jb"},
		{"a reset", "a\x1bcb\x1b7c\x1b8d", "abcd"},
		{"another character set", "a\x1b(0b\x0ec\x0fd\x1b(Be\x1b[me", "abcde\x1b[me"},
		{"a title without end", "a\x1b]0;b\nc", "a\nc"},
		{"a sequence without end", "a\x1b[31\nb\x1b", "a\nb"},
		{"a sequence that another one ends", "a\x1b]0;b\x1b[31mc\x1b[0m", "a\x1b[31mc\x1b[0m"},
		{"a cancelled sequence", "a\x1b[3\x181mb", "a1mb"},
		{"a sequence that text ends", "a\x1b[3日b", "a日b"},
		{"an escape before text", "a\x1b日b", "a日b"},
		{"lines of Windows", "one\r\ntwo\r\r\nthree\r\n", "one\ntwo\nthree\n"},
		{"overwritten text", "\r10%\r20%\r\x1b[K100%\n", "10%\n20%\n100%\n"},
		{"text before a last carriage return", "100%\r", "100%\n"},
		{"a backspace", "ab\b\bc\x7f\a\v\f", "abc"},
		{"direction of text", "a\u202eb\u2066c\u200fd", "abcd"},
		{"invalid UTF-8", "a\xffb\xe6\x97", "a\uFFFDb\uFFFD"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, step := range []int{max(len(tt.text), 1), 1, 2, 3} {
				var got strings.Builder
				w := terminal.Writer{Out: &got, Colours: true}
				for rest := tt.text; rest != ""; {
					part := rest[:min(step, len(rest))]
					if n, err := w.Write([]byte(part)); n != len(part) || err != nil {
						t.Fatalf("wrote %d, %v", n, err)
					}
					rest = rest[len(part):]
				}
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
				if got.String() != tt.want {
					t.Errorf("%d bytes at a time: %q, want %q", step, got.String(), tt.want)
				}
			}
			if got := terminal.Strip(tt.text); strings.ContainsAny(got, "\x1b\r") {
				t.Errorf("Strip returns %q", got)
			}
		})
	}
}

func TestStripRemovesColours(t *testing.T) {
	t.Parallel()
	if got := terminal.Strip("\x1b[1;31mred\x1b[0m\n"); got != "red\n" {
		t.Errorf("got %q", got)
	}
}

// FuzzWriter checks that only text and colours pass.
func FuzzWriter(f *testing.F) {
	f.Add("a\x1b[31mb\x1b]0;c\x07\r\n\xe6")
	f.Fuzz(func(t *testing.T, s string) {
		var b strings.Builder
		w := terminal.Writer{Out: &b, Colours: true}
		_, _ = w.Write([]byte(s))
		_ = w.Close()
		got := b.String()
		for rest := got; ; {
			before, after, found := strings.Cut(rest, "\x1b[")
			for _, r := range before {
				if r != '\n' && r != '\t' && terminal.Controls(r) {
					t.Fatalf("%q of %q", got, s)
				}
			}
			if !found {
				break
			}
			if rest = strings.TrimLeft(after, "0123456789;:"); !strings.HasPrefix(rest, "m") {
				t.Fatalf("%q of %q", got, s)
			}
		}
	})
}
