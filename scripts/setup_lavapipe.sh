#!/usr/bin/env bash
# Fetches a lavapipe for the target `tflite:gpu-fp16` on Debian 12, whose own is too old: one library of the package
# mesa-vulkan-drivers in Debian's backports, laid into a folder. Nothing of the system is replaced.
#   scripts/setup_lavapipe.sh [FOLDER]
# The place is FOLDER, else $FASTSERVE_LAVAPIPE_HOME, else ~/.local/share/fastserve/lavapipe; the target looks in the
# last two. apt takes the package from the mirror that it is set up with, and checks Debian's signature.
# Elsewhere the distribution's own package mesa-vulkan-drivers is what is needed, of version 25 or later.
set -euo pipefail
folder=${1:-${FASTSERVE_LAVAPIPE_HOME:-$HOME/.local/share/fastserve/lavapipe}}
version=25.0.7-2~bpo12+1
sha256=3899f1800424c60a05df5d6913076a526ca8fdbabec43672cd397563d1ca3263

codename=$(. /etc/os-release 2>/dev/null && echo "${VERSION_CODENAME:-}")
if [ "$codename $(uname -m)" != "bookworm x86_64" ]; then
  echo "This fetches lavapipe for Debian 12 on x86-64; here, install the package mesa-vulkan-drivers (25 or later)." >&2
  exit 1
fi
address=$(apt-get indextargets --format '$(REPO_URI)' 'Identifier: Packages' 'Codename: bookworm' | head -n 1)
if [ -z "$address" ]; then
  echo "apt knows no mirror of Debian 12: add one to its sources, and run apt-get update." >&2
  exit 1
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/package"
cat >"$work/backports.sources" <<SOURCES
Types: deb
URIs: $address
Suites: bookworm-backports
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
SOURCES
# Lists and packages of its own: the system's stay as they are, and no root is needed.
apt=(apt-get -qq -o "Dir::Etc::SourceList=$work/backports.sources" -o Dir::Etc::SourceParts=/dev/null
  -o "Dir::State::Lists=$work/lists" -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=)
echo "Fetching lavapipe of Mesa $version ..."
"${apt[@]}" update
(cd "$work/package" && "${apt[@]}" download "mesa-vulkan-drivers=$version")
archive=$(echo "$work"/package/mesa-vulkan-drivers_*.deb)
if ! echo "$sha256  $archive" | sha256sum --check --status; then
  echo "What the mirror gave is not mesa-vulkan-drivers $version: its SHA-256 differs. Nothing was installed." >&2
  exit 1
fi
dpkg-deb --extract "$archive" "$work/extracted"
library=libvulkan_lvp.so
found=$work/extracted/usr/lib/x86_64-linux-gnu/$library
missing=$(ldd "$found" | sed -n 's/^\s*\(\S*\) => not found$/\1/p')
if [ -n "$missing" ]; then
  echo "lavapipe needs $(echo "$missing" | paste -sd ' '), which Debian's own mesa-vulkan-drivers brings:" \
    "apt-get install mesa-vulkan-drivers" >&2
  exit 1
fi
mkdir -p "$folder"
mv "$found" "$folder/$library"
# The description last: it says that the library is there. Vulkan's loader looks for it beside the description.
sed "s|\"library_path\": *\"$library\"|\"library_path\": \"./$library\"|" \
  "$work/extracted/usr/share/vulkan/icd.d/lvp_icd.json" >"$work/lvp_icd.json"
mv "$work/lvp_icd.json" "$folder/lvp_icd.json"
echo "Ready."
