# TokenGuard's commands, a line each. `make setup` works with nothing but Python 3.11 and the package index.
PY ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: help setup demo test matrix check bench docs previews wheel clean
help:              ## this list
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:.*##/ -/'
setup: $(VENV)/.done ## the virtual environment, with everything to develop
$(VENV)/.done: pyproject.toml scripts/make_venv.py
	$(PY) scripts/make_venv.py $(VENV)
	touch $@
demo: setup        ## the main job: a simulated provider, a small product, the report
	$(BIN)/tokenguard demo
test: setup        ## all tests
	$(BIN)/pytest -n auto --dist loadgroup
matrix: setup      ## the tests of the SDKs, with their oldest and newest supported versions
	$(PY) scripts/matrix.py
check: setup       ## ruff, types, and our own linter
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/tokenguard lint .
bench: setup       ## the README's table; some 15 minutes, on a quiet machine
	$(PY) benchmarks/run.py --readme
docs: setup        ## the generated pages
	$(BIN)/python -m tokenguard.policy.page > docs/policy.md
	$(BIN)/python -m tokenguard.providers.page > docs/providers.md
	$(BIN)/python -m tokenguard.lint.explain docs/rules
	$(BIN)/python grafana/build.py
previews: setup    ## pictures of the dashboards; needs grafana/stack.sh on PATH
	cd tests && $(abspath $(BIN))/python -m grafana.preview ../docs/dashboards
wheel: setup       ## dist/*.whl
	$(BIN)/python -m build --wheel
clean:             ## what the above made
	rm -rf $(VENV) .venvs dist .pytest_cache .mypy_cache .ruff_cache
