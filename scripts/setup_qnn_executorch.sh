#!/usr/bin/env bash
# Makes what stands for Qualcomm's SDK in ExecuTorch: a folder with a link to the libraries of the Python package
# onnxruntime-qnn, the only one whose version ExecuTorch 1.5.1 works with. It is Qualcomm's, under a licence of its own.
#   scripts/setup_qnn_executorch.sh [FOLDER]
# The place is FOLDER, else $FASTSERVE_QNN_HOME, else ~/.local/share/fastserve/qnn; the target `executorch:qnn-htp` looks
# in the last two. The package is that of $PYTHON, else of the active virtual environment, else of the repository's.
set -euo pipefail
home=${1:-${FASTSERVE_QNN_HOME:-$HOME/.local/share/fastserve/qnn}}
root=$(cd "$(dirname "$0")/.." && pwd)
version=2.5.0

if [ "$(uname -sm)" != "Linux x86_64" ]; then
  echo "Qualcomm's simulator runs on x86-64 Linux only; this is $(uname -sm)." >&2
  exit 1
fi
python=${PYTHON:-${VIRTUAL_ENV:-$root/.venv}/bin/python}
command -v "$python" >/dev/null 2>&1 || python=python3
if ! "$python" -c "import importlib.metadata as m, sys; sys.exit(m.version('onnxruntime-qnn') != '$version')" 2>/dev/null; then
  "$python" -m pip install -qq --disable-pip-version-check --no-deps "onnxruntime-qnn==$version"
fi
package=$("$python" -c "import importlib.util as u; print(u.find_spec('onnxruntime_qnn').submodule_search_locations[0])")
mkdir -p "$home/lib"
ln -sfn "$package" "$home/lib/x86_64-linux-clang"
echo "Ready."
