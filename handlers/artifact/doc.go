// Package artifact is the handler that updates an application: it downloads a
// release, unpacks it beside the others, switches to it and sees that it works.
//
// In the directory that is deployed to are
//
//	current               a link to releases/<version>
//	releases/<version>/   the releases, each complete or not there
//	.tasker/              the handler's own: the lock, the download, what is being
//	                      unpacked, a note for each release, and the switch that is
//	                      not confirmed yet (see place)
//
// What an agent that was killed leaves is found by the next call. A release appears
// by one rename when all of it is on the disk. Before the link is switched it is
// noted from which release, and the note goes when the new one is found healthy; so
// a release to which the link was switched, but which nobody saw working, is never
// taken for one to go back to, and the call that finds the note restarts and checks.
//
// A release that failed after the switch is switched back from, and stays below
// releases to be looked at, until as many newer ones as are kept have come.
package artifact
