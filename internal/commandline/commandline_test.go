package commandline_test

import (
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/MatthiasWiesner/tasker/internal/commandline"
)

// command returns a command whose subcommand has a flag of each kind, and the values of the
// flags after its execution.
func command() (root *cobra.Command, text, url *string, list *[]string) {
	text, url, list = new(string), new(string), new([]string)
	root = &cobra.Command{Use: "root", SilenceErrors: true, SilenceUsage: true}
	root.PersistentFlags().StringVar(url, "url", "", "a URL")
	sub := &cobra.Command{Use: "sub", Run: func(*cobra.Command, []string) {}}
	sub.Flags().StringVar(text, "text", "", "a text")
	sub.Flags().StringSliceVarP(list, "list", "l", nil, "a list")
	sub.Flags().Int("number", 1, "a number")
	root.AddCommand(sub)
	root.SetOut(io.Discard)
	root.SetErr(io.Discard)
	commandline.RejectEmptyFlags(root)
	return root, text, url, list
}

func TestEmptyFlagIsRefused(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"--text="},
		{"--text", ""},
		{"--text= "},
		{"--text=a", "--text="},
		{"--url="},
		{"--list="},
		{"-l", ""},
		{"-l", "a", "-l", ""},
		{"-l", "", "-l", "a"},
		{"-l", "a,"},
		{"-l", ",a"},
		{"-l", "a,,b"},
		{"-l", "\t"},
	} {
		root, _, _, _ := command()
		root.SetArgs(append([]string{"sub"}, args...))
		if err := root.Execute(); err == nil || !strings.Contains(err.Error(), "the value is empty") {
			t.Errorf("%q: %v", args, err)
		}
	}
}

func TestFlagsKeepTheirValues(t *testing.T) {
	t.Parallel()
	root, text, url, list := command()
	root.SetArgs([]string{"sub", "--text", "x", "--url", "u", "-l", "a,b", "--list=c", "--number", "3"})
	if err := root.Execute(); err != nil {
		t.Fatal(err)
	}
	if *text != "x" || *url != "u" || !slices.Equal(*list, []string{"a", "b", "c"}) {
		t.Errorf("text %q, url %q, list %q", *text, *url, *list)
	}
}

func TestHelpShowsNoEmptyDefaults(t *testing.T) {
	t.Parallel()
	root, _, _, _ := command()
	help := root.Commands()[0].UsageString()
	if !strings.Contains(help, "--list strings") || strings.Count(help, "default") != 1 || !strings.Contains(help, "(default 1)") {
		t.Errorf("the help is\n%s", help)
	}
}

func TestCheckArgs(t *testing.T) {
	t.Parallel()
	if err := commandline.CheckArgs([]string{"a", "b"}); err != nil {
		t.Error(err)
	}
	if err := commandline.CheckArgs([]string{"a", " "}); err == nil || !strings.Contains(err.Error(), "argument 2 is empty") {
		t.Errorf("the error is %v", err)
	}
}
