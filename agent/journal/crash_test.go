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

// writerDir names the variable that makes this test binary a writer.
const writerDir = "TASKER_TEST_JOURNAL_WRITER"

// writeForEver takes assignments through their life and says each step on
// stdout after the journal has it, until it is killed.
func writeForEver(dir string) {
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

// TestKilledWriter kills a writing process at any moment, several times over:
// what it had said is in the journal.
func TestKilledWriter(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	said := map[string]journal.Phase{}
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
			said[id] = journal.Phase(phase)
			if n == 20+run*17 {
				must(t, cmd.Process.Kill())
			}
		}
		_ = cmd.Wait()

		j := mustOpen(t, dir)
		got := phases(t, j)
		must(t, j.Close())
		rank := map[journal.Phase]int{journal.Accepted: 1, journal.Starting: 2, journal.Ended: 3}
		for id, phase := range said {
			if rank[got[id]] < rank[phase] {
				t.Fatalf("run %d: %s was said to be %s and is %q", run, id, phase, got[id])
			}
		}
	}
	if len(said) < 100 {
		t.Fatalf("only %d assignments were written", len(said))
	}
}
