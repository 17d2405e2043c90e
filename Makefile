# `make help` lists what there is to do. Everything sets itself up on first use.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help install demo test test-all lint types fast slow bench clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | column -t -s "$$(printf '\t')"

.venv/installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable ".[dev]"
	touch $@

install: .venv/installed ## make the virtual environment in .venv
