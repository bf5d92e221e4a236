# Everything a user or a developer does, one word each. `make help` lists it.
SHELL := bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help env tools cluster demo test test-oldest-redis check format bench clean lock
.DEFAULT_GOAL := help

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

env: $(VENV)/.ready  ## the Python environment in .venv

$(VENV)/.ready: constraints.txt pyproject.toml
	@hack/env.sh "$(PYTHON)" "$(VENV)"
	@touch $@

tools:  ## prometheus and redis-server, from Debian's packages when absent
	@hack/tools.sh

cluster:  ## a Kubernetes control plane for tests, built once from published Go modules
	@hack/cluster/build.sh

demo: env tools  ## the whole loop on real parts, about a minute
	@$(BIN)/trimtab demo

test: env  ## every test that this machine can run
	@hack/tools.sh tests
	@$(BIN)/pytest $(PYTEST_ARGS)

test-oldest-redis: env  ## what talks to Redis, against Redis 6.2
	@hack/tools.sh tests
	@hack/oldest-redis/test.sh $(BIN)/python $(PYTEST_ARGS)

check: env  ## lint, types, import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: env  ## format and fix what can be fixed
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: bench-idle bench-queue bench-balancer bench-fleet bench-limit bench-routing  ## all benchmarks (bench-scaling needs TRACE=FILE)

bench-limit-real: env tools
	@$(BIN)/python -m bench.limit.real

bench-%: env tools
	@$(BIN)/python -m bench.$*

LOCK := uv pip compile pyproject.toml --generate-hashes --universal --python-version 3.11 --no-header --quiet

lock:  ## compile both constraints files anew (needs uv)
	$(LOCK) --extra controller --extra demo --extra dev --output-file constraints.txt
	$(LOCK) --extra controller --constraint constraints.txt --output-file constraints-controller.txt

clean:  ## remove what was made here
	rm -rf $(VENV) build dist out .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
