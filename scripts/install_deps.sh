#!/usr/bin/env bash
# The Debian packages that building and testing need. As root the missing ones are installed; anybody else gets the one
# line that installs them, and exit status 1. With nothing missing it is silent and quick.
#   scripts/install_deps.sh [--line]      --line only prints that line
#   scripts/install_deps.sh --fuzz        what the fuzz targets need besides; tests skip them without
set -euo pipefail

packages=(gcc g++ libc6-dev make git libopenblas-openmp-dev libcjson-dev libxxhash-dev libpcre2-dev libutf8proc-dev
    zlib1g-dev libzstd-dev libcmocka-dev)

[ "${1:-}" != --fuzz ] || packages=(clang libclang-rt-14-dev)

command -v dpkg-query apt-get >/dev/null || {
    echo "this is no Debian system: install what these packages hold: ${packages[*]}" >&2
    exit 1
}

missing=()
for package in "${packages[@]}"; do
    state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) || true
    [ "$state" = installed ] || missing+=("$package")
done

line="apt-get install -y --no-install-recommends ${missing[*]:-${packages[*]}}"
if [ "${1:-}" = --line ]; then
    echo "sudo $line"
    exit
fi
[ ${#missing[@]} -gt 0 ] || exit 0
if [ "$(id -u)" -ne 0 ]; then
    echo "missing packages: ${missing[*]}; install them with" >&2
    echo "  sudo $line" >&2
    exit 1
fi

echo "installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { apt-get update -qq && $line -qq; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    echo "the packages could not be installed; look at the lines above, then run: $line" >&2
    exit 1
fi
