# `make` lists what there is to make.
.DEFAULT_GOAL := help
SHELL         := /bin/bash
.SHELLFLAGS   := -euo pipefail -c

VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
PROGRAMS := tasker tasker-controlplane tasker-agent

# The linter is installed once per version, beside the module cache; it brings gofumpt.
GOLANGCI_VERSION := v2.15.0
GOLANGCI := $(shell go env GOPATH)/tools/golangci-lint@$(GOLANGCI_VERSION)/golangci-lint

GORELEASER_VERSION := v2.15.1
GORELEASER := $(shell go env GOPATH)/tools/goreleaser@$(GORELEASER_VERSION)/goreleaser

BENCHSTAT_VERSION := v0.0.0-20260908200009-22c9c6c9d4da
BENCHSTAT := $(shell go env GOPATH)/tools/benchstat@$(BENCHSTAT_VERSION)/benchstat

# What the tests run against; set them yourself to use others than are set up.
export TASKER_TEST_MYSQL      ?= mysql://tasker_test:tasker_test@127.0.0.1:3306/
export TASKER_TEST_RABBITMQ   ?= http://guest:guest@127.0.0.1:15672/api
export TASKER_TEST_PROMETHEUS ?= prometheus
export TASKER_TEST_CHROMIUM   ?= chromium

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## three static programs into ./bin
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/ $(PROGRAMS:%=./cmd/%)

.PHONY: build-bench
build-bench: build ## the fleet benchmark, bin/tasker-bench, beside the three programs
	CGO_ENABLED=0 go build -C tools/bench -trimpath -ldflags '-s -w' -o ../../bin/tasker-bench .

.PHONY: demo
demo: build ## a control plane, two agents and a task on this machine (ARGS=--exit: end after the task)
	@./bin/tasker demo $(ARGS)

.PHONY: test
test: ## every test, on a real RabbitMQ, MariaDB, Prometheus and Chromium that are set up first (TESTARGS=… for go test)
	@test/servers
	@test/programs
	go test -race -count=1 -timeout 30m $(TESTARGS) ./...
	go test -C tools/bench -race -count=1 -timeout 30m $(TESTARGS) ./...

.PHONY: test-hosts
test-hosts: ## the packages and services on servers with systemd, made for it (root; TESTARGS=… for go test)
	@test/install mmdebstrap systemd-nspawn=systemd-container ip=iproute2 unshare=util-linux pgrep=procps socat
	@test/servers
	TASKER_TEST_HOSTS=1 test/hosts/lab run go test -count=1 -parallel 4 -timeout 15m $(TESTARGS) ./test/hosts

.PHONY: lint
lint: tools ## go vet, golangci-lint (with the import rules and gofumpt) and shellcheck
	go vet ./... && go -C tools/bench vet ./...
	$(GOLANGCI) run ./...
	cd tools/bench && $(GOLANGCI) run --config ../../.golangci.yml ./...
	@if command -v shellcheck >/dev/null; then git ls-files -z | xargs -0 awk 'FNR == 1 && /^#!.*(\/| )(ba|da)?sh$$/ {print FILENAME}' | xargs shellcheck; \
	else echo "shellcheck is not installed: shell scripts not checked (apt-get install shellcheck)"; fi

.PHONY: fmt
fmt: tools ## format the code with gofumpt
	$(GOLANGCI) fmt ./... && cd tools/bench && $(GOLANGCI) fmt --config ../../.golangci.yml ./...

.PHONY: bench
bench: ## every benchmark
	@test/servers
	go test -run '^$$' -bench . -benchmem ./...

# Which benchmarks bench-compare runs, of which packages, and against which commit.
BENCH    ?= .
PACKAGES ?= ./...
AGAINST  ?= HEAD~1
RUN_BENCH = go test -run '^$$' -bench '$(BENCH)' -benchtime 200ms -benchmem $(PACKAGES)

.PHONY: bench-compare
bench-compare: $(BENCHSTAT) ## benchmarks against another commit (AGAINST=HEAD~1 BENCH=regexp PACKAGES=./…)
	@test/servers
	@at=$$(mktemp -d); trap 'git worktree remove --force "$$at/tree"; rm -rf "$$at"' EXIT; \
	git worktree add --quiet --detach "$$at/tree" $(AGAINST); \
	for round in {1..6}; do \
		(cd "$$at/tree" && $(RUN_BENCH)) >> "$$at/before"; $(RUN_BENCH) >> "$$at/now"; \
	done; \
	cd "$$at" && $(BENCHSTAT) before now

$(BENCHSTAT):
	GOBIN=$(@D) go install golang.org/x/perf/cmd/benchstat@$(BENCHSTAT_VERSION)

.PHONY: tools
tools: $(GOLANGCI) ## install the linter (minutes, the first time)

$(GOLANGCI):
	GOBIN=$(@D) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)

.PHONY: packages
packages: ## .deb, .rpm, .apk and Arch packages of all programs into ./dist, the same bytes each time
	rm -rf dist
	go -C packaging run ./cmd/build -programs $(VERSION)

.PHONY: test-packages
test-packages: ## the tests of the packages, which build them all; their tools are installed first
	@test/install lintian rpm rpmlint systemd-analyze=systemd shellcheck
	cd packaging && go vet ./... && go test -count=1 $(TESTARGS) ./...

.PHONY: check-release
check-release: $(GORELEASER) ## whether goreleaser takes its configuration (installs it, minutes, the first time)
	$(GORELEASER) check

$(GORELEASER):
	GOBIN=$(@D) go install github.com/goreleaser/goreleaser/v2@$(GORELEASER_VERSION)

.PHONY: clean
clean: ## remove what was built
	rm -rf bin dist
