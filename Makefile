# `make demo` and `make test` set everything up; both work in a fresh clone.
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

# `make models` trains the bundled models again: teachers, students, exports. It takes hours on two cores;
# typed again, it resumes. DATA is the folder with the image sets that CONTRIBUTING.md lists.
# All students learn from the same photos: the prints have none, and few images of the winter set show snow.
MONET = --data $(DATA)/monet2photo
UKIYOE = --domain-a $(DATA)/ukiyoe2photo/trainA --domain-b $(DATA)/monet2photo/trainB --set samples_b=$(DATA)/monet2photo/testB
WINTER = --domain-b runs/snow --set samples_a=$(DATA)/monet2photo/testB --domain-a
train = $(BIN)/cyclecast train $(1) --out runs/$(2) $(5) \
	$(if $(wildcard runs/$(2)/checkpoint.pt),--resume,--config cyclecast/models/$(3).toml $(4))
build_model = $(call train,cyclegan,$(1)-teacher,$(1)-teacher,$(2),$(4)) \
	&& $(call train,distill,$(1)-student,$(1),$(3) --set teacher=runs/$(1)-teacher) \
	&& $(BIN)/cyclecast export runs/$(1)-student -o cyclecast/models/$(1).onnx --overwrite \
	&& $(call draw_sample,$(1))
draw_sample = $(BIN)/cyclecast demo --model $(1) --out runs/$(1)-demo --overwrite && $(BIN)/python -c "import cv2; cv2.imwrite( \
	'cyclecast/models/$(1).jpg', cv2.resize(cv2.imread('runs/$(1)-demo/before-after.jpg'), (1280, 360), interpolation=cv2.INTER_AREA))"
models: $(VENV)/.dev runs/green runs/snow
	$(call build_model,monet,$(MONET),$(MONET))
	$(call build_model,ukiyoe,$(UKIYOE),$(UKIYOE))
	$(call build_model,winter,$(WINTER) runs/green,$(WINTER) $(DATA)/monet2photo/trainB,--until 250)

# A folder of links to the images that a list names.
runs/%: cyclecast/models/winter-%.txt
	rm -rf $@ && mkdir -p $@
	while read -r name; do \
		test -e "$(DATA)/$$name" || { echo "$(DATA)/$$name: no such file; DATA=... names the folder of the image sets" >&2; exit 1; }; \
		ln -s "$(abspath $(DATA))/$$name" "$@/$$(echo "$$name" | tr / -)"; \
	done < $<

$(BIN)/python:
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.base: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -q -e .
	touch $@

# One call, so that the pin of torch applies before another package can request a larger build.
$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -q -e '.[dev]'
	touch $@ $(VENV)/.base

clean:
	rm -rf $(VENV) demo dist build
