# `make demo` and `make test` set up everything they need. PYTHON chooses the interpreter.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help setup demo test test-extended lint types clean

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
# Tests of these rooms load the inference engines and the renderer. They have processes of their own: in one process with
# all tests, a worker ended without a word near its end (seen three times; which library does it is not known yet).
USE = $(foreach room,checks commands data datasets evaluation inference io model polarimetry render rigs,tests/$(room))

test: setup  ## The test suite, under 8 minutes on two cores
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile -m "not extended" $(USE)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile -m "not extended" tests $(USE:%=--ignore=%)

test-extended: setup  ## The long checks as well
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile $(USE)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile tests $(USE:%=--ignore=%)

lint: setup  ## ruff: style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup  ## mypy
	$(BIN)/mypy

clean:  ## Remove what was built, not what was trained
	rm -rf .venv build dist demo-output .pytest_cache .mypy_cache .ruff_cache .hypothesis
