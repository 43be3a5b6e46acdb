// Package packaging builds tasker's packages for Debian, Red Hat, Alpine and Arch
// Linux, as .goreleaser.yaml describes them, without goreleaser. It is a module of its
// own, so that its dependencies are not dependencies of the programs.
package packaging
