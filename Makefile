# make repro   set up .venv and run the pipeline
# make test    set up .venv and run the tests
# make bench   the usual way beside ours, half an hour; make scale: up to a million images, half an hour more
# make seeds   a preset under several seeds: make seeds PRESET=digits N=5; make paper: published figures beside ours
.PHONY: repro test lint bench scale seeds paper
PYTHON ?= python3
PRESET ?= fashion-mnist
N ?= 5
BIN := .venv/bin
# Stages are started as `python -m ...`; they must find this project's Python, whatever is active outside.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONDONTWRITEBYTECODE :=

repro: .venv/installed
	$(BIN)/dvc repro

test: .venv/installed lint
	$(BIN)/python -m pytest

bench: .venv/installed
	$(BIN)/dvc repro pretext
	$(BIN)/python -m benchmarks

scale: .venv/installed
	$(BIN)/dvc repro download
	$(BIN)/python -m benchmarks.scale

seeds: .venv/installed
	$(BIN)/python -m studies.seeds $(PRESET) --seeds $(N)

paper: .venv/installed
	$(BIN)/python -m studies.paper

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The stamp is written last, so an installation that broke off is done again.
.venv/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; found $$($(PYTHON) --version). Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv .venv || { echo "Creating .venv failed; on Debian: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@
