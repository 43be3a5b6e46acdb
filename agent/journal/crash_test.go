package journal_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/agent/journal"
)

// writerDir is an environment variable. With it, this test binary is a writer; its value is
// the data directory.
const writerDir = "TASKER_TEST_JOURNAL_WRITER"

// writeUntilKilled records assignments, and prints each step after it was recorded.
func writeUntilKilled(dir string) {
	j, err := journal.Open(dir, journal.Options{LockTimeout: 10 * time.Second})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	step := func(id string, phase journal.Phase, err error) {
		if err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		fmt.Println(id, phase)
	}
	for i := 0; ; i++ {
		id := fmt.Sprintf("t%d-%d", j.Seq()>>32, i)
		step(id, journal.Accepted, j.Accept([]journal.Record{record(j, id, tasker.Received)}, nil))
		if i%4 == 0 {
			continue
		}
		step(id, journal.Starting, j.Start(update(j, id, tasker.Running)))
		if i%4 == 1 {
			continue
		}
		step(id, journal.Ended, j.End(update(j, id, tasker.Succeeded)))
	}
}

// A writing process is killed several times at random moments. Every step that it has
// printed must be in the journal.
func TestStepsSurviveKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	printed := map[string]journal.Phase{}
	for run := range 8 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), writerDir+"="+dir)
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			id, phase, _ := strings.Cut(lines.Text(), " ")
			if id == "error" {
				t.Fatal(phase)
			}
			printed[id] = journal.Phase(phase)
			if n == 20+run*17 {
				must(t, cmd.Process.Kill())
			}
		}
		_ = cmd.Wait()

		j := mustOpen(t, dir)
		got := phases(t, j)
		must(t, j.Close())
		rank := map[journal.Phase]int{journal.Accepted: 1, journal.Starting: 2, journal.Ended: 3}
		for id, phase := range printed {
			if rank[got[id]] < rank[phase] {
				t.Fatalf("run %d: %s was printed as %s and is %q", run, id, phase, got[id])
			}
		}
	}
	if len(printed) < 100 {
		t.Fatalf("only %d assignments were written", len(printed))
	}
}
