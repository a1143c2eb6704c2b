# One command each; `make help` lists them. Everything lives in .venv and .local of this folder.
SHELL := /bin/bash
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
# The first Python that is new enough; PYTHON=/path/to/python overrides it.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { command -v $$p; break; }; done)
UP_ARGS ?=
PYTEST_ARGS ?=
BENCH_ARGS ?=
# Tests at a time: those through `up` wait more than they work.
WORKERS ?= 4
IMAGE ?= gpu-telemetry:latest
BASE_IMAGE ?=

.PHONY: help deps deps-dev build docker-image run dev-up setup-etcd stop-etcd run-upload run-collect run-query \
	test test-unit test-integration test-e2e test-faults test-coverage coverage-html test-load bench \
	benchmark-queue generate-openapi lint format clean

help: ## Show this list
	@grep -hE '^[a-z][a-z0-9-]*:.*?## ' $(MAKEFILE_LIST) | awk 'BEGIN {FS = ":.*?## "} {printf "  \033[1m%-18s\033[0m %s\n", $$1, $$2}'

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "gpu-telemetry needs Python 3.11 or later: install it, or say PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.deps: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[local]'
	@touch $@

$(VENV)/.deps-dev: $(VENV)/.deps
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[local,dev]'
	@touch $@

deps: $(VENV)/.deps ## Set up .venv with what running needs (byte-compiled)
	@$(BIN)/python -m compileall -q functions shared local_runtime

deps-dev: deps $(VENV)/.deps-dev ## Set up .venv with what tests and lint need too

build: deps ## Build a wheel into dist/
	@$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps -w dist .
	@ls dist/*.whl

docker-image: ## Build the image of the functions: IMAGE=gpu-telemetry:latest, BASE_IMAGE= for another base
	docker build --network=host $(if $(BASE_IMAGE),--build-arg BASE_IMAGE=$(BASE_IMAGE)) -t $(IMAGE) .

run: deps ## Start the whole pipeline in the foreground (UP_ARGS for more options)
	@exec $(BIN)/gpu-telemetry up $(UP_ARGS)

dev-up: run ## The same as run

# `up` starts an etcd of its own unless ETCD_ENDPOINTS is set; these talk to the one that setup-etcd starts.
setup-etcd run-upload run-collect run-query: export ETCD_ENDPOINTS ?= 127.0.0.1:2379

setup-etcd: deps ## Start an etcd alone in the background, on ETCD_ENDPOINTS (data in .local/etcd-alone)
	@$(BIN)/python -m local_runtime.embedded_etcd start --data-dir .local/etcd-alone --endpoint $(ETCD_ENDPOINTS)

stop-etcd: deps ## Stop the etcd that setup-etcd started
	@$(BIN)/python -m local_runtime.embedded_etcd stop --data-dir .local/etcd-alone

run-upload: deps ## Run the upload function alone on PORT (8081) against ETCD_ENDPOINTS
	PORT=$${PORT:-8081} exec $(BIN)/functions-framework --source functions/upload/main.py --target upload --host 127.0.0.1

run-collect: deps ## Run the collect function alone on PORT (8082) against ETCD_ENDPOINTS
	PORT=$${PORT:-8082} exec $(BIN)/functions-framework --source functions/collect/main.py --target collect --host 127.0.0.1

run-query: deps ## Run the query function alone on PORT (8080) against ETCD_ENDPOINTS
	PORT=$${PORT:-8080} exec $(BIN)/functions-framework --source functions/query/main.py --target query --host 127.0.0.1

test: deps-dev ## Run all tests, a file per core at a time (under 5 minutes)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(PYTEST_ARGS)

test-unit: deps-dev ## Run the tests that need nothing but Python
	$(BIN)/python -m pytest tests/unit $(PYTEST_ARGS)

test-integration: deps-dev ## Run the tests on a real etcd
	$(BIN)/python -m pytest tests/integration $(PYTEST_ARGS)

test-e2e: deps-dev ## Run the tests through `gpu-telemetry up`
	$(BIN)/python -m pytest tests/e2e $(PYTEST_ARGS)

test-faults: deps-dev ## Kill, stop and disturb every part under load, 4 minutes (FAULTS=long for ten times as much)
	$(BIN)/python -m pytest tests/faults $(PYTEST_ARGS)

test-coverage: deps-dev ## Run unit and integration tests and print what they cover
	$(BIN)/python -m pytest --cov --cov-report=term tests/unit tests/integration $(PYTEST_ARGS)

coverage-html: deps-dev ## The same as a page in htmlcov/
	$(BIN)/python -m pytest --cov --cov-report=html tests/unit tests/integration $(PYTEST_ARGS)

test-load: deps ## Ingest and freshness at a small size; fails if a row was lost (under 2 minutes)
	$(BIN)/python -m benchmarks ingest freshness --quick $(BENCH_ARGS)

bench: deps ## Measure everything beside VictoriaMetrics and write docs/benchmarks.md (about 15 minutes)
	$(BIN)/python -m benchmarks all --output docs/benchmarks.md $(BENCH_ARGS)

benchmark-queue: deps ## Measure how soon small uploads are queryable at 10,000 rows/s
	$(BIN)/python -m benchmarks freshness $(BENCH_ARGS)

generate-openapi: deps ## Write docs/openapi.json and docs/api.md from the declarations
	$(BIN)/python -m shared.api docs

lint: deps-dev ## ruff, mypy --strict and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: deps-dev ## Let ruff put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove what was built (not .local, where your data is)
	rm -rf $(VENV) dist build htmlcov .coverage .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.local/*' -prune -exec rm -rf {} +
