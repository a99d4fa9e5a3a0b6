# What is done with this checkout. Everything needs Go, git and make; what a
# target needs besides is checked first and named when it is missing.

.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
RUNTESTS := go run ./tools/runtests
# A test has to run where everything that it needs was installed for it.
NO_SKIP := $(if $(CI),-no-skip)

.PHONY: help
help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## /\1 /p' Makefile | while read -r name text; do printf '%-14s %s\n' "$$name" "$$text"; done

.PHONY: build
build: ## build bin/sender and bin/receiver, static
	CGO_ENABLED=0 go build -trimpath -ldflags "-X github.com/e27efefb/sluice/services/internal/cli.version=$(VERSION)" -o bin/ ./services/sender ./services/receiver

.PHONY: demo
demo: build ## start a receiver, send it a large file, compare, stop it
	@tools/demo.sh

.PHONY: test
test: ## run every test that needs no root, with -race where a C compiler is present
	@race=$$(tools/race.sh); \
	if [ -n "$$race" ]; then echo "with the race detector"; else echo "without the race detector: no working C compiler"; fi; \
	$(RUNTESTS) $(NO_SKIP) $$race -timeout 10m ./...

.PHONY: test-root
test-root: ## run the tests that need root: power cuts, namespaces, injected failures
	@tools/need.sh root strace:strace ip:iproute2 nft:nftables iptables:iptables mkfs.ext4:e2fsprogs mkfs.xfs:xfsprogs mount:mount losetup:mount
	@$(RUNTESTS) -tag root -no-skip -timeout 10m ./...
	@$(RUNTESTS) -C tools/wanlink -no-skip -tags root -timeout 2m ./...

.PHONY: interop
interop: ## run the tests against programs in other languages
	@tools/need.sh /usr/bin/python3:python3 python:grpc:python3-grpcio python:google.protobuf:python3-protobuf python:scapy:python3-scapy tshark:tshark b3sum:b3sum
	@$(RUNTESTS) -tag interop -no-skip -timeout 10m ./...

.PHONY: compose-test
compose-test: ## bring the containers up, move files between them, take them down
	@tools/compose-test.sh

.PHONY: lint
lint: ## check format, vet, style, direction of imports, protos and generated code
	@tools/lint.sh

.PHONY: generate
generate: ## generate the Go code of the protos
	"$$(tools/tool.sh buf)" generate

.PHONY: soak
soak: build ## freeze, cut off and ping a receiver as root, print the figures; SOAK="-pings 2m" for less
	@tools/need.sh root ip:iproute2 iptables:iptables
	go run ./tools/soak $(SOAK)

.PHONY: soak-jobs
soak-jobs: build ## 1,000 jobs while sender and receiver are killed 20 times each; SOAK="-jobs 100 -kills 5" for less
	go run ./tools/soakjobs $(SOAK)

.PHONY: soak-links
soak-links: ## publish while a directory is swapped for a symbolic link to the outside a million times; SWAPS=10000000 for more
	go test ./pkg/store -run 'TestSymlinkSwaps$$' -count=1 -v -timeout 1h -swaps $(or $(SWAPS),1000000)

.PHONY: fuzz
fuzz: ## fuzz each fuzz target for 30 s; FUZZTIME=5m for longer
	@tools/fuzz.sh $(or $(FUZZTIME),30s)

.PHONY: bench
bench: build ## measure beside rsync, tar and others, write docs/performance.md; BENCH="-only tmpfs" for less
	go build -o bin/bench ./tools/bench
	bin/bench -o docs/performance.md $(BENCH)

.PHONY: bench-smoke
bench-smoke: build ## see that every measurement works, on small amounts
	go build -o bin/bench ./tools/bench
	bin/bench -quick $(BENCH)

.PHONY: tools
tools: ## build the pinned tools that lint and generate use
	@for tool in buf golangci-lint gofumpt grpcurl; do tools/tool.sh $$tool || exit 1; done

.PHONY: clean
clean: ## remove what make built here
	rm -rf bin
