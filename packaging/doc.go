// Package packaging builds the packages of tasker for Debian, Red Hat, Alpine and
// Arch Linux, as .goreleaser.yaml describes them, without goreleaser. It is a
// module of its own so that what it needs never reaches the programs.
package packaging
