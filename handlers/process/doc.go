// Package process runs a command as a tree of processes of which nothing
// remains.
//
// Killing a command's process group misses every descendant that called setsid
// or setpgid. So [Runner.Run] starts the agent's own program again as a
// supervisor ([Supervise]), one per command, small and single-minded: it makes
// itself the subreaper of its descendants, so that an orphan becomes the
// supervisor's child and not that of PID 1, however it detached itself. A
// subreaper without children has no descendants: when wait4 says ECHILD, the
// tree is gone, and only then does Run return.
//
//	agent ──request, stop──► supervisor ──fork──► command ──► …
//	      ◄─started, exit───    (subreaper)        (own session, own cgroup)
//
// The tree is ended when the context of Run is done, when the agent dies in
// whatever way (the pipe to the supervisor closes), when the supervisor gets a
// SIGTERM, SIGINT or SIGHUP, and when the command itself has ended: daemons it
// left behind are ended too. To end is SIGTERM once to every process, and after
// the grace SIGKILL until none is left. Where a cgroup v2 is writable the
// command runs in one of its own, and its cgroup.kill, which no fork can
// outrun, is used as well.
//
// If the supervisor itself is killed, the command dies with it
// (PR_SET_PDEATHSIG, set from a thread that lives as long as the supervisor)
// and Run ends the rest. If agent and supervisor are both killed,
// [Leftovers.Kill] does so when the agent is back. Both find processes by their
// cgroup, by recorded id and start time, by descent, and by TASKER_TASK_ID and
// TASKER_ENDPOINT in their environment.
//
// The package needs Linux 5.4 or newer.
package process
