# Two commands set everything up: `make train` and `make test`. Each makes the environment it needs.

PYTHON ?= python3
VENV   ?= .venv
ARGS   ?=
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: train test lint bench torture combinations reproduce gallery clean help

help:  ## show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

train: $(VENV)/.run  ## train a small GPT on real text, in about a minute; ARGS="model/position=rotary"
	@$(BIN)/gptkit train $(ARGS)

test: $(VENV)/.dev  ## run the tests; ARGS="-k rotary"
	@$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.dev  ## formatting, lint, types, and the walls between the rooms
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/pyright

bench: $(VENV)/.dev  ## measure speed and memory beside other implementations, in one run
	@cd tests && $(abspath $(BIN))/python -m bench $(ARGS)

torture: $(VENV)/.dev  ## the slow tests: kills, faults and long runs
	@$(BIN)/python -m pytest -m slow $(ARGS)

combinations: $(VENV)/.dev  ## each position with each attention with each mask: combinations.md
	@$(BIN)/python -m gptkit.testing.combinations product out=combinations.md $(ARGS)

reproduce: $(VENV)/.dev  ## orderings that papers report, tried here: docs/reproduce.md; ARGS="3 4 --seeds 1,2,3"
	@cd tests && $(abspath $(BIN))/python -m reproduce $(ARGS)

gallery: $(VENV)/.dev  ## every part on a page: gallery/index.html; the list in docs/gallery.md
	@$(BIN)/gptkit gallery out=gallery && cp gallery/gallery.md docs/gallery.md && mkdir -p docs/images/parts && cp gallery/pictures/*.svg docs/images/parts

clean:  ## remove the environment and what the tools left
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache

$(VENV)/bin/python:
	@echo "Making a virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing gptkit and what it needs (once)"
	@$(PIP) --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing gptkit and its tools (once)"
	@$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.run
