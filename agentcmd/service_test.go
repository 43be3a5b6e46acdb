package agentcmd

import (
	"os"
	"testing"
)

// The packages are a module of their own, so the unit file cannot be embedded from there.
func TestUnitEqualsThePackagedOne(t *testing.T) {
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
