## make repro    run the pipeline, here or on pictures of your own: make repro IMAGES=~/photos CLUSTERS=12
##               (SIZE=96 pixels and HOURS=3, how long it may take, where the choice shall not be left to it)
## make predict  the groups of new pictures, as a table: make predict IMAGES=~/new OUT=predictions.csv
## make export   the model as files that run without this project: make export OUT=exported
## make test     lint, then the tests
## make lint     linters and formatters alone, which change nothing
## make format   the form that the formatters want, of Python and of the page's script and style
## make proofs   the tests that take minutes: kills, memory
## make bench    the usual way beside ours, half an hour
## make scale    up to a million images, half an hour more
## make seeds    a preset under several seeds: make seeds PRESET=digits N=5
## make paper    published figures beside ours
## make pictures the page as README and docs show it, after a run
## Each sets up .venv first. Another Python: make repro PYTHON=python3.12
.PHONY: help repro predict export test lint format proofs bench scale seeds paper pictures
.DEFAULT_GOAL := help
PYTHON ?= python3
PRESET ?= fashion-mnist
N ?= 5
BIN := .venv/bin
PAGE := stages/page/script.js stages/page/style.css
OTHERWISE := { echo "To bring it into that form: make format"; exit 1; }
TIME := about 13 minutes on two CPU cores with the committed params.yaml, 5 on cores with bfloat16 units
# Stages are started as `python -m ...`; they must find this project's Python, whatever is active outside.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONDONTWRITEBYTECODE :=
# The shell gets these as they are, so that quotes, spaces and dollars in a path mean themselves.
override export IMAGES := $(value IMAGES)
override export CLUSTERS := $(value CLUSTERS)
override export SIZE := $(value SIZE)
override export HOURS := $(value HOURS)
# Not from the environment, where so short a name may mean anything.
override export OUT := $(if $(filter command,$(origin OUT)),$(value OUT))
OWN := $(strip $(IMAGES)$(CLUSTERS)$(SIZE)$(HOURS))

help:
	@sed -n 's/^## //p' $(firstword $(MAKEFILE_LIST))

repro: .venv/installed
	@git rev-parse --git-dir >/dev/null 2>&1 || { echo "This is not a git checkout, which DVC needs: clone the repository, or" \
		"make one here: git init && git add --all && git commit -m start"; exit 1; }
ifneq ($(OWN),)
	@printf 'Nine stages, planned first. The page will be %s\n' "$$PWD/reports/index.html"
	@$(BIN)/python -m commands.own --clusters="$$CLUSTERS" --size="$$SIZE" --hours="$$HOURS" -- "$$IMAGES"
else
	@printf 'Nine stages: $(TIME). The page will be %s\n' "$$PWD/reports/index.html"
endif
	$(BIN)/dvc repro
	@printf 'Done. Open this page, and name or merge the groups there: %s\n' "$$PWD/reports/index.html"
	@echo "New pictures: make predict IMAGES=FOLDER"

predict: .venv/installed
	@test -n "$$IMAGES" || { echo "Name the pictures: make predict IMAGES=~/new OUT=predictions.csv"; exit 1; }
	@$(BIN)/python -m commands.predict --images "$$IMAGES" --out "$${OUT:-predictions.csv}"

export: .venv/installed
	@$(BIN)/python -m commands.export $${OUT:+--out "$$OUT"}

test: .venv/installed-tests lint
	$(BIN)/python -m pytest

lint: .venv/installed-tests
	$(BIN)/ruff check .
	$(BIN)/oxlint --deny correctness --deny suspicious --deny perf stages/page
	@$(BIN)/ruff format --check . || $(OTHERWISE)
	@$(BIN)/oxfmt --check $(PAGE) || $(OTHERWISE)

format: .venv/installed-tests
	$(BIN)/ruff format .
	$(BIN)/oxfmt $(PAGE)

proofs: SHELL := bash
proofs: .venv/installed-tests
	set -o pipefail; \
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

pictures: .venv/installed-tests
	$(BIN)/python tests/pictures.py

# A stamp is written last, so an installation that broke off is done again.
.venv/installed: requirements.txt
.venv/installed-tests: requirements-test.txt .venv/installed
.venv/installed .venv/installed-tests:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not to be found; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@$(PYTHON) install.py $<
	@touch $@
