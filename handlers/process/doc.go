// Package process runs a command so that no process of it remains when it has ended or was
// cancelled.
//
// Killing a command's process group misses every descendant that has called setsid or
// setpgid. So [Runner.Run] starts the agent's own program again as a supervisor
// ([Supervise]), one per command. The supervisor makes itself the subreaper of its
// descendants: an orphan becomes a child of the supervisor and not of PID 1, however it
// detached itself. A subreaper without children has no descendants. So when wait4 fails with
// ECHILD, the process tree is gone, and only then does Run return.
//
//	agent ──request, close──► supervisor ──fork──► command ──► …
//	      ◄─started, ended──   (subreaper)         (own session, own cgroup)
//
// The supervisor ends the tree when one of these happens:
//
//   - the context of Run is done,
//   - the agent ends for any reason, which closes the pipe to the supervisor,
//   - the supervisor receives SIGTERM, SIGINT or SIGHUP,
//   - the command itself has ended: the daemons that it left behind are ended too.
//
// It sends SIGTERM once to every process and, after the grace, SIGKILL until none is left.
// Where a cgroup v2 is writable, the command runs in its own cgroup and the supervisor uses
// cgroup.kill as well, which no fork can outrun.
//
// If the supervisor itself is killed, the command dies with it (PR_SET_PDEATHSIG, set from a
// thread that lives as long as the supervisor) and Run ends the rest. If the agent and the
// supervisor are both killed, the next agent process calls [Leftovers.Kill]. Both find
// processes by their cgroup, by recorded PID and start time, by descent, and by
// TASKER_TASK_ID and TASKER_ENDPOINT in their environment.
//
// The package needs Linux 5.4 or newer.
package process
