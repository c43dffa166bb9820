# `make demo` and `make test` set everything up; both work in a fresh clone.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DATA ?= ../shared/data

.PHONY: demo test check models clean

demo: $(VENV)/.base
	$(BIN)/cyclecast demo --out demo --overwrite

# Four workers for two cores: live tests wait more than they compute. Bytecode is kept: the tests start many programs.
test: $(VENV)/.dev
	OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -q -n 4 --dist loadfile

# The audit waits for the network most of the time, so it runs beside the others; its lines come last.
check: $(VENV)/.dev
	@$(BIN)/python -m tests.audit > $(VENV)/audit.txt 2>&1 & audit=$$!; failed=0; \
	for command in "ruff format --check ." "ruff check ." mypy lint-imports; do \
		echo "$(BIN)/$$command"; $(BIN)/$$command || { failed=1; break; }; \
	done; \
	wait $$audit || failed=1; cat $(VENV)/audit.txt; exit $$failed

# `make models` learns the bundled looks again, which takes hours on two cores; run it again to resume. DATA is the folder
# with the image sets that CONTRIBUTING.md lists. Other numbers of steps give other models.
STYLE = $(BIN)/cyclecast style --footage $(DATA)/photos
learn = $(STYLE) $(2) -o runs/$(1).onnx --steps $(3) --overwrite && $(call in_int8,$(1)) && cp runs/$(1).onnx cyclecast/models/ && $(call draw_sample,$(1))
in_int8 = $(BIN)/cyclecast quantize runs/$(1).onnx --photos $(DATA)/photos -o cyclecast/models/int8/$(1).onnx --overwrite
draw_sample = $(BIN)/cyclecast demo --model $(1) --out runs/$(1)-demo --overwrite && $(BIN)/python -c "import cv2; cv2.imwrite( \
	'cyclecast/models/$(1).jpg', cv2.resize(cv2.imread('runs/$(1)-demo/before-after.jpg'), (1280, 360), interpolation=cv2.INTER_AREA))"
models: $(VENV)/.dev runs/ukiyoe-prints runs/pencil-pairs
	$(call learn,monet,$(DATA)/monet2photo/trainA,3500)
	$(call learn,cezanne,$(DATA)/cezanne2photo/trainA,2500)
	$(call learn,ukiyoe,runs/ukiyoe-prints,4000)
	$(call learn,starry-night,$(DATA)/paintings/starry-night.jpg,4600)
	$(call learn,great-wave,$(DATA)/paintings/great-wave.jpg,3500)
	$(call learn,the-scream,$(DATA)/paintings/the-scream.jpg,3500)
	$(call learn,water-lilies,$(DATA)/paintings/water-lilies.jpg,3500)
	$(call learn,pencil,--pairs runs/pencil-pairs/before runs/pencil-pairs/after,1100)

# A folder of links to the images that a list names.
runs/ukiyoe-prints: cyclecast/models/ukiyoe-prints.txt
	rm -rf $@ && mkdir -p $@
	while read -r name; do \
		test -e "$(DATA)/$$name" || { echo "$(DATA)/$$name: no such file; DATA=... names the folder of the image sets" >&2; exit 1; }; \
		ln -s "$(abspath $(DATA))/$$name" "$@/$$(echo "$$name" | tr / -)"; \
	done < $<

runs/pencil-pairs: examples/pencil_pairs.py
	$(BIN)/python examples/pencil_pairs.py $(DATA)/photos $@

$(BIN)/python:
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.base: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -q -e .
	touch $@

# One call, so that the pin of torch applies before another package can request a larger build. The tests in browsers need
# onnxruntime-web, and skip without it.
$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -q -e '.[dev]'
	-$(BIN)/python -m tests.web_runtime
	touch $@ $(VENV)/.base

clean:
	rm -rf $(VENV) demo dist build
