# Each target sets up what it needs on a bare machine with Python 3.11 and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Byte code is written at installation even where the environment forbids it: start-up time depends on it.
unexport PYTHONDONTWRITEBYTECODE
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo test test-all bench lint install clean

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: install
	$(BIN)/flyball demo

test: install
	$(BIN)/python -m pytest -n 2 -q -m "not slow"

test-all: install
	$(BIN)/python -m pytest -n 2 -q

bench: install
	$(BIN)/python -m benchmarks

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) .bench demo
