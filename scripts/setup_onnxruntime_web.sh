#!/usr/bin/env bash
# Fetches ONNX Runtime Web for the targets `onnx:web-wasm` and `onnx:web-webgpu`: an npm package, of which a few files
# are kept (42 MB). npm takes it from the registry that it is set up with; no other package and no script of it is run.
#   scripts/setup_onnxruntime_web.sh [FOLDER]
# The place is FOLDER, else $FASTSERVE_ONNXRUNTIME_WEB_HOME, else ~/.local/share/fastserve/onnxruntime-web; the targets
# look in the last two.
set -euo pipefail
folder=${1:-${FASTSERVE_ONNXRUNTIME_WEB_HOME:-$HOME/.local/share/fastserve/onnxruntime-web}}
version=1.30.0
sha512=ab4cbe26baedba45d2cec05610c71c55fa97db92d19a8b171c5f8269126683ca590a5cdc57bb2f35ce2b298de32f4d956fb42644c0ecd528a0a91e025c07ca61
files=(package.json dist/ort.wasm.min.mjs dist/ort-wasm-simd-threaded.mjs dist/ort-wasm-simd-threaded.wasm
  dist/ort.webgpu.min.mjs dist/ort-wasm-simd-threaded.asyncify.mjs dist/ort-wasm-simd-threaded.asyncify.wasm)

if ! command -v npm >/dev/null 2>&1; then
  echo "npm is needed to fetch ONNX Runtime Web. Install it (package npm, or Node.js), and start this again." >&2
  exit 1
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
echo "Fetching ONNX Runtime Web $version ..."
(cd "$work" && npm pack --silent --ignore-scripts "onnxruntime-web@$version" >/dev/null)
archive=$work/onnxruntime-web-$version.tgz
if ! echo "$sha512  $archive" | sha512sum --check --status; then
  echo "What the registry gave is not ONNX Runtime Web $version: its SHA-512 differs. Nothing was installed." >&2
  exit 1
fi
tar -xzf "$archive" -C "$work" --no-same-owner "${files[@]/#/package/}"
mkdir -p "$folder"
for file in "${files[@]}"; do # the version last: it says that the rest is there
  [ "$file" = package.json ] || mv "$work/package/$file" "$folder/"
done
mv "$work/package/package.json" "$folder/"
echo "Ready."
