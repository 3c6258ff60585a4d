# make repro   set up .venv and run the pipeline; on a folder of your own: make repro IMAGES=~/photos CLUSTERS=12,
#              and SIZE=96 (pixels) or HOURS=3 (how long it may take) where the choice shall not be left to it
# make test    set up .venv and run the tests; make proofs: those that take minutes (kills, memory)
# make bench   the usual way beside ours, half an hour; make scale: up to a million images, half an hour more
# make seeds   a preset under several seeds: make seeds PRESET=digits N=5; make paper: published figures beside ours
.PHONY: repro test proofs lint bench scale seeds paper
PYTHON ?= python3
PRESET ?= fashion-mnist
N ?= 5
BIN := .venv/bin
# Stages are started as `python -m ...`; they must find this project's Python, whatever is active outside.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONDONTWRITEBYTECODE :=
# The shell gets these as they are, so that quotes, spaces and dollars in a path mean themselves.
override export IMAGES := $(value IMAGES)
override export CLUSTERS := $(value CLUSTERS)
override export SIZE := $(value SIZE)
override export HOURS := $(value HOURS)
OWN := $(strip $(IMAGES)$(CLUSTERS)$(SIZE)$(HOURS))

repro: .venv/installed
ifneq ($(OWN),)
	@$(BIN)/python -m presets.own --clusters="$$CLUSTERS" --size="$$SIZE" --hours="$$HOURS" -- "$$IMAGES"
endif
	$(BIN)/dvc repro
ifneq ($(OWN),)
	@echo "Done: open reports/index.html, and name or merge the groups there."
	@echo "New pictures: $(BIN)/python -m stages.predict --images FOLDER --out predictions.csv"
endif

test: .venv/installed lint
	$(BIN)/python -m pytest

proofs: .venv/installed
	$(BIN)/python -m pytest -m slow --numprocesses 0 --no-header --verbose --verbose | tee reports/proofs.txt

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
