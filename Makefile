# `make help` lists what there is. Everything works on a fresh clone; what is missing is installed by `make deps`.

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

binary      := bin/casebook-audit
staticcheck := honnef.co/go/tools/cmd/staticcheck@v0.8.2
fuzztime    ?= 30s

.PHONY: help deps build demo test short race bench lint format vet fuzz clean

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 10

deps: ## install what the tests need: Postgres 14 to 18, promtool, Chromium, axe-core (as root; otherwise it says what is missing)
	@internal/cluster/install.sh

build: ## bin/casebook-audit
	@go build -trimpath -o $(binary) ./cmd/casebook-audit

demo: ## two throwaway servers, a working day, the daemon and the log to try out; ONCE=1 plays the day, checks it and ends
	@internal/cluster/install.sh 15
	@echo "building" >&2
	@$(MAKE) --no-print-directory build
	@exec $(binary) demo $(if $(ONCE),--once)

test: ## the whole suite, on real Postgres 14 to 18
	@internal/cluster/install.sh || echo "the tests that need what is missing will say so" >&2
	@$(MAKE) --no-print-directory format vet
	@go test ./internal/imports
	@go test -timeout 30m ./...
	@$(MAKE) --no-print-directory race

short: ## what needs no server, in a few seconds
	@go test -short ./...

race: ## the packages without a server, under the race detector
	@go test -race -short ./ledger ./capture ./mapping

bench: deps build ## against Postgres' own logical replication, on this machine
	@go run ./internal/bench

lint: format vet ## gofmt, go vet, staticcheck
	@go run $(staticcheck) ./...

format:
	@unformatted=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go')); \
	if [ -n "$$unformatted" ]; then echo "not formatted with gofmt: $$unformatted" >&2; exit 1; fi

vet:
	@go vet ./...

fuzz: ## each fuzz target for fuzztime (default 30s)
	@go list ./... | while read -r package; do \
	  targets=$$(go test -list '^Fuzz' "$$package" | grep '^Fuzz' || true); \
	  for target in $$targets; do \
	    echo "$$package $$target"; go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(fuzztime) "$$package"; \
	  done; \
	done

clean: ## what make made: bin and .cache
	@rm -rf bin .cache
