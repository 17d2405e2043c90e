# `make help` lists what there is to do. Everything sets itself up on first use.
PYTHON ?= python3
BIN := .venv/bin
SEED ?= 0
OUTPUT ?= outputs/demo/seed$(SEED)

.PHONY: help install demo check-demo test test-all checks lint types fast ddp quick slow cluster bench clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | column -t -s "$$(printf '\t')"

.venv/installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable ".[dev]"
	touch $@

install: .venv/installed ## make the virtual environment in .venv

demo: install ## the whole road on phantoms, to a FROC score and a report (SEED=0, OUTPUT=outputs/demo/seed0)
	SEED="$(SEED)" OUTPUT="$(OUTPUT)" experiments/demo/run.sh

check-demo: install ## the whole demo, and that it learns what a blob detector cannot
	$(BIN)/pytest -m demo

test: install ## lint, types, the fast tests and those with several processes
	@.ci/timed "make test" $(MAKE) --no-print-directory --jobs=2 checks

# Types take a minute of one core, beside which the tests run.
checks: lint types quick

test-all: test cluster slow ## and every slow test that can run here

lint: install ## style and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: install ## mypy, strict
	$(BIN)/mypy

# A file's tests share what is costly to make. Networks as small as the tests' gain nothing from more threads.
PARALLEL := OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses=logical --maxprocesses=4 --dist=loadfile --no-loadscope-reorder

# pytest ends with 5 where it finds no test to run, and that is a failure like any other.
fast: install ## the fast tests
	$(PARALLEL)

ddp: install ## the tests with several processes
	$(PARALLEL) -m ddp

# One session for both: each of its workers takes half a minute to import and collect.
quick: install
	$(PARALLEL) -m "(ddp or not slow) and not demo and not gpu and not cluster"

slow: install ## all other tests that can run here
	$(PARALLEL) -m "slow and not ddp and not demo and not gpu and not cluster"
	$(BIN)/pytest -m "gpu or cluster"

cluster: ## install what the SLURM tests need, where that takes no question: as root, on a Debian
	tests/operations/install_slurm.sh

bench: install ## time the slow stretches of the road
	$(BIN)/python -m experiments.bench

clean: ## remove what tools have made; outputs/ and .venv stay
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage
	find . -name __pycache__ -not -path "./.venv/*" -prune -exec rm -rf {} +
