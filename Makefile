# `make demo` and `make test` are all the set-up there is; both work in a fresh clone.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DATA ?= ../shared/data

.PHONY: demo test check models clean

demo: $(VENV)/.base
	$(BIN)/cyclecast demo --out demo --overwrite

test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Rebuilds the bundled models from their data: teachers, students, exports; an hour and a half on two cores. DATA holds the folders.
# The prints have no photos of their own, and few of the winter pictures show snow: all models learn from the same photos.
MONET = --data $(DATA)/monet2photo
UKIYOE = --domain-a $(DATA)/ukiyoe2photo/trainA --domain-b $(DATA)/monet2photo/trainB --set samples_b=$(DATA)/monet2photo/testB
WINTER = --domain-a $(DATA)/monet2photo/trainB --domain-b runs/snow --set samples_a=$(DATA)/monet2photo/testB
models: $(VENV)/.dev
	$(BIN)/cyclecast train cyclegan --config cyclecast/models/monet-teacher.toml $(MONET) --out runs/monet-teacher
	$(BIN)/cyclecast train distill --config cyclecast/models/monet.toml $(MONET) --set teacher=runs/monet-teacher --out runs/monet-student
	$(BIN)/cyclecast export runs/monet-student -o cyclecast/models/monet.onnx --overwrite
	$(BIN)/cyclecast train cyclegan --config cyclecast/models/ukiyoe-teacher.toml $(UKIYOE) --out runs/ukiyoe-teacher
	$(BIN)/cyclecast train distill --config cyclecast/models/ukiyoe.toml $(UKIYOE) --set teacher=runs/ukiyoe-teacher --out runs/ukiyoe-student
	$(BIN)/cyclecast export runs/ukiyoe-student -o cyclecast/models/ukiyoe.onnx --overwrite
	mkdir -p runs/snow
	while read name; do ln -sf $(abspath $(DATA))/summer2winter/trainB/$$name runs/snow/; done < cyclecast/models/winter-snow.txt
	$(BIN)/cyclecast train cyclegan --config cyclecast/models/winter-teacher.toml $(WINTER) --out runs/winter-teacher
	$(BIN)/cyclecast train distill --config cyclecast/models/winter.toml $(WINTER) --set teacher=runs/winter-teacher --out runs/winter-student
	$(BIN)/cyclecast export runs/winter-student -o cyclecast/models/winter.onnx --overwrite

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
