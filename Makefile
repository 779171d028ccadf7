# TokenGuard's commands, a line each. `make setup` works with nothing but Python 3.11 and the package index.
PY ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# With COVERAGE=1 the tests, and all Pythons they start, note what they reach; `make coverage` then says.
# One worker more than there are processors: some tests wait for what they have started.
WORKERS ?= $(shell $(PY) -c 'import os; print((os.cpu_count() or 1) + 1)')
PYTEST = $(BIN)/$(if $(COVERAGE),coverage run -m )pytest -n $(WORKERS) --dist loadgroup

# What Python compiles is kept there, wherever else it may be told to keep none: compiling takes half of a start.
export PYTHONDONTWRITEBYTECODE =
export PYTHONPYCACHEPREFIX = $(abspath $(VENV))/bytecode

.PHONY: help setup demo test test-rest test-all coverage matrix check bench counts docs site previews wheel release clean
help:              ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*##/ -/'
setup: $(VENV)/.done ## the virtual environment, with everything to develop
$(VENV)/.done: pyproject.toml scripts/make_venv.py
	$(PY) scripts/make_venv.py $(VENV)
	touch $@
demo: setup        ## the main job: a simulated provider, a small product, the report
	$(BIN)/tokenguard demo
test: setup        ## the tests, but for the widest tables and what starts whole programs
	$(PYTEST) -m "not everywhere and not apart"
test-rest: setup   ## the widest tables, and what starts whole programs
	$(PYTEST) -m "everywhere or apart"
test-all: test test-rest ## all tests
coverage: setup    ## what of src the runs of `make test-all COVERAGE=1` did not reach; fails below what is asked for
	$(BIN)/coverage combine -q && $(BIN)/coverage report --skip-covered --sort=cover
matrix: setup      ## the tests of the SDKs, with their oldest and newest supported versions
	$(PY) scripts/matrix.py
check: setup       ## ruff, types, and our own linter
	$(BIN)/ruff check --no-cache . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/tokenguard lint .
soak: setup        ## everything that can happen to a process, for an hour or so
	$(BIN)/python scripts/soak.py --ledger sqlite && $(BIN)/python scripts/soak.py --ledger redis
bench: setup       ## the figures of docs/benchmarks.md and README.md; some 20 minutes, on a quiet machine
	$(PY) benchmarks/run.py --readme && $(BIN)/python benchmarks/guard.py --readme
counts: setup      ## the instructions of a call's path, counted, against benchmarks/counts.json; needs valgrind
	$(BIN)/python benchmarks/counted.py
docs: setup        ## the generated pages
	$(BIN)/python -m tokenguard.policy.page > docs/policy.md
	$(BIN)/python -m tokenguard.providers.page > docs/providers.md
	$(BIN)/python -m tokenguard.lint.explain docs/rules
	$(BIN)/python grafana/build.py
site: setup .venvs/site/.done ## the documentation's site, in site/; fails on a broken link (SERVE=1: shows it while you write)
	NO_MKDOCS_2_WARNING=1 .venvs/site/bin/mkdocs $(if $(SERVE),serve,build)
.venvs/site/.done: pyproject.toml
	$(PY) scripts/make_venv.py .venvs/site --editable . --group site
	touch $@
previews: setup    ## pictures of the dashboards by Grafana's components; needs grafana/stack.sh on PATH, npm, Chromium
	cd tests && $(abspath $(BIN))/python -m grafana.preview ../docs/dashboards
wheel: setup       ## dist/*.whl
	$(BIN)/python -m build --wheel
release: .venvs/release/.done ## dist/: the wheel and the sdist, checked as the package index and a user's tools see them
	.venvs/release/bin/python scripts/release.py
.venvs/release/.done: pyproject.toml
	$(PY) scripts/make_venv.py .venvs/release $(CURDIR) --group release
	touch $@
clean:             ## what the above made
	rm -rf $(VENV) .venvs dist site .pytest_cache .mypy_cache .ruff_cache .coverage*
