# The only door: every check and every program is started from here.
# `make help` prints the targets. Needs python3.11 (or a newer python3) and make.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

# What makes disks and networks for tests is not on everybody's path.
export PATH := $(PATH):/usr/sbin:/sbin

BIN := .venv/bin
STAMP := .venv/.installed
JOBS ?= 2
SEED ?= 1
STEPS ?= 20000
LEVEL ?= A
MINUTES ?= 30
SEEDS ?= 5000
RESULTS := docs/reliability.jsonl
SIM_A := tests.sim --steps $(STEPS)
SIM_B := tests.service
SOAK_A := --soak
SOAK_B := --commit
ARGS ?=

# Only where they are asked for: the environment may have such names, too.
ifneq ($(filter sim sim-soak,$(MAKECMDGOALS)),)
ifeq ($(filter $(LEVEL),A B),)
$(error LEVEL is A or B, not '$(LEVEL)')
endif
ifeq ($(LEVEL) $(origin STEPS),B command line)
$(error STEPS means nothing to level B: its runs end by ARGS="--seconds 8")
endif
endif

.PHONY: help
help: ## print this list
	@sed -n 's/^\([a-z][a-z0-9-]*\):.*## \(.*\)/  \1|\2/p' Makefile | \
	    while IFS='|' read -r name text; do printf '%-15s %s\n' "$$name" "$$text"; done

# A newer pyproject.toml installs again; a half-finished install leaves no stamp.
$(STAMP): pyproject.toml
	@python=; \
	for name in python3.11 python3; do \
	    if $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	    then python=$$name; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	    echo "error: raftd needs Python 3.11 or newer: install python3.11" >&2; \
	    exit 1; \
	fi; \
	if [ ! -x $(BIN)/pip ]; then \
	    $$python -m venv --clear .venv >/dev/null || { \
	        echo "error: $$python cannot make a virtual environment:" \
	            "install its venv module (Debian: python3.11-venv)" >&2; \
	        exit 1; \
	    }; \
	fi
	@echo "installing raftd and its tools into .venv ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

.PHONY: install
install: $(STAMP) ## make .venv and install raftd with its tools into it

.PHONY: demo
demo: $(STAMP) ## a narrated tour on three real nodes, with faults and a proof
	@$(BIN)/python -m cluster.demo $(ARGS)

.PHONY: dev
dev: $(STAMP) ## run a three-node cluster on this machine until interrupted
	@$(BIN)/raftd dev $(ARGS)

.PHONY: test
test: check ## the same as check

# The gate. What is cheap and speaks plainly comes first. Minutes on two cores at most:
# simulator 4, mutants 2, chaos 4, tests 8, the rest 2.
.PHONY: check
check: $(STAMP) ## everything that CI runs: lint types arch verify proofs unit
	@$(MAKE) lint types arch verify
	@$(MAKE) sim-gate mutants-gate chaos-gate
	@$(MAKE) unit

.PHONY: unit
unit: $(STAMP) ## the tests alone
	@$(BIN)/pytest -q -n $(JOBS) --dist loadfile -m "not slow" $(ARGS)

.PHONY: sim-gate
sim-gate: $(STAMP) ## simulator: every seed that ever failed, and fresh ones
	@$(BIN)/python -m tests.sim --gate
	@$(BIN)/python -m tests.service --gate

.PHONY: mutants-gate
mutants-gate: $(STAMP) ## planted bugs that are found within seconds
	@$(BIN)/python -m tests.mutants --gate

.PHONY: chaos-gate
chaos-gate: $(STAMP) ## real faults on real processes, minutes long
	@$(BIN)/python -m tests.chaos --minutes 3

.PHONY: fmt
fmt: $(STAMP) ## format the code and mend what can be mended by rule
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .

.PHONY: lint
lint: $(STAMP) ## style: ruff
	@$(BIN)/ruff check --quiet --output-format concise .
	@$(BIN)/ruff format --check --quiet . || { \
	    echo "error: not formatted: run 'make fmt'" >&2; exit 1; }

.PHONY: types
types: $(STAMP) ## types: mypy, strict
	@$(BIN)/mypy

.PHONY: arch
arch: $(STAMP) ## imports go one way
	@out=$$($(BIN)/lint-imports --no-cache 2>&1) || { echo "$$out" >&2; exit 1; }

.PHONY: verify
verify: $(STAMP) ## the API description is in style, the generated code fresh
	@$(BIN)/buf lint proto
	@$(BIN)/python proto/generate.py --check

.PHONY: proto
proto: $(STAMP) ## generate proto/gen from proto/raftpb
	@$(BIN)/python proto/generate.py

.PHONY: sim
sim: $(STAMP) ## one simulated run: make sim SEED=1 [STEPS=20000], or LEVEL=B SEED=1
	@$(BIN)/python -m $(SIM_$(LEVEL)) --seed $(SEED) $(ARGS)

.PHONY: sim-soak
sim-soak: $(STAMP) ## fresh seeds for the report: make sim-soak [LEVEL=B] SEEDS=5000
	@$(BIN)/python -m $(SIM_$(LEVEL)) $(SOAK_$(LEVEL)) --seeds $(SEEDS) \
	    --jobs $(JOBS) --results $(RESULTS) $(ARGS)

.PHONY: mutants
mutants: $(STAMP) ## prove that planted bugs are found, for the report
	@$(BIN)/python -m tests.mutants --results $(RESULTS) $(ARGS)

.PHONY: chaos
chaos: $(STAMP) ## real faults on real processes, for the report: MINUTES=30
	@$(BIN)/python -m tests.chaos --minutes $(MINUTES) --results $(RESULTS) $(ARGS)

.PHONY: fuzz
fuzz: $(STAMP) ## random bytes and commands, for the report: MINUTES=30
	@$(BIN)/python -m tests.fuzz --minutes $(MINUTES) --results $(RESULTS) $(ARGS)

.PHONY: report
report: $(STAMP) ## write docs/reliability.md from all runs on record
	@$(BIN)/python -m tests.proof

.PHONY: e2e
e2e: $(STAMP) ## all tests on real processes, and the slow ones
	@$(BIN)/pytest -q -m "e2e or slow" $(ARGS)

.PHONY: bench
bench: $(STAMP) ## measure beside etcd and others, a quarter of an hour: ARGS=--help
	@$(BIN)/python -m tests.bench --json bench.json --plot bench.svg $(ARGS)

.PHONY: previous
previous: ## pack a release for the upgrade tests: REV=commit VERSION=1.2.3
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
	git archive $(REV) raftd proto/gen/raftpb | tar -x -C "$$folder" && \
	mv "$$folder/proto/gen/raftpb" "$$folder/" && rm -r "$$folder/proto" && \
	find "$$folder" -name '*.pyi' -delete && \
	mkdir "$$folder/raftd-$(VERSION).dist-info" && \
	printf 'Metadata-Version: 2.1\nName: raftd\nVersion: $(VERSION)\n' \
	    > "$$folder/raftd-$(VERSION).dist-info/METADATA" && \
	rm -f tests/e2e/previous/*.tar.xz && \
	tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=2000-01-01 -C "$$folder" \
	    -cJf tests/e2e/previous/raftd-$(VERSION).tar.xz .

.PHONY: bench-scale
bench-scale: $(STAMP) ## measure a million keys: checkpoint, new member, restart
	@$(BIN)/python -m tests.bench.scale $(ARGS)

.PHONY: bench-report
bench-report: $(STAMP) ## write figures into docs/performance.md: ARGS="a.json b.json"
	@mkdir -p docs/performance
	@$(BIN)/python -m tests.bench --show $(ARGS) --into docs/performance.md \
	    --plot docs/performance/bench.svg

.PHONY: bench-smoke
bench-smoke: $(STAMP) ## measure, seconds long: that it runs, and the cost per put
	@$(BIN)/python -m tests.bench --smoke $(ARGS)

.PHONY: docker
docker: $(STAMP) ## build the image, run three containers, prove them, take them down
	@cluster/verify.sh $(ARGS)

.PHONY: clean
clean: ## remove everything that make can make again
	@rm -rf .venv .raftd dist build .mypy_cache .ruff_cache .pytest_cache \
	    .hypothesis .import_linter_cache .bench bench.json bench.svg bench-*.svg
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
