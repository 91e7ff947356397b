# make train   install, train the default PointGoal agent, evaluate it on unseen rooms, leave videos
# make test    install, lint, type-check and run every test
# make help    the rest

VENV    ?= .venv
HABITAT_VENV ?= .venv-habitat
IGIBSON_VENV ?= .venv-igibson
RUN     ?= runs/first
PRESET  ?= pointgoal_room
ARGS    ?=
TORCH   ?= cpu
WORKERS ?= 2

SUPPORTED := import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))

# The first of these that is a Python we support; `make PYTHON=/path/to/python` overrides.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.10 python3; do \
	"$$p" -c '$(SUPPORTED)' 2>/dev/null \
	&& { echo "$$p"; break; }; done)

# PyTorch's own index has the small CPU build for Linux; PyPI's build for Linux brings gigabytes of CUDA libraries.
TORCH_INDEX_URL ?= https://download.pytorch.org/whl/cpu
TORCH_VERSION := $(shell sed -n 's/^torch==\([0-9.]*\).*/\1/p' constraints.txt)
TORCH_INSTALLED := import importlib.metadata as m; print(m.version("torch").partition("+")[0])
ACCELERATED := import sys, torch; sys.exit(not (torch.version.cuda or torch.version.hip))

BIN   := $(VENV)/bin
READY := $(VENV)/.ready-$(TORCH)
PIP    = $(BIN)/python -m pip --disable-pip-version-check

.PHONY: train test test-fast lint lint-ruff lint-format lint-types format venv clean help

help:
	@echo 'make train       train PRESET=$(PRESET) into RUN=$(RUN) (resumes it if it exists), then evaluate it'
	@echo 'make test        lint, types and every test'
	@echo 'make test-fast   the tests not marked slow'
	@echo 'make lint        ruff, ruff format --check, mypy'
	@echo 'make format      let ruff rewrite the files'
	@echo 'make venv        only create or update the environment in VENV=$(VENV)'
	@echo 'make habitat-env create or update the environment of habitat-lab in HABITAT_VENV=$(HABITAT_VENV) (Python 3.11)'
	@echo 'make test-habitat the tests that need habitat-lab, in that environment'
	@echo 'make igibson-env create or update the environment of iGibson in IGIBSON_VENV=$(IGIBSON_VENV) (Python 3.9; builds its renderer)'
	@echo 'make test-igibson the tests that need iGibson, in this environment and that one'
	@echo 'make clean       remove caches and build outputs (never runs, nor the environment)'
	@echo 'Variables: PYTHON (3.10 to 3.12), VENV, RUN, PRESET, ARGS (more options of `dreamer-nav train`),'
	@echo '           TORCH=cpu|cuda, TORCH_INDEX_URL, WORKERS (test processes)'

train: venv
	@if [ -f "$(RUN)/config.yaml" ]; then \
		echo "$(RUN) exists: resuming it (make train RUN=runs/other starts another)"; \
		$(BIN)/dreamer-nav train --run "$(RUN)" --resume $(ARGS); \
	else \
		$(BIN)/dreamer-nav train --preset "$(PRESET)" --run "$(RUN)" $(ARGS); \
	fi
	$(BIN)/dreamer-nav eval "$(RUN)" --video

test: lint
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

test-fast: venv
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not slow" $(ARGS)

lint: lint-ruff lint-format lint-types

lint-ruff: venv
	$(BIN)/ruff check .

lint-format: venv
	$(BIN)/ruff format --check .

lint-types: venv
	$(BIN)/mypy

format: venv
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

venv: $(READY)

# The environment. Run again only when the requirements change. A torch with CUDA or ROCm that is already there, in
# this environment or in PYTHON itself, is kept whatever its version.
$(READY): pyproject.toml export/pyproject.toml constraints.txt
	@case "$(TORCH)" in cpu|cuda) ;; *) echo "TORCH=$(TORCH): allowed are cpu and cuda" >&2; exit 1;; esac
	@if [ ! -x $(BIN)/python ]; then \
		[ -n "$(PYTHON)" ] || { echo "No Python 3.10, 3.11 or 3.12 found: install one, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }; \
		"$(PYTHON)" -c '$(SUPPORTED)' 2>/dev/null || { echo "PYTHON=$(PYTHON) is not Python 3.10, 3.11 or 3.12: name one that is" >&2; exit 1; }; \
		"$(PYTHON)" -c 'import ensurepip' 2>/dev/null || { echo "$(PYTHON) lacks ensurepip (on Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }; \
		if "$(PYTHON)" -c '$(ACCELERATED)' 2>/dev/null; then site=--system-site-packages; else site=; fi; \
		echo "$(PYTHON) -m venv $$site $(VENV)"; \
		"$(PYTHON)" -m venv $$site $(VENV); \
	elif ! $(PIP) --version >/dev/null 2>&1; then \
		$(BIN)/python -m ensurepip >/dev/null; \
	fi
	@if $(BIN)/python -c '$(ACCELERATED)' 2>/dev/null; then \
		echo "Keeping the torch that is installed: $$($(BIN)/python -c 'import torch; print(torch.__version__)')"; \
		grep -v '^torch==' constraints.txt > $(VENV)/constraints.txt; \
	else \
		$(MAKE) --no-print-directory torch-$(TORCH) && cp constraints.txt $(VENV)/constraints.txt; \
	fi
	@echo 'Installing everything else'
	@$(PIP) install --quiet -c $(VENV)/constraints.txt hatchling
	@$(PIP) install --quiet -c $(VENV)/constraints.txt --no-build-isolation \
		-e '.[bullet,atari,dmc,dev]' -e './export[writer]'
	@touch $@

.PHONY: torch-cpu torch-cuda

# The local tag +cpu is what keeps PyPI's build out. --no-deps: or PyTorch's index would be asked for the rest too.
torch-cpu:
	@if [ "$$($(BIN)/python -c '$(TORCH_INSTALLED)' 2>/dev/null)" = $(TORCH_VERSION) ]; then exit 0; fi; \
	echo "Installing the CPU build of torch $(TORCH_VERSION)"; \
	if [ "$$(uname -s)" = Linux ]; then \
		$(PIP) install --no-deps --retries 2 --timeout 15 --extra-index-url $(TORCH_INDEX_URL) "torch==$(TORCH_VERSION)+cpu" && exit 0; \
		echo "No CPU build of torch $(TORCH_VERSION) at $(TORCH_INDEX_URL): taking the default build, a large download" >&2; \
	fi; \
	$(PIP) install --no-deps torch==$(TORCH_VERSION)

torch-cuda:
	@echo "Installing torch $(TORCH_VERSION) with CUDA"
	@$(PIP) uninstall --quiet --yes torch 2>/dev/null; $(PIP) install torch==$(TORCH_VERSION)
	@$(BIN)/python -c '$(ACCELERATED)' || { echo "The torch that pip installed has no CUDA: install the build for your driver (https://pytorch.org/get-started) into $(VENV), then repeat" >&2; exit 1; }

# habitat-lab pins NumPy 1.26, so it has an environment of its own; see docs/habitat.md. Its torchvision must fit torch.
HABITAT_LAB    := 0.3.320260507
HABITAT_PYTHON ?= python3.11
HABITAT_READY  := $(HABITAT_VENV)/.ready
HABITAT_PIP     = $(HABITAT_VENV)/bin/python -m pip --disable-pip-version-check
TORCHVISION    := 0.28.0

.PHONY: habitat-env test-habitat

habitat-env: $(HABITAT_READY)

$(HABITAT_READY): pyproject.toml constraints.txt sim_adapters/habitat/hook/dreamer_nav_habitat_hook.py \
		dreamer_nav/habitat/plugin/dreamer_nav_search_path.py
	@if [ ! -x $(HABITAT_VENV)/bin/python ]; then \
		"$(HABITAT_PYTHON)" -c 'import ensurepip, sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null \
			|| { echo "HABITAT_PYTHON=$(HABITAT_PYTHON) is not Python 3.11 with ensurepip, which habitat-lab $(HABITAT_LAB) is tested with: name one" >&2; exit 1; }; \
		echo "$(HABITAT_PYTHON) -m venv $(HABITAT_VENV)"; \
		"$(HABITAT_PYTHON)" -m venv $(HABITAT_VENV); \
	fi
	@$(MAKE) --no-print-directory torch-cpu VENV=$(HABITAT_VENV)
	@$(HABITAT_VENV)/bin/python -c 'import torchvision' 2>/dev/null \
		|| $(HABITAT_PIP) install --quiet --no-deps --retries 1 --timeout 15 --extra-index-url $(TORCH_INDEX_URL) "torchvision==$(TORCHVISION)+cpu" 2>/dev/null \
		|| echo "No CPU build of torchvision at $(TORCH_INDEX_URL): taking the default build, for which there is a stand-in"
	@echo 'Installing habitat-lab and habitat-baselines $(HABITAT_LAB)'
	@echo 'torch==$(TORCH_VERSION)' > $(HABITAT_VENV)/constraints.txt
	@$(HABITAT_PIP) install --quiet -c $(HABITAT_VENV)/constraints.txt hatchling editables setuptools wheel
	@$(HABITAT_PIP) install --quiet -c $(HABITAT_VENV)/constraints.txt \
		habitat-lab==$(HABITAT_LAB) habitat-baselines==$(HABITAT_LAB) torchvision==$(TORCHVISION) \
		numpy==1.26.4 gym==0.23.0 'opencv-python-headless<5' 'pytest>=8.0' 'beartype>=0.19'
	@$(HABITAT_PIP) install --quiet -c $(HABITAT_VENV)/constraints.txt --no-build-isolation -e '.[bullet,habitat]'
	@$(HABITAT_VENV)/bin/python -c 'import cv2' 2>/dev/null \
		|| $(HABITAT_PIP) install --quiet --force-reinstall --no-deps 'opencv-python-headless<5'  # the other build needs libGL
	@touch $@

test-habitat: habitat-env
	$(HABITAT_VENV)/bin/python -m pytest tests/habitat $(ARGS)

# iGibson builds for Python 3.8 to 3.10 only, so it has an environment of its own; see docs/igibson.md. Its renderer is
# compiled once (about five minutes); pip keeps the wheel. --no-deps: iGibson asks for pybullet-svl, for which there is no
# wheel, and runs on the stock one. Without CUDAToolkit_ROOT a CUDA found on the way would be compiled in.
IGIBSON         := 2.2.2
# Python 3.9 by name, or pyenv's, whose command of that name answers only where it is the chosen version.
IGIBSON_PYTHON  ?= $(shell for p in python3.9 "$$HOME"/.pyenv/versions/3.9.*/bin/python; do \
	"$$p" -c 'import ensurepip' 2>/dev/null && { echo "$$p"; break; }; done)
IGIBSON_READY   := $(IGIBSON_VENV)/.ready
IGIBSON_PIP      = $(IGIBSON_VENV)/bin/python -m pip --disable-pip-version-check
IGIBSON_REQUIRES := numpy==1.26.4 gym==0.22.0 'gymnasium>=1.0' pybullet==3.2.7 'scipy<1.14' 'opencv-python-headless<4.12' \
	'networkx<3.3' 'bddl~=1.0.1' transforms3d Pillow PyYAML tqdm freetype-py matplotlib cloudpickle aenum GPUtil ipython \
	future trimesh h5py gitpython py360convert six pandas packaging urllib3 progressbar

.PHONY: igibson-env test-igibson

igibson-env: $(IGIBSON_READY)

$(IGIBSON_READY):
	@if [ ! -x $(IGIBSON_VENV)/bin/python ]; then \
		"$(IGIBSON_PYTHON)" -c 'import ensurepip, sys; sys.exit(sys.version_info[:2] != (3, 9))' 2>/dev/null \
			|| { echo "IGIBSON_PYTHON=$(IGIBSON_PYTHON) (empty: none found) is not Python 3.9 with ensurepip, which iGibson $(IGIBSON) is tested with: name one, as in make igibson-env IGIBSON_PYTHON=/path/to/python3.9" >&2; exit 1; }; \
		echo "$(IGIBSON_PYTHON) -m venv $(IGIBSON_VENV)"; \
		"$(IGIBSON_PYTHON)" -m venv $(IGIBSON_VENV); \
	fi
	@for program in g++ make; do command -v $$program >/dev/null \
		|| { echo "$$program is missing, which compiles iGibson's renderer (Debian, Ubuntu: apt install g++ make libegl-dev libgl-dev)" >&2; exit 1; }; done
	@command -v cmake >/dev/null || $(IGIBSON_PIP) install --quiet 'cmake<4'
	@$(IGIBSON_PIP) install --quiet $(IGIBSON_REQUIRES)
	@echo "Installing iGibson $(IGIBSON); its renderer is compiled the first time, about five minutes"
	@PATH="$$PATH:$(abspath $(IGIBSON_VENV))/bin" CUDAToolkit_ROOT=/nonexistent CMAKE_POLICY_VERSION_MINIMUM=3.5 \
		$(IGIBSON_PIP) install --quiet --no-deps igibson==$(IGIBSON)
	@touch $@

test-igibson: venv igibson-env
	$(BIN)/python -m pytest tests/igibson $(ARGS)

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -not -path './$(HABITAT_VENV)/*' -not -path './$(IGIBSON_VENV)/*' -not -path './.git/*' -prune -exec rm -rf {} +
