# Every target does the set-up it needs. A GPU machine gets the GPU build of ONNX Runtime.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUNTIME ?= $(shell command -v nvidia-smi >/dev/null 2>&1 && echo gpu || echo cpu)
# TensorRT-RTX builds engines without a GPU; its wheels are for this system only.
RTX ?= $(if $(filter Linux-x86_64,$(shell uname -s)-$(shell uname -m)),$(comma)rtx)
comma := ,
STAMP := $(VENV)/.installed-$(RUNTIME)

.PHONY: setup demo test test-quick lint test-gpu clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[torch,$(RUNTIME)$(RTX),report,dev]"
	touch $@

demo: setup
	$(BIN)/vgg-deploy run --preset fashion-mnist

test: setup
	$(BIN)/python -m pytest

test-quick: setup  # without what is marked slow
	$(BIN)/python -m pytest -m "not slow and not gpu"

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test-gpu: setup
	$(BIN)/python -m pytest -m gpu

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
