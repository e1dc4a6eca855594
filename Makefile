# make            what there is
# make test       the one command that has to pass

SHELL := /bin/bash
.DEFAULT_GOAL := help

GOLANGCI_LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
ACTIONLINT := github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.9.0

# The modules are those of go.work; an empty list would pass every check.
MODULES = $(or $(shell GOWORK= go list -m -f '{{.Dir}}'),$(error no modules: go or go.work does not work here))

# Each module is built by its own go.mod. In workspace mode the versions that
# the test module needs would be forced on the root, which users get without it.
export GOWORK = off

# $(call each,command) runs command in every module, and stops at a failure.
each = for dir in $(MODULES); do echo "== .$${dir\#$(CURDIR)}: $(strip $(1))"; (cd "$$dir" && $(1)) || exit 1; done

.PHONY: help test check nightly race lockorder fmt vet lint tidy platforms repeat cover consumer shape demo sim model mutants fuzz chaos mixed kit fence servers bench bench-quick bench-pair browser ui-load pictures dashboard drill failover outlive wrappers

help: ## list the targets
	@awk -F ':.*## ' '/^## / { printf "\n%s\n", substr($$0, 4) } /^[a-z0-9-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

## For every change

# What waits for real time (leases of real servers) runs beside what computes.
TEST_PARTS = test-root test-command test-cluster

test: fmt ## the tests that show that a checkout works, without the race detector: about 3 minutes
	@$(MAKE) --no-print-directory -j3 -O $(TEST_PARTS)

.PHONY: $(TEST_PARTS) test-386

# Everything in virtual time: the primitives, the simulations, the parts of the engine.
test-root:
	@go test ./...

# The command, the page, the examples and the adapters, each on an etcd of its own.
test-command:
	@set -e; for dir in cmd/etcdlock lockui examples adapters/gocron adapters/certmagic otel prometheus mixin; do (cd $$dir && go test -p 4 ./...); done

test-386: ## the tests of the root and of the command with pointers of 32 bits
	@for dir in . cmd/etcdlock; do (cd $$dir && GOARCH=386 CGO_ENABLED=0 go test -p 4 -timeout 30m ./...) || exit 1; done

# Clusters of three real members with faults.
test-cluster:
	@cd test && go test -p 4 ./locks ./elections ./sessions ./faults ./shape
	@$(MUTATIONS_APPLY)

# The go command does not see which source this test reads, so its result is not kept.
MUTATIONS_APPLY = cd test && go test -count 1 ./mutants

check: fmt vet race lockorder lint tidy consumer platforms ## everything with the race detector, lint, tidy modules, other platforms: more than half an hour

# The slowest part of each module waits for real time, so more packages run than there are processors.
race: ## all tests of every module with the race detector
	@$(call each, go test -race -p 4 -timeout 20m ./...)
	@$(MUTATIONS_APPLY)

lockorder: ## the tests of the root with mutexes that panic when they are taken in a wrong order
	@go test -tags lockorder -timeout 20m . ./internal/lease ./internal/local ./internal/lockmgr ./internal/lockorder ./internal/session

fmt: ## fail if a file is not in gofmt's form
	@files=$$(gofmt -l .); test -z "$$files" || { echo "gofmt would change: $$files" >&2; exit 1; }

# -race, because vet then leaves compiled packages behind that the tests use.
vet: ## go vet in every module
	@$(call each, go vet -race ./...)

lint: actionlint ## golangci-lint in every module, actionlint, and the spelling of all texts; the first run builds them (about a minute)
	@$(call each, go run $(GOLANGCI_LINT) run ./...)
	@cd test && go run ./spelling

actionlint:
	@go run $(ACTIONLINT)

tidy: ## fail if a go.mod or go.sum is not tidy
	@$(call each, go mod tidy -diff)

# Programs and tests have to compile everywhere; on linux alone they run here.
PLATFORMS = windows/amd64 darwin/arm64 freebsd/amd64 linux/arm64 linux/386
platforms: ## builds what users import or install for PLATFORMS, and vets the root module there
	@set -e; for p in $(PLATFORMS); do for dir in . cmd/etcdlock lockui adapters/gocron adapters/certmagic otel prometheus; do \
	  echo "== $$p $$dir"; (cd $$dir && CGO_ENABLED=0 GOOS=$${p%/*} GOARCH=$${p#*/} go build ./...); done; \
	  CGO_ENABLED=0 GOOS=$${p%/*} GOARCH=$${p#*/} go vet ./...; done

cover: ## statements of the root module that its own tests reach
	@go test -coverpkg ./... -coverprofile cover.out ./... > /dev/null
	@go tool cover -func cover.out | tail -1

consumer: ## the modules that a program gets which imports only the root package
	@.ci/consumer

DIR ?= .
shape: ## lines, uses of structs and mutexes, circles, long functions, hard words: DIR=checkout for another revision
	@cd test && go run ./shape '$(abspath $(DIR))'

## To see it work

demo: ## processes that contend on an etcd of their own, with one killed and one stopped
	@cd examples && go run ./demo

## To prove more than the tests do

NIGHTLY = repeat sim model mutants fuzz chaos mixed kit fence servers browser failover outlive wrappers release-check
nightly: ## all that is too heavy for every change, one after the other: hours
	@$(MAKE) --no-print-directory $(NIGHTLY) SEEDS=20000

# The workflow of each night runs these beside each other.
nightly-list:
	@printf '["%s"]\n' "$$(echo $(NIGHTLY) | sed 's/ /", "/g')"

# A test that fails now and then fails here: other programs want the processors too.
COUNT ?= 10
repeat: ## each package COUNT times while four programs keep the processors busy
	@for i in 1 2 3 4; do (while :; do :; done) & done; trap 'kill $$(jobs -p)' EXIT; \
	$(call each, go test -count $(COUNT) -timeout 0 ./...)

# A failing schedule prints its seed: make sim SEED=n runs that one again. The control
# is the same schedules with etcd's own package.
SEEDS ?= 10000
# A fleet of processes with all options takes about twenty times as long as another schedule.
FLEETS ?= $(shell expr $(SEEDS) / 20)

sim: ## simulated schedules with faults and a control: SEEDS=n of each kind and FLEETS=n fleets, or SEED=n for that one only
ifdef SEED
	ETCDLOCK_SEED=$(SEED) go test -run '^TestSimulation$$' -v -count 1 -timeout 0 .
else
	ETCDLOCK_SEEDS=$(SEEDS) go test -run '^TestSimulation' -skip '^TestSimulationFleet$$' -v -count 1 -timeout 0 .
	ETCDLOCK_SEEDS=$(FLEETS) go test -run '^TestSimulationFleet$$' -v -count 1 -timeout 0 .
endif

model: ## the model of the protocol in every configuration (needs spin and gcc): NAME=n for one
	@model/check $(NAME)

mutants: ## takes the rules out one by one, and checks that a test fails for each: ONLY=regexp for some
	@cd test && go run ./mutants -only '$(ONLY)'

# A failure leaves its input in testdata/fuzz, where `make test` finds it from then on.
FUZZTIME ?= 1m
fuzz: ## names, keys and values that are not ours: FUZZTIME for each target
	@set -e; for dir in . internal/admission internal/queue internal/wire; do \
	  for target in $$(sed -n 's/^func \(Fuzz[A-Za-z]*\)(.*/\1/p' $$dir/*_test.go); do \
	    echo "== $$dir: $$target"; \
	    go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 2s ./$$dir; \
	  done; done

ROUNDS ?= 2
chaos: ## real faults on real processes, etcd's own sessions beside: ROUNDS=n of each, NEMESES="cut ..." for some only
	@cd test/chaos && go run . -rounds $(ROUNDS) $(NEMESES)

OPS ?= 1000
mixed: ## a table: etcdlock beside each of etcd's own clients on one name, OPS=n operations each, and beside the revision BASE of itself
	@set -o pipefail; cd test && ETCDLOCK_MIXED_OPS=$(OPS) ETCDLOCK_MIXED_BASE=$(BASE) go test -race -count 1 -timeout 0 -v -run 'TestFleets|TestRevisions' ./mixed | grep -v '^=== '

SCHEDULES ?= 1000
kit: ## SCHEDULES=n on the etcd in memory of etcdlocktest and on a real one: the same grants in the same order, the same losses
	@cd test && ETCDLOCK_KIT_SCHEDULES=$(SCHEDULES) go test -count 1 -timeout 0 -v ./kit

WRITES ?= 1000000
fence: ## a table: stale writes on PostgreSQL, MariaDB and SQLite with the fence and without, WRITES=n of each (half an hour)
	@cd test/fence && go run ./stress -writes $(WRITES) -control $(WRITES)

servers: ## a table: the tests on etcd processes of several versions, which it builds once: SERVERS="v3.5.35 debian" for some
	@cd test && go run ./servers $(SERVERS)

browser: ## the page of etcdlock ui in Chromium, and its pictures for docs/ui.md (needs chromium)
	@cd test/browser && ETCDLOCK_BROWSER=1 go test -count 1 -timeout 0 -v .

## To measure

bench: ## etcdlock beside others on real etcd processes: tables and pictures in bench/results
	@cd bench && go run .

bench-quick: ## the targets of the benchmark, a line for each, in less than a minute: PROFILE=dir for where the time goes (4 minutes)
	@cd bench && go run . -quick $(if $(PROFILE),-profile '$(abspath $(PROFILE))')

ROWS ?=
bench-pair: ## the working tree against another revision, with a verdict for each row: BASE=revision (needed), ROWS=a,b for some
	@cd bench && go run ./pair -base '$(BASE)' -rows '$(ROWS)'

pictures: ## draws the pictures of the guides from the tables of their pages
	@go run ./docs/pictures

dashboard: ## draws the dashboard of mixin/ from its own queries, on an hour of incidents in virtual time
	@cd mixin && go test -count 1 -run 'TestTheDashboard|TestEachPanel' . -update

DRILL ?= build/drill
drill: ## an hour of incidents in virtual time leaves metrics, alerts, logs, spans and audits in DRILL=dir; can a reader tell what happened?
	@cd mixin && ETCDLOCK_DRILL='$(abspath $(DRILL))' go test -count 1 -run TestAnIncident .
	@ls $(DRILL)

failover: ## for how long an election has no leader after a resignation or a crash, with etcd's Election beside: one table
	@cd bench && go run . elections

ETCDCTL ?= etcdctl
wrappers: ## a table: how a command fares under "etcdlock lock", flock, timeout and "etcdctl lock": ETCDCTL=path
	@cd cmd/etcdlock && go run ./internal/wrappers '$(ETCDCTL)'

ui-load: ## a table: what the page costs etcd and its machine, by the number of viewers: SECONDS=n for each
	@cd test/browser && go run ./load $(or $(SECONDS),30)

outlive: ## a table: for how long a command outlives its lock, under "etcdlock lock" and "etcdctl lock"
	@cd cmd/etcdlock && go run ./internal/outlive

## To release

.PHONY: actionlint nightly-list release release-check release-artifacts vuln package-files

release-check: ## makes a release of HEAD in a clone, checks all of it, publishes nothing: VERSION=n, or the next one
	@.ci/release-check $(VERSION)

NAMED = $(or $(VERSION),$(error which version? VERSION=v0.1.0))
release: ## a branch with the two commits of a release: VERSION=v0.1.0; docs/releasing.md says what is left
	@git switch --create release-$(NAMED) && cd release && go run . prepare $(NAMED)

release-artifacts: ## what a release has for download, into dist/: VERSION=v0.1.0, in a checkout of its tags
	@.ci/release-artifacts $(NAMED)

vuln: ## known vulnerabilities in what each module calls; needs vuln.go.dev
	@$(call each, go run $(GOVULNCHECK) ./...)

# For packages: compressed manual pages, completions, the changelog. goreleaser calls it.
package-files:
	@rm -rf build/package && mkdir -p build/package/man build/package/completions
	@for page in docs/man/*.1; do gzip -9nc $$page > build/package/man/$${page##*/}.gz; done
	@gzip -9nc CHANGELOG.md > build/package/changelog.gz
	@cd cmd/etcdlock && CGO_ENABLED=0 go build -trimpath -o ../../build/package/etcdlock .
	@cd build/package && ./etcdlock completion bash > completions/etcdlock.bash && \
	  ./etcdlock completion zsh > completions/_etcdlock && ./etcdlock completion fish > completions/etcdlock.fish
