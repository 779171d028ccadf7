# TokenGuard's commands, a line each. `make setup` works with nothing but Python 3.11 and the package index.
PY ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: setup demo test check bench wheel clean
setup: $(VENV)/.done
$(VENV)/.done: pyproject.toml Makefile
	$(PY) scripts/make_venv.py $(VENV)
	touch $@

demo: setup        ## the main job: a simulated provider, a workload, the report
	$(BIN)/tokenguard demo
test: setup        ## all tests
	$(BIN)/pytest -n auto
check: setup       ## lint, format, types
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy
bench: setup       ## the README's table, about five minutes
	$(PY) benchmarks/run.py
wheel: setup       ## dist/*.whl
	$(BIN)/python -m build --wheel
clean:
	rm -rf $(VENV) .venvs dist .pytest_cache .mypy_cache .ruff_cache
