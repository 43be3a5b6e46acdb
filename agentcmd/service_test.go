package agentcmd

import (
	"os"
	"testing"
)

// A program can only embed what is in its own module: the copy must not differ.
func TestUnitIsThatOfThePackages(t *testing.T) {
	t.Parallel()
	const packaged = "../packaging/units/tasker-agent.service"
	text, err := os.ReadFile(packaged)
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != unitText {
		t.Errorf("tasker-agent.service differs from %s; copy it here", packaged)
	}
}
