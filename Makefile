# Every target sets up .venv by itself. `make book` and `make test` are all that a reader needs.

PYTHON ?= python3
PROFILE ?= cpu
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# One thread for each process: tests and notebooks run side by side. The book's notebooks run under the same settings.
SETTINGS := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 PYTHONHASHSEED=0 PYTHONWARNINGS=ignore:::tqdm.auto
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(min(os.cpu_count(), 8))')
# A file's tests run in one worker, so that what they share is made once (pytest 9 ignores xdist's groups).
PYTEST := $(SETTINGS) $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile
LINT_IMPORTS := $(BIN)/python -c 'from importlinter.cli import lint_imports_command; lint_imports_command()' --no-cache

.DEFAULT_GOAL := help
.PHONY: help book test quick fast lint types unit records record preview serve bench clean

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

test: lint types book records  ## check everything: style, types, the book, every record, unit and browser tests
	@$(MAKE) --no-print-directory unit SITE=_build/html

# All at once: types are checked while tests run.
quick: $(READY)  ## check what takes about a minute: style, types, the first case of each test that is done in no time
	@$(MAKE) --no-print-directory -j 3 lint types fast

fast: $(READY)
	@$(PYTEST) -m "not slow and not lasting" --few

lint: $(READY)
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m ruff format --check .
	@$(LINT_IMPORTS) >/dev/null || $(LINT_IMPORTS)

types: $(READY)
	@$(BIN)/python -m mypy

# The browser tests look at the book in SITE, or else at one that they make from the records. Every call is checked against
# the types and shapes that its function names, which takes a third of a quick run.
unit: $(READY)
	@$(PYTEST) --jaxtyping-packages=reschrom,beartype.beartype --cov --cov-report=term:skip-covered $(if $(SITE),--book=$(SITE)) tests

# Each notebook is run once, for the book and for this.
records: $(READY)
	@$(BIN)/python -m reschrom.companion check

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
