# What each target promises is in CONTRIBUTING.md. Everything runs from here, on any machine with Go; .ci/run is the same on a bare one.
.DEFAULT_GOAL := help
.PHONY: help build test check generate bench fmt clean check-format check-vet check-lint check-structure check-generated

GO ?= go
# The longest first: it mostly waits, and the others use that time.
PKG ?= ./test ./...
BENCH ?= ingest queue
# The benches of `make bench`, for a look while working; the figures of docs/performance.md are made without --quick.
BENCHFLAGS ?= --quick --json

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## the binary, as bin/bankfeed, without cgo
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/bankfeed ./cmd/bankfeed

test: ## every test under -race, bulk tests without, on real services; PKG=./internal/store/... for a part
	@$(GO) run ./internal/testrun $(PKG)

check: check-format check-vet check-lint check-structure check-generated ## format, vet, linter, import arrows, migration numbers, generated files

check-format:
	@echo "== gofmt"
	@bad=$$(gofmt -l .); if [ -n "$$bad" ]; then echo "not formatted (make fmt):" >&2; echo "$$bad" >&2; exit 1; fi

check-vet:
	@echo "== go vet"
	@$(GO) vet ./...

check-lint:
	@echo "== golangci-lint"
	@$(GO) tool -modfile=tools/go.mod golangci-lint run

check-structure:
	@echo "== import arrows, migration numbers"
	@$(GO) test -count=1 -run 'Import|Root|Product|Migration' .

check-generated:
	@echo "== generated files"
	@GO="$(GO)" scripts/check-generated

generate: ## write the generated files anew
	$(GO) generate ./...

bench: ## BENCH="ingest queue" of bankfeed bench, each with its raw baseline
	@for name in $(BENCH); do $(GO) run ./cmd/bankfeed bench $$name $(BENCHFLAGS) || exit 1; done

fmt: ## gofmt over everything
	gofmt -w .

clean: ## what was built, never bankfeed-data
	rm -rf bin coverage.*
