#!/usr/bin/env bash
# The program as it was linked: position independent, its tables read-only before it starts, no executable stack, no
# library sought in a folder that others may write, stack and buffers guarded. Without readelf (binutils): status 77.
#   scripts/check_hardening.sh      the program is $TRAIN_GPT, or ./train_gpt
set -euo pipefail
cd "$(dirname "$0")/.."

program=${TRAIN_GPT:-./train_gpt}
[ -x "$program" ] || { echo "$program is not there; build it with make"; exit 1; }
command -v readelf >/dev/null || { echo "readelf is not there: apt-get install binutils"; exit 77; }

elf=$(mktemp)
trap 'rm -f "$elf"' EXIT
readelf -W --file-header --program-headers --dynamic --dyn-syms "$program" >"$elf"

expect() { # PATTERN WHAT
    grep -qE "$1" "$elf" || echo "$program: $2"
}
problems() {
    expect 'Type: +DYN' 'no position-independent program (-pie)'
    expect 'Flags: .*\bPIE\b' 'no position-independent program (-pie)'
    expect 'GNU_RELRO' 'no read-only relocations (-z relro)'
    expect '\bBIND_NOW\b|FLAGS_1.*\bNOW\b' 'functions are bound while it runs (-z now)'
    expect 'GNU_STACK .* RW +0x' 'an executable stack (-z noexecstack)'
    expect '__stack_chk_fail' 'no guarded stack (-fstack-protector-strong)'
    expect '_chk(@|$)' 'no checked copies (-D_FORTIFY_SOURCE)'
    sed -nE 's/.*(RPATH|RUNPATH).*\[(.*)\]/\2/p' "$elf" | tr : '\n' | grep -v '^/usr/' |
        sed "s|^|$program: looks for libraries in |"
}

found=$(problems) || true
[ -z "$found" ] || { echo "$found"; exit 1; }
