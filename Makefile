# make run:  upscale a photograph with the runtime's few dependencies
# make test: every linter and test
# make full: the official sizes (16 GiB of memory, 20 GB of disk, a quarter of an hour)

PYTHON ?= python3
TORCH ?= torch==2.13.0
RUN := .venv
DEV := .venv-dev

.PHONY: run test full clean

run: $(RUN)/installed out/bundle/manifest.json
	$(RUN)/bin/dossr-run tests/images/astronaut.png -o out/astronaut_x4.png -b out/bundle --overwrite
	@echo "the picture is out/astronaut_x4.png (formula weights: see README, State)"

test: $(DEV)/installed
	$(DEV)/bin/ruff check .
	$(DEV)/bin/ruff format --check .
	$(DEV)/bin/mypy
	$(DEV)/bin/pytest

full: $(DEV)/installed
	$(DEV)/bin/pytest -m full -s

clean:
	rm -rf $(RUN) $(DEV) out build *.egg-info

# Until a trained demo model ships, the photograph goes through the tiny formula checkpoint.
out/bundle/manifest.json: | $(DEV)/installed
	mkdir -p out
	$(DEV)/bin/python -m dossr.export.formula out/tiny.ckpt --layout tests/golden/tiny_layout.json
	$(DEV)/bin/dossr-export out/tiny.ckpt -o out/bundle --config tests/golden/tiny.yaml --fp16

$(RUN)/installed: pyproject.toml
	$(PYTHON) -m venv $(RUN)
	$(RUN)/bin/pip install --quiet --editable '.[cpu]'
	touch $@

$(DEV)/installed: pyproject.toml
	$(PYTHON) -m venv $(DEV)
	$(DEV)/bin/pip install --quiet '$(TORCH)'
	$(DEV)/bin/pip install --quiet --editable '.[dev]'
	touch $@
