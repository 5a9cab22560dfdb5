# Every target sets up .venv by itself. `make book` and `make test` are all that a reader needs.

PYTHON ?= python3
PROFILE ?= cpu
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# One thread for each process: tests and notebooks run side by side. The book's notebooks run under the same settings.
SETTINGS := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 PYTHONHASHSEED=0 PYTHONWARNINGS=ignore:::tqdm.auto
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help book test lint types unit records record preview serve bench clean

help:  ## show the targets
	@sed -n 's/^\([a-z]*\):.*##/\1 -/p' $(MAKEFILE_LIST)

$(READY): constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "reschrom needs Python 3.11 or newer; set PYTHON=...")'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo "setting up $(VENV) (once, a few minutes)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt "$$(grep '^torch==' constraints.txt)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[book,test]"
	@touch $@

book: $(READY)  ## run every notebook and render the book into _build/html (PROFILE=paper for the paper's models)
	@$(BIN)/python -m reschrom.companion build --profile $(PROFILE)

test: lint types unit records  ## check everything: style, types, unit and browser tests, every record

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-cache >/dev/null || $(BIN)/lint-imports --no-cache

types: $(READY)
	@$(BIN)/mypy

# The browser tests look at the book as the records show it.
unit: preview
	@$(SETTINGS) $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadgroup --cov --cov-report=term:skip-covered

# Each record is run again, and must print what it holds.
records: $(READY)
	@$(SETTINGS) $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadscope --nbval --nbval-current-env \
	    --nbval-sanitize-with tests/nbval.cfg notebooks

record: $(READY)  ## run every notebook and renew the records that changed, notebooks/*/NAME.ipynb
	@$(BIN)/python -m reschrom.companion record

preview: $(READY)  ## render the book from the records, running nothing, into _build/preview/html
	@$(BIN)/python -m reschrom.companion preview

serve: $(READY)  ## show the book on this machine
	@$(BIN)/python -m reschrom.companion serve

bench: $(READY)  ## measure the package's speed
	@$(BIN)/python -m pytest -q benchmarks --benchmark-only

clean:  ## remove everything that was built
	rm -rf _build .snakemake
