// Package command is the handler that runs a program which the agent's own
// configuration allows.
//
// There is never a shell: the payload's argv reaches the program as it is. The
// allow-list is empty by default, and then everything is refused. What it means
// is decided here alone:
//
//   - An entry is an argument vector. A payload's argv matches if it has as many
//     arguments, and each is equal to the entry's; "*" in the entry stands for
//     exactly one argument, whatever it is, an option or an empty one included.
//   - The first element of an entry is the clean absolute path of the program,
//     never "*". The payload names the program by that same path, or by its last
//     element alone. Nothing is looked up in PATH or normalised: what runs is the
//     entry's path, and /bin/../bin/sleep is not /bin/sleep. A symbolic link at
//     that path is the operator's own.
//   - Environment variables that change what a program loads or runs, such as
//     LD_PRELOAD or PATH, are refused (see refusedEnv), as are TASKER_ names.
//
// What a program changes, this package cannot know. A payload may name the commands
// that say what would change and that undo it; they have to be allowed as well. The
// record of a task says no more than that its command was started, so that what has
// never run is not undone.
package command
