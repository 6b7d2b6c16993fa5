#!/usr/bin/env bash
# Makes the virtual environment of the target `onnx:rk3588`: Rockchip's RKNN toolkit, which comes as binaries, with the
# older packages that it was seen to work with (1.5 GB). They do not get along with FastServe's own environment.
#   scripts/setup_rknn.sh [VENV]
# The place is VENV, else $FASTSERVE_RKNN_HOME, else ~/.local/share/fastserve/rknn; the target looks in the last two.
set -euo pipefail
venv=${1:-${FASTSERVE_RKNN_HOME:-$HOME/.local/share/fastserve/rknn}}

find_python() {
  for candidate in "${PYTHON:-}" python3.11 python3 python; do
    [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 || continue
    if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null
    then echo "$candidate"; return; fi
  done
  echo "No suitable Python was found: Python 3.11 with the venv module is needed." >&2
  echo "Install one, or name it: PYTHON=/path/to/python3.11 scripts/setup_rknn.sh" >&2
  return 1
}

if [ "$(uname -sm)" != "Linux x86_64" ]; then
  echo "Rockchip's simulator runs on x86-64 Linux only; this is $(uname -sm)." >&2
  exit 1
fi
if [ ! -x "$venv/bin/python" ]; then
  python=$(find_python)
  echo "Making $venv with $("$python" --version) ..."
  "$python" -m venv "$venv"
fi
pip=("$venv/bin/python" -m pip install -qq --disable-pip-version-check)

torch=2.13.0
if ! "$venv/bin/python" -c "import importlib.metadata as m, sys; sys.exit(m.version('torch').split('+')[0] != '$torch')" 2>/dev/null; then
  # The toolkit imports torch, and the CPU build saves several GB of CUDA packages. Its file exists only where an index
  # or a find-links folder offers it; elsewhere the default build is taken.
  echo "Installing the CPU build of torch $torch ..."
  "${pip[@]}" ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} "torch==$torch+cpu" 'setuptools<80' 'numpy==1.26.4' 2>/dev/null || {
    echo "No CPU build is offered by the configured package indexes (TORCH_INDEX=URL adds one): taking the default build."
    "${pip[@]}" "torch==$torch" 'setuptools<80' 'numpy==1.26.4'
  }
fi

echo "Installing the RKNN toolkit and what it needs ..."
# What the toolkit asks for is older still, and partly not needed.
"${pip[@]}" --no-deps rknn-toolkit2==2.5.0
"${pip[@]}" numpy==1.26.4 onnx==1.18.0 'onnxruntime<1.24' protobuf==4.25.4 'scipy<1.16' psutil ruamel.yaml tqdm \
  'opencv-python-headless<4.12' fast-histogram 'setuptools<80'
echo "Ready."
