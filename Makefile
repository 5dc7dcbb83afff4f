# Two commands do everything: `make up` runs Redpencil, `make test` passes its tests.
# Both make the virtual environment on first use.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

# Half of their time these tests wait for processes to start. A file stays together.
THREE_AT_ONCE := -n 3 --dist loadfile --no-loadscope-reorder

.PHONY: up test check clean

up: $(READY)
	@exec $(BIN)/redpencil up

# Hundreds of processes start in these tests; where the shell forbids it each would compile all anew.
test: export PYTHONDONTWRITEBYTECODE :=
test: $(READY)
	$(BIN)/python -m pytest tests/unit -n auto
	$(BIN)/python -m pytest tests/integration $(THREE_AT_ONCE)
	$(BIN)/python -m pytest tests/e2e

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Redpencil needs Python 3.11 or newer; say which: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e '.[dev]'
	@# On all cores, where pip uses one; packages hold some files that are for other Pythons and do not compile.
	@$(BIN)/python -m compileall -qq -j 0 -x '/tests?/' $(VENV)/lib || true
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info
