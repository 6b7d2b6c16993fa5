# Two commands do everything on a fresh machine: `make demo` and `make test`.
VENV ?= .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed

# `coverage` is of the tests that mirror the packages; those of whole commands run in processes of their own.
# `targets` installs what stands for GPUs and NPUs in the conformance suite, as far as this machine can have it.
.PHONY: setup targets system-packages demo test coverage test-slow lint bench clean

setup: $(STAMP)

NATIVE := $(addprefix runtimes/executorch_native/,CMakeLists.txt pyproject.toml build_wheel.py) \
  $(wildcard runtimes/executorch_native/src/* runtimes/executorch_native/fastserve_executorch/*.py)

# What only the slow tests need: an aarch64 compiler, and an emulator to run what it makes.
system-packages:
	apt-get install -y --no-install-recommends g++ g++-aarch64-linux-gnu mmdebstrap qemu-user

$(STAMP): constraints.txt pyproject.toml runtimes/pyproject.toml scripts/setup_environment.sh $(NATIVE)
	@bash scripts/setup_environment.sh "$(VENV)"
	@touch $(STAMP)

targets: setup
	@$(PY) scripts/install_targets.py

demo: setup
	@$(PY) examples/demo.py

test: setup
	@OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --maxfail 30 --dist loadfile --no-loadscope-reorder -m "not slow and not apart"
	@OMP_NUM_THREADS=1 $(PY) -m pytest -q -m "not slow and apart"

coverage: setup
	@$(PY) -m pytest -q -m "not slow and not apart" tests/runtime tests/sdk tests/converters tests/device_tests --cov --cov-report=term:skip-covered

test-slow: setup
	@$(PY) -m pytest --timeout 3600 -m "slow and not apart"
	@$(PY) -m pytest -q --timeout 3600 -m "slow and apart"

lint: setup
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports
	@$(PY) -m pytest -q tests/documentation -k "links or targets or known or folder or words"

bench: setup
	@$(PY) benchmarks/export.py
	@$(PY) benchmarks/runtime.py
	@$(PY) benchmarks/quantization.py --prepare
	@$(PY) benchmarks/quantization.py
	@$(PY) benchmarks/generation.py
	@$(PY) benchmarks/policies.py
	@$(PY) benchmarks/faults.py
	@$(PY) benchmarks/question_answering.py

clean:
	rm -rf $(VENV) build dist
