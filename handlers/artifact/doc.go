// Package artifact updates an application: it downloads a release, unpacks it beside
// the earlier ones, switches to it and checks that it works. It is a handler; package
// fetch downloads and package archive unpacks.
//
// The directory of an application contains
//
//	current               a link to releases/<version>
//	releases/<version>/   the releases, each of them complete
//	.tasker/              the handler's own files: the lock, the download, the release
//	                      that is being unpacked, a record of each release, and the
//	                      switch that is not confirmed yet (see appDir)
//
// A call repairs what a killed agent has left behind. A release gets its name by one
// rename after all of it is on the disk. Before the handler switches the link, it
// records the release that was current; it removes this record after the new release
// has passed its health check. A release that became current without passing its check
// is therefore never chosen for switching back, and the next call restarts and checks it.
//
// If a release fails after the switch, the handler switches back. The failed release
// stays below releases for inspection until newer releases replace it.
package artifact
