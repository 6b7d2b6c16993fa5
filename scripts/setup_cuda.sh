#!/usr/bin/env bash
# Makes the virtual environment of the target `onnx:cuda`: ONNX Runtime with its CUDA provider, which takes the place of
# the ONNX Runtime in FastServe's own environment, and the CUDA libraries that it needs (2 GB).
#   scripts/setup_cuda.sh [VENV]
# The place is VENV, else $FASTSERVE_CUDA_HOME, else ~/.local/share/fastserve/cuda; the target looks in the last two.
set -euo pipefail
venv=${1:-${FASTSERVE_CUDA_HOME:-$HOME/.local/share/fastserve/cuda}}

if [ "$(uname -sm)" != "Linux x86_64" ]; then
  echo "This target runs on x86-64 Linux; this is $(uname -sm)." >&2
  exit 1
fi
if [ ! -e /proc/driver/nvidia/version ] && [ ! -e /dev/nvidiactl ] && [ ! -e /dev/dxg ]; then
  echo "There is no CUDA device with a driver here: nothing was installed. Use a machine that has one." >&2
  exit 1
fi
if [ ! -x "$venv/bin/python" ]; then
  for python in "${PYTHON:-}" python3.12 python3.11 python3.13 python3; do
    [ -n "$python" ] && command -v "$python" >/dev/null 2>&1 || continue
    "$python" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && break
    python=
  done
  if [ -z "$python" ]; then
    echo "Python 3.11, 3.12 or 3.13 with the venv module is needed: install one, or name it with PYTHON=..." >&2
    exit 1
  fi
  echo "Making $venv with $("$python" --version) ..."
  "$python" -m venv "$venv"
fi
echo "Installing ONNX Runtime for CUDA 13 and its libraries ..."
"$venv/bin/python" -m pip install -qq --disable-pip-version-check 'onnxruntime-gpu[cuda,cudnn]==1.31.1' numpy==2.4.6
echo "Ready."
