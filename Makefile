# `make demo` and `make test` set up everything they need. PYTHON chooses the interpreter.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help setup demo test test-extended lint types docs wheel clean

help:  ## What there is to make
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(READY)  ## Create .venv with the package (editable) and all development extras

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: setup  ## Polarized stereo in, disparity and images out, with the weights that ship
	$(BIN)/crosspol demo --output demo-output

# One thread a worker: two workers with two threads each would only get in each other's way.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile

test: setup  ## The test suite, under 8 minutes on two cores
	$(PYTEST) -m "not extended"

test-extended: setup  ## The long checks as well
	$(PYTEST)

lint: setup  ## ruff: style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup  ## mypy
	$(BIN)/mypy

docs: setup  ## The documentation site, into build/site; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

wheel: setup  ## Build sdist and wheel, and try the wheel without extras in an environment of its own (no network)
	$(BIN)/python -m scripts.check_wheels --versions installed

clean:  ## Remove what was built, not what was trained
	rm -rf .venv build dist demo-output .pytest_cache .mypy_cache .ruff_cache .hypothesis
