# make run:  upscale a photograph with the runtime's few dependencies
# make test: every linter and test, and the site
# make lint: the linters alone
# make cover: the tests alone, and which lines they leave out (a third slower)
# make docs: the site, into build/site
# make dist: wheel and source archive, into build/dist
# make resolve: every extra for every system and Python, from the package index (a quarter of an hour)
# make fuzz: damaged files and killed runs, by the ten thousand (a quarter of an hour)
# make full: the official sizes (16 GiB of memory, 20 GB of disk, an hour)

PYTHON ?= python3
TORCH ?= torch==2.13.0
RUN := .venv
DEV := .venv-dev
GPU := .onnxruntime-gpu
TRITON := .triton
PYTEST := $(DEV)/bin/pytest -n 2 --dist loadfile --timeout 900
SITE := NO_MKDOCS_2_WARNING=1 $(DEV)/bin/mkdocs build --strict --quiet

.PHONY: run test lint cover docs dist resolve full fuzz clean

run: $(RUN)/installed
	mkdir -p out
	$(RUN)/bin/dossr-run tests/images/astronaut.png -o out/astronaut_x4.png --overwrite

test: lint docs $(GPU)/installed $(TRITON)/installed
	$(PYTEST)

cover: $(DEV)/installed $(GPU)/installed $(TRITON)/installed
	$(PYTEST) --cov --cov-report term

lint: $(DEV)/installed
	$(DEV)/bin/ruff check .
	$(DEV)/bin/ruff format --check .
	$(DEV)/bin/mypy
	$(DEV)/bin/lint-imports

dist: $(DEV)/installed
	$(DEV)/bin/python -m build --outdir build/dist

docs: $(DEV)/installed
	$(SITE)

resolve: $(DEV)/installed
	$(DEV)/bin/python tests/resolve.py

full: $(DEV)/installed $(GPU)/installed
	$(DEV)/bin/pytest -m full -s

fuzz: $(DEV)/installed
	mkdir -p out
	$(DEV)/bin/python tests/reliability/run.py --json out/reliability.json

clean:
	rm -rf $(RUN) $(DEV) $(GPU) $(TRITON) out build *.egg-info

$(RUN)/installed: pyproject.toml
	$(PYTHON) -m venv $(RUN)
	$(RUN)/bin/pip install --quiet --editable '.[cpu]'
	touch $@

$(DEV)/installed: pyproject.toml
	$(PYTHON) -m venv $(DEV)
	$(DEV)/bin/pip install --quiet '$(TORCH)'
	$(DEV)/bin/pip install --quiet --editable '.[dev]'
	touch $@

# In a folder of its own, because it cannot be installed beside onnxruntime; tests of the CUDA provider use it.
$(GPU)/installed: $(DEV)/installed
	$(DEV)/bin/pip install --quiet --no-deps --target $(GPU) 'onnxruntime-gpu>=1.31' && touch $@ \
		|| echo "no onnxruntime-gpu for this machine: the tests of its CUDA provider are skipped"

# A tritonserver for the tests, which needs no GPU. It is built for NumPy 1, which therefore lies beside it.
$(TRITON)/installed: $(DEV)/installed
	$(DEV)/bin/pip install --quiet --no-deps --target $(TRITON) nvidia-pytriton==0.7.0 'numpy<2' && touch $@ \
		|| echo "no nvidia-pytriton for this machine: the tests of its server are skipped"
