# `make` lists the targets.
.DEFAULT_GOAL := help
SHELL         := /bin/bash
.SHELLFLAGS   := -euo pipefail -c

VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
PROGRAMS := tasker tasker-controlplane tasker-agent

# The linter is installed once per version, beside the module cache. It includes gofumpt.
GOLANGCI_VERSION := v2.15.0
GOLANGCI := $(shell go env GOPATH)/tools/golangci-lint@$(GOLANGCI_VERSION)/golangci-lint

GORELEASER_VERSION := v2.15.1
GORELEASER := $(shell go env GOPATH)/tools/goreleaser@$(GORELEASER_VERSION)/goreleaser

BENCHSTAT_VERSION := v0.0.0-20260908200009-22c9c6c9d4da
BENCHSTAT := $(shell go env GOPATH)/tools/benchstat@$(BENCHSTAT_VERSION)/benchstat

# The servers and programs of the tests; set these variables to use others. TASKER_TEST_AMQP,
# host:port, is needed only if the port of AMQP differs from the one that the broker reports.
export TASKER_TEST_MYSQL      ?= mysql://tasker_test:tasker_test@127.0.0.1:3306/
export TASKER_TEST_RABBITMQ   ?= http://guest:guest@127.0.0.1:15672/api
export TASKER_TEST_PROMETHEUS ?= prometheus
export TASKER_TEST_CHROMIUM   ?= chromium
export TASKER_TEST_NGINX      ?= nginx

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build three static programs into ./bin
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/ $(PROGRAMS:%=./cmd/%)

.PHONY: build-bench
build-bench: build ## also build the fleet benchmark, bin/tasker-bench
	CGO_ENABLED=0 go build -C tools/bench -trimpath -ldflags '-s -w' -o ../../bin/tasker-bench .

.PHONY: demo
demo: build ## run a control plane, two agents and a task on this machine (ARGS=--exit: end after the task)
	@./bin/tasker demo $(ARGS)

.PHONY: test
test: ## install RabbitMQ, MariaDB, Prometheus and Chromium, then run every test on them (TESTARGS=… for go test)
	@test/servers
	@test/programs
	go test -race -count=1 -timeout 30m $(TESTARGS) ./...
	go test -C tools/bench -race -count=1 -timeout 30m $(TESTARGS) ./...

.PHONY: test-newer
test-newer: ## run the tests of store and transport on MySQL 9, MariaDB 11 and RabbitMQ 4 (root, Debian)
	@test/install mmdebstrap unshare=util-linux ss=iproute2
	@for suite in sid trixie; do test/newer-servers $$suite go test -count=1 -timeout 10m $(TESTARGS) ./controlplane/store/... ./internal/transport/rabbitmq/...; done

# A number of executions, because go test may report the end of a short time as a failure.
FUZZTIME ?= 20000x

.PHONY: fuzz
fuzz: ## run each fuzz target for FUZZTIME (20000x: executions)
	@git grep -E '^func Fuzz[A-Za-z]+\(' -- '*_test.go' | sed -E 's|^([^:]*):func (Fuzz[A-Za-z]+).*|\1 \2|' | while read -r file target; do \
		echo "$$target in ./$$(dirname "$$file")"; \
		go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "./$$(dirname "$$file")" </dev/null; \
	done

.PHONY: test-hosts
test-hosts: ## test packages and services on temporary hosts with systemd (root; TESTARGS=… for go test)
	@test/install mmdebstrap systemd-nspawn=systemd-container ip=iproute2 unshare=util-linux pgrep=procps socat
	@test/servers
	TASKER_TEST_HOSTS=1 test/hosts/lab run go test -count=1 -parallel 4 -timeout 15m $(TESTARGS) ./test/hosts

.PHONY: lint
lint: tools ## run go vet, golangci-lint (with the import rules and gofumpt) and shellcheck
	go vet ./... && go -C tools/bench vet ./...
	$(GOLANGCI) run ./...
	cd tools/bench && $(GOLANGCI) run --config ../../.golangci.yml ./...
	@if command -v shellcheck >/dev/null; then git ls-files -z | xargs -0 awk 'FNR == 1 && /^#!.*(\/| )(ba|da)?sh$$/ {print FILENAME}' | xargs shellcheck; \
	else echo "shellcheck is not installed: shell scripts not checked (apt-get install shellcheck)"; fi

.PHONY: fmt
fmt: tools ## format the code with gofumpt
	$(GOLANGCI) fmt ./... && cd tools/bench && $(GOLANGCI) fmt --config ../../.golangci.yml ./...

.PHONY: bench
bench: ## run every benchmark
	@test/servers
	go test -run '^$$' -bench . -benchmem ./...

# The benchmarks of bench-compare, their packages, and the commit to compare with.
BENCH    ?= .
PACKAGES ?= ./...
AGAINST  ?= HEAD~1
RUN_BENCH = go test -run '^$$' -bench '$(BENCH)' -benchtime 200ms -benchmem $(PACKAGES)

.PHONY: bench-compare
bench-compare: $(BENCHSTAT) ## compare benchmarks with another commit (AGAINST=HEAD~1 BENCH=regexp PACKAGES=./…)
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

# The file with the OpenPGP private key of `make packages`; empty means no signatures.
PACKAGE_KEY ?=

.PHONY: packages
packages: ## build .deb, .rpm, .apk and Arch packages into ./dist, reproducibly (PACKAGE_KEY=file: sign them)
	rm -rf dist
	go -C packaging run ./cmd/build -programs $(VERSION) -key '$(if $(PACKAGE_KEY),$(abspath $(PACKAGE_KEY)))'

.PHONY: test-packages
test-packages: ## build all packages and test them; installs the tools first
	@test/install ar=binutils lintian gpgv rpm rpmlint systemd-analyze=systemd shellcheck
	cd packaging && go vet ./... && go test -count=1 $(TESTARGS) ./...

.PHONY: check-release
check-release: $(GORELEASER) ## check the configuration of goreleaser (installs it: minutes, the first time)
	$(GORELEASER) check

$(GORELEASER):
	GOBIN=$(@D) go install github.com/goreleaser/goreleaser/v2@$(GORELEASER_VERSION)

.PHONY: clean
clean: ## remove the built files
	rm -rf bin dist
