package process

import (
	"fmt"
	"slices"
	"strings"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/terminal"
)

// Remaining describes the processes that still ran when the command itself had ended. The
// supervisor has ended them.
type Remaining struct {
	Ended Processes `json:"ended"`
	// Killed are those of the ended processes that still ran at the end of the grace.
	Killed Processes       `json:"killed"`
	Grace  tasker.Duration `json:"grace"`
}

// Processes is a number of processes and some of their names.
type Processes struct {
	Count int `json:"count"`
	// Names has each name once, and at most maxNames.
	Names []string `json:"names,omitempty"`
}

// maxNames bounds the names in a note.
const maxNames = 10

// newProcesses counts processes. It leaves out processes that have ended already.
func newProcesses(found []stat) Processes {
	var p Processes
	for _, s := range found {
		if s.zombie() {
			continue
		}
		p.Count++
		// A process chooses its own name, which may contain any byte.
		name := strings.TrimSpace(terminal.OneLine(s.name))
		if name != "" && len(p.Names) < maxNames && !slices.Contains(p.Names, name) {
			p.Names = append(p.Names, name)
		}
	}
	return p
}

// String returns for example "2 processes (nginx, sleep)".
func (p Processes) String() string {
	noun := "processes"
	if p.Count == 1 {
		noun = "process"
	}
	return fmt.Sprintf("%d %s (%s)", p.Count, noun, strings.Join(p.Names, ", "))
}

// Note describes the processes in one sentence for the result of a task. It is empty if r is
// nil.
func (r *Remaining) Note() string {
	switch {
	case r == nil:
		return ""
	case r.Killed.Count == 0:
		return fmt.Sprintf("ended %s that the command left running", r.Ended)
	case r.Killed.Count == r.Ended.Count:
		return fmt.Sprintf("killed %s that the command left running, because SIGTERM did not end them within %v", r.Killed, r.Grace)
	}
	return fmt.Sprintf("ended %s that the command left running; killed %s of them, because SIGTERM did not end them within %v", r.Ended, r.Killed, r.Grace)
}

// JoinNotes joins the notes that are not empty.
func JoinNotes(notes ...string) string {
	return strings.Join(slices.DeleteFunc(notes, func(s string) bool { return s == "" }), "; ")
}
