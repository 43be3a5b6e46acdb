// Package commandline refuses empty values on the command lines of the programs. An empty
// value is nearly always a script's unset variable, and must not mean the default.
package commandline

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

var errEmpty = errors.New("the value is empty; leave out the flag, or give it a value (is a variable not set?)")

// RejectEmptyFlags makes a command and its subcommands refuse a text flag whose value is
// empty or blank, also if it is one of the values of a list. Call it after all flags are
// defined.
func RejectEmptyFlags(cmd *cobra.Command) {
	for _, flags := range []*pflag.FlagSet{cmd.PersistentFlags(), cmd.LocalNonPersistentFlags()} {
		flags.VisitAll(rejectEmpty)
	}
	for _, sub := range cmd.Commands() {
		RejectEmptyFlags(sub)
	}
}

// rejectEmpty wraps the value of a text flag.
func rejectEmpty(flag *pflag.Flag) {
	switch flag.Value.Type() {
	case "string":
		flag.Value = nonEmptyText{flag.Value}
	case "stringSlice", "stringArray":
		flag.Value = nonEmptyList{flag.Value}
		if flag.DefValue == "[]" {
			flag.DefValue = "" // pflag omits the empty default of its own types only
		}
	}
}

// nonEmptyText is the value of a flag with one text.
type nonEmptyText struct{ pflag.Value }

// Set sets the value unless it is blank.
func (v nonEmptyText) Set(s string) error {
	if isBlank(s) {
		return errEmpty
	}
	return v.Value.Set(s)
}

// nonEmptyList is the value of a flag with several texts, separated by commas.
type nonEmptyList struct{ pflag.Value }

// Set adds the texts unless one of them is blank.
func (v nonEmptyList) Set(s string) error {
	if slices.ContainsFunc(strings.Split(s, ","), isBlank) {
		return errEmpty
	}
	return v.Value.Set(s)
}

func isBlank(s string) bool { return strings.TrimSpace(s) == "" }

// CheckArgs returns an error if an argument is blank.
func CheckArgs(args []string) error {
	if i := slices.IndexFunc(args, isBlank); i >= 0 {
		return fmt.Errorf("argument %d is empty (is a variable not set?)", i+1)
	}
	return nil
}
