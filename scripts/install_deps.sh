#!/usr/bin/env bash
# The Debian packages that building and testing need. As root the missing ones are installed; otherwise the one line
# that does it is printed. --check only looks. With nothing missing it is silent and quick.
set -euo pipefail

packages=(gcc libc6-dev make libopenblas-openmp-dev libcjson-dev libxxhash-dev libpcre2-dev libcmocka-dev)

missing=()
for package in "${packages[@]}"; do
    state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$state" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "${1:-}" = --check ] || [ "$(id -u)" -ne 0 ]; then
    echo "missing packages: ${missing[*]}" >&2
    echo "install them with: sudo apt-get install -y --no-install-recommends ${missing[*]}" >&2
    exit 1
fi

echo "installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
