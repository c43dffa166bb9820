# `make demo` and `make test` are all the set-up there is; both work in a fresh clone.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DATA ?= ../shared/data

.PHONY: demo test check models clean

demo: $(VENV)/.base
	$(BIN)/cyclecast demo --out demo --overwrite

test: $(VENV)/.dev
	$(BIN)/python -m pytest -q

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Rebuilds the bundled model from its data, in two stages, in about an hour on two cores. DATA holds monet2photo.
models: $(VENV)/.dev
	$(BIN)/cyclecast train cyclegan --config cyclecast/models/monet.toml --data $(DATA)/monet2photo --out runs/monet --until 3085
	$(BIN)/cyclecast train cyclegan --out runs/monet --resume --steps 5000 --set colour_weight=8
	$(BIN)/cyclecast export runs/monet -o cyclecast/models/monet.onnx --direction b2a --keep-colours 0.7 --overwrite

$(BIN)/python:
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.base: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -q -e .
	touch $@

# One call, so that torch's pin holds before anything can ask for a larger build of it.
$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -q -e '.[dev]'
	touch $@ $(VENV)/.base

clean:
	rm -rf $(VENV) demo dist build
