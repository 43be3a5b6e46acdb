// Package command is the handler that runs a program which the agent's configuration
// permits. It never uses a shell: the program receives the payload's argv unchanged.
//
// The allow-list is empty by default, and then the handler rejects every payload:
//
//   - An entry is an argument vector. A payload's argv matches if it has the same number of
//     elements and each is equal to the element of the entry. "*" in the entry matches any
//     one argument, even an option or an empty one.
//   - The first element of an entry is the clean absolute path of the program, never "*". The
//     payload names the program by the same path or by its last element. Nothing is looked
//     up in PATH or normalised: the handler runs the entry's path, and /bin/../bin/sleep is
//     not /bin/sleep. A symbolic link at that path is the operator's decision.
//   - An entry also names the environment variables, the working directories and the creates
//     paths that a payload may use with the command, and whether it may set the standard
//     input: a program can obey all of them. None is permitted by default. The commands
//     unless, plan and undo get the same variables, directory and input, so their entries
//     must permit them too.
//   - Environment variables that change what a program loads or runs, such as LD_PRELOAD or
//     PATH, are rejected (see refusedEnv), as are TASKER_ variables.
//
// The handler cannot know what a program changes. A payload may name commands that report
// and that undo the change; the allow-list must permit them as well. The snapshot of a task
// only records that its command was started, so that a task which never ran is not undone.
package command
