# `make` alone prints what can be made.

PYTHON ?= python3.11
# Installed first and then pinned, so that nothing replaces it. From another index:
#   make setup TORCH="torch==2.13.0 --index-url URL"
TORCH ?= torch==2.13.0

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SAMPLE := tests/sample
SARCOMA := $(SAMPLE)/Dataset901_SoftTissueSarcoma
DEMO_DATA := data_fixed/demo
DEMO_RUN := work_dir/demo

# Files of tests run side by side, each in one of two processes. The slow ones need the memory alone.
SIDE_BY_SIDE := -n 2 --dist loadfile

# Threads that wait give their core away. By default they spin, and on few cores that starves the
# DataLoader's processes and anything else that runs.
export OMP_WAIT_POLICY ?= PASSIVE

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-long test-all lint format bench bench-data clean

help:  ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY)  ## install everything into .venv (TORCH=... picks another PyTorch)

$(READY): pyproject.toml constraints.txt
	@echo "Installing $(firstword $(TORCH)) and the package into $(VENV): some minutes ..."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -qq --upgrade pip
	$(BIN)/python -m pip install -qq $(TORCH)
	$(BIN)/python -m pip freeze | grep '^torch==' > $(VENV)/torch.txt
	$(BIN)/python -m pip install -qq -e '.[all]' -c constraints.txt -c $(VENV)/torch.txt
	@touch $@

demo: $(READY)  ## prepare the sample, train a small network on the CPU, test it, draw it
	$(BIN)/python utils/prepare_json_data.py AMOS --root $(SAMPLE) --out $(DEMO_DATA)
	$(BIN)/python data.py -dt Tr --datasets AMOS --out $(DEMO_DATA)
	$(BIN)/python data.py -dt Tr --raw $(SARCOMA) --name SoftTissueSarcoma --out $(DEMO_DATA)
	$(BIN)/python data.py --split val=0.3 --name SoftTissueSarcoma --group $(SARCOMA)/patients.csv \
		--out $(DEMO_DATA)
	$(BIN)/python train.py fit --config demo.yaml
	$(BIN)/python train.py test --config demo.yaml --ckpt_path last
	@echo; echo "Image, truth, clicks and prediction: $$(ls $(DEMO_RUN)/test/*.png)"

test: lint  ## lint, types and the tests, in minutes
	$(BIN)/python -m pytest $(SIDE_BY_SIDE)

test-slow: $(READY)  ## only the slow tests: full-size networks, long runs
	$(BIN)/python -m pytest -m 'slow and not long and not gpu'

test-long: $(READY)  ## only the longest: the full counts of docs/reliability.md
	$(BIN)/python -m pytest -m 'long and not gpu'

test-all: test test-slow  ## everything that needs no GPU

lint: $(READY)  ## ruff, mypy and bandit
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/bandit -q -c pyproject.toml -r neurosam3d utils train.py data.py validation.py sum_result.py benchmarks

format: $(READY)  ## let ruff format the code and sort its imports
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench bench-data: export OMP_WAIT_POLICY = ACTIVE    # tiny parallel operations wait for each other

bench: $(READY)  ## measure the networks against plain readings, and surface metrics
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.surface_metrics

bench-data: $(READY)  ## measure preparing and loading data against the plain ways
	$(BIN)/python -m benchmarks.prepare
	$(BIN)/python -m benchmarks.data_loading

clean:  ## remove .venv and caches; data_fixed and work_dir stay
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
