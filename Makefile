# `make demo` and `make test` are all the set-up there is; both work in a fresh clone.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DATA ?= ../shared/data

.PHONY: demo test check models model clean

demo: $(VENV)/.base
	$(BIN)/cyclecast demo --out demo --overwrite

test: $(VENV)/.dev
	$(BIN)/python -m pytest -q

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Rebuilds the bundled models from their data: a teacher, its student, the export. DATA holds the three sets.
models: $(VENV)/.dev
	$(MAKE) model NAME=monet PLACES="--data $(DATA)/monet2photo"
	$(MAKE) model NAME=winter PLACES="--data $(DATA)/summer2winter"
	$(MAKE) model NAME=ukiyoe PLACES="--domain-a $(DATA)/ukiyoe2photo/trainA --domain-b $(DATA)/monet2photo/trainB \
		--set samples_b=$(DATA)/monet2photo/testB"

model: $(VENV)/.dev
	$(BIN)/cyclecast train cyclegan --config cyclecast/models/$(NAME)-teacher.toml $(PLACES) --out runs/$(NAME)-teacher
	$(BIN)/cyclecast train distill --config cyclecast/models/$(NAME).toml $(PLACES) --set teacher=runs/$(NAME)-teacher \
		--out runs/$(NAME)-student
	$(BIN)/cyclecast export runs/$(NAME)-student -o cyclecast/models/$(NAME).onnx --overwrite

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
