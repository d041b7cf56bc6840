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

.PHONY: help setup run test prove check format bench clients conformance torture soak rotation scale usage contract fuzz mutation docs new-connector clean lock

help: ## list these targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

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

setup: $(VENV)/.run ## install Headgate and its simulator into .venv

run: setup ## start Headgate on 127.0.0.1:4600 (HEADGATE_HOST, HEADGATE_PORT, HEADGATE_DATA)
	@exec $(BIN)/headgate serve --simulator

test: check ## run the checks and all tests, as CI does
	@$(BIN)/pytest -n 2 --dist loadfile

prove: $(VENV)/.dev ## run the long tests: kills, rotations and floods, in their quick forms (~3 min)
	@$(BIN)/pytest -n 2 -m prove

check: $(VENV)/.dev ## check format, lint, layers, style and types
	@$(BIN)/ruff format --check --quiet . && $(BIN)/ruff check --quiet .
	@$(BIN)/lint-imports --no-cache | tail -n 3
	@$(BIN)/python tools/tidy.py
	@$(BIN)/pyright

format: $(VENV)/.dev ## fix lint findings and format the code
	@$(BIN)/ruff check --quiet --fix . ; $(BIN)/ruff format --quiet .

bench: $(VENV)/.dev ## measure performance next to other gateways (ARGS="--publish")
	@$(BIN)/python -m bench.run $(ARGS)

soak: $(VENV)/.dev ## make a million mixed calls, and check memory and connections (~20 min)
	@$(BIN)/python -m rigs.soak $(ARGS)

scale: $(VENV)/.dev ## measure start, key check and list pages with 10,000 keys (~2 min)
	@$(BIN)/python -m rigs.scale $(ARGS)

usage: $(VENV)/.dev ## query the usage of ten million receipts on each database (~10 min)
	@$(BIN)/python -m rigs.usage $(ARGS)

rotation: $(VENV)/.dev ## rotate the keys of 5,000 secrets under load, with 20 kills (~2 min)
	@$(BIN)/python -m rigs.rotation $(ARGS)

torture: $(VENV)/.dev ## kill the server, fill its disk, fail its flushes, and check the ledger (ARGS="--quick")
	@$(BIN)/python -m rigs.torture $(ARGS)

clients: $(VENV)/.dev ## let Claude Code, Codex, mcp-remote and the inspector connect (fetches 1 GB)
	@$(BIN)/python -m rigs.mcp_clients

conformance: $(VENV)/.dev ## run the official MCP tests against server, client and login (ARGS="server 2026-07-28")
	@$(BIN)/python -m rigs.mcp_conformance $(ARGS)

contract: $(VENV)/.dev ## test the platform API against its OpenAPI document (ARGS="--examples 50")
	@$(BIN)/python -m rigs.contract $(ARGS)

fuzz: $(VENV)/.fuzz ## fuzz every parser of untrusted bytes for 10 minutes (ARGS="--seconds 60 tap")
	@$(BIN)/python -m rigs.fuzz $(ARGS)

mutation: $(VENV)/.mutation ## run mutation tests (ARGS="ledger --again")
	@$(BIN)/python -m rigs.mutation $(ARGS)

new-connector: $(VENV)/.dev ## make the folder and the tests of a connector (NAME=some_service)
	@$(BIN)/python -m tools.new_connector $(NAME)

docs: $(VENV)/.docs ## build the documentation's site from docs/ into site/
	@$(BIN)/zensical build --clean --strict
	@echo "==> site/index.html"

lock: $(UV) ## update the lock files, with hashes
	@for set in run dev fuzz mutation docs build uv; do $(BIN)/python tools/lock.py $$set; done

clean: ## remove the environment; data stays
	rm -rf .venv .tools .bench site .cache
