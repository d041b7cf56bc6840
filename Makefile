# The entry points: `make run` starts Headgate, `make test` checks everything that CI checks.
# Everything lands in .tools, .venv and data inside this folder; `make clean` removes the first two.

# A part of a pipe that fails must not pass for its last part.
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
PYTHON ?= python3
UV_VERSION := 0.13.8
UV := .tools/bin/uv
VENV := .venv
BIN := $(VENV)/bin
export PYTHONDONTWRITEBYTECODE =
# The machine's own certificate store, as pip and curl use it.
export UV_SYSTEM_CERTS = true

.PHONY: help setup run test prove check format bench torture soak rotation scale contract fuzz mutation clean lock

help: ## what can be done here
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(UV):
	@echo "==> uv $(UV_VERSION)"
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-warn-script-location \
		--root-user-action ignore --require-hashes --target .tools -r requirements/uv.lock

$(VENV)/.run: requirements/run.lock requirements/build.lock pyproject.toml simulator/pyproject.toml | $(UV)
	@echo "==> environment"
	@test -x $(BIN)/python || $(UV) venv --quiet --python $(PYTHON) $(VENV)
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes --compile-bytecode -r requirements/run.lock
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --build-constraint requirements/build.lock --editable . --editable simulator
	@$(BIN)/python -m compileall -q src simulator/src
	@touch $@

$(VENV)/.dev: requirements/dev.lock $(VENV)/.run
	@echo "==> development tools"
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements/dev.lock
	@touch $@

$(VENV)/.%: requirements/%.lock $(VENV)/.dev
	@echo "==> tools of $*"
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements/$*.lock
	@touch $@

setup: $(VENV)/.run ## prepare; .venv/bin/headgate then runs

run: setup ## start Headgate on 127.0.0.1:4600 (HEADGATE_HOST, HEADGATE_PORT, HEADGATE_DATA)
	@exec $(BIN)/headgate serve --simulator

test: check ## everything that CI checks
	@$(BIN)/pytest -n 2

prove: $(VENV)/.dev ## the tests that are rigs: kills, rotations and floods, in their quick forms (~3 min)
	@$(BIN)/pytest -n 2 -m prove

check: $(VENV)/.dev ## format, lint, types, layers, tidy
	@$(BIN)/ruff format --check --quiet . && $(BIN)/ruff check --quiet .
	@$(BIN)/lint-imports --no-cache | tail -n 3
	@$(BIN)/python tools/tidy.py
	@$(BIN)/pyright

format: $(VENV)/.dev ## put the code into shape
	@$(BIN)/ruff check --quiet --fix . ; $(BIN)/ruff format --quiet .

bench: $(VENV)/.dev ## figures of performance, side by side with peers in one run (ARGS="--publish")
	@$(BIN)/python -m bench.run $(ARGS)

soak: $(VENV)/.dev ## a million mixed calls: does memory grow, is anything left open (~20 min)
	@$(BIN)/python -m rigs.soak $(ARGS)

scale: $(VENV)/.dev ## 10,000 keys and 1,000 credentials: start, key check, list pages (~2 min)
	@$(BIN)/python -m rigs.scale $(ARGS)

rotation: $(VENV)/.dev ## replace all keys of 5,000 secrets under load, with 20 kills (~2 min)
	@$(BIN)/python -m rigs.rotation $(ARGS)

torture: $(VENV)/.dev ## kill it, fill its disk, fail its flushes, and look at its books (ARGS="--quick")
	@$(BIN)/python -m rigs.torture $(ARGS)

contract: $(VENV)/.dev ## hold the platform API to its own document, as several roles (ARGS="--examples 50")
	@$(BIN)/python -m rigs.contract $(ARGS)

fuzz: $(VENV)/.fuzz ## feed every reader of foreign bytes for 10 minutes (ARGS="--seconds 60 tap")
	@$(BIN)/python -m rigs.fuzz $(ARGS)

mutation: $(VENV)/.mutation ## break the code, count what no test notices (ARGS="ledger --again")
	@$(BIN)/python -m rigs.mutation $(ARGS)

lock: $(UV) ## resolve the dependencies anew, with hashes
	@for set in run dev fuzz mutation build uv; do $(BIN)/python tools/lock.py $$set; done

clean: ## remove the environment, not the data
	rm -rf .venv .tools .bench
