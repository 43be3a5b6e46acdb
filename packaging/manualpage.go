package packaging

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// subcommand matches a line of the list of commands in a program's help.
var subcommand = regexp.MustCompile(`^  ([a-z][a-z-]*) +\S`)

// manualPage returns a program's manual page in roff: its help text and that of each of
// its commands. help returns the help text of a command.
func manualPage(name, section string, at time.Time, help func(command ...string) (string, error)) (string, error) {
	text, err := help()
	if err != nil {
		return "", err
	}
	about, _, _ := strings.Cut(text, "\n\n")
	about = strings.Join(strings.Fields(about), " ")
	about, _, _ = strings.Cut(strings.TrimPrefix(about, name+" "), ".")
	var b strings.Builder
	fmt.Fprintf(&b, ".TH %s %s %s tasker\n", roff(strings.ToUpper(name)), section, at.UTC().Format(time.DateOnly))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roff(name), roff(about))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n.I command\n[\\fIflags\\fR]\n.SH DESCRIPTION\n", roff(name))
	writeVerbatim(&b, text)
	b.WriteString(".SH COMMANDS\n")
	if err := writeCommands(&b, nil, text, help); err != nil {
		return "", err
	}
	if section == "8" {
		fmt.Fprintf(&b, ".SH FILES\n.TP\n.I /etc/%[1]s/config.yaml\nConfiguration.\n.TP\n.I /etc/%[1]s/environment\n"+
			"Environment variables that the configuration refers to.\n", roff(name))
	}
	fmt.Fprintf(&b, ".SH SEE ALSO\nhttps://github.com/MatthiasWiesner/tasker\n")
	return b.String(), nil
}

// writeCommands writes a section for each command that a help text lists, recursively.
func writeCommands(b *strings.Builder, above []string, text string, help func(...string) (string, error)) error {
	_, list, ok := strings.Cut(text, "\nAvailable Commands:\n")
	if !ok {
		return nil
	}
	list, _, _ = strings.Cut(list, "\n\n")
	for line := range strings.Lines(list) {
		match := subcommand.FindStringSubmatch(line)
		if match == nil || match[1] == "completion" || match[1] == "help" {
			continue
		}
		command := append(append([]string{}, above...), match[1])
		text, err := help(command...)
		if err != nil {
			return err
		}
		fmt.Fprintf(b, ".SS %s\n", roff(strings.Join(command, " ")))
		writeVerbatim(b, text)
		if err := writeCommands(b, command, text, help); err != nil {
			return err
		}
	}
	return nil
}

// writeVerbatim writes text without filling its lines.
func writeVerbatim(b *strings.Builder, text string) {
	text, _, _ = strings.Cut(text, "\nUse \"")
	fmt.Fprintf(b, ".nf\n%s\n.fi\n", roff(strings.TrimSpace(text)))
}

// roff escapes text for roff.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`).Replace(text)
	return strings.ReplaceAll("\n"+text, "\n.", "\n\\&.")[1:]
}
