// Command tasker-agent performs tasks on a server.
package main

import (
	"os"

	"github.com/MatthiasWiesner/tasker/agentcmd"
)

// version is set when the program is built.
var version = "development"

func main() { os.Exit(agentcmd.Main(version)) }
