#!/usr/bin/env bash
# Budgets of the tree: files of 600 lines (train_gpt.c 800), functions of 70 (120 for forward, backward and the training
# loop), lines of 120 columns, no tabs in C, unique basenames, no marks of unfinished work, no paths of one machine, no
# shell run by the program.
#   scripts/check_style.sh
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C.UTF-8 # columns are characters

files_named() { # GLOB...
    local names=() glob
    for glob; do names+=(-o -name "$glob"); done
    local beside=(-name .git -o -name build -o -name runs -o -path ./tests/fuzz/corpus)
    find . \( "${beside[@]}" \) -prune -o -type f \( "${names[@]:1}" \) -print |
        sed 's|^\./||' | sort
}

# FILE LINE LENGTH NAME of every function: by ctags, or from a line that begins with a letter and the next lone `}`.
functions_ctags() {
    ctags -x --kinds-C=f --kinds-C++=f --langmap=C++:+.cu --fields=+e --_xformat='%F %n %e %N' "$@" |
        awk '{ print $1, $2, $3 - $2 + 1, $4 }'
}
functions_awk() {
    awk '
        FNR == 1 { begin = 0 }
        !begin && /^[A-Za-z_][^;]*\(/ && !/[;}][[:space:]]*(\/\/.*)?$/ {
            begin = FNR; name = $0; sub(/\(.*/, "", name); sub(/.*[ *]/, "", name)
        }
        /^[A-Za-z_].*;$/ { begin = 0 }
        /^}/ { if (begin) print FILENAME, begin, FNR - begin + 1, name; begin = 0 }' "$@"
}

long_functions() {
    local list=functions_ctags
    ctags --version 2>/dev/null | grep -q Universal || list=functions_awk
    $list "$@" | awk '
        $3 > ($4 ~ /forward|backward|^train$/ ? 120 : 70) { print $1 ":" $2 ": " $4 " has " $3 " lines" }'
}

problems() {
    local sources scripts file most marks='\b(TO[D]O|FIXM[E]|X[X]X)\b|/wor[k]/|/far[m]/|\.librar[y]'
    mapfile -t sources < <(files_named '*.[ch]' '*.def' '*.cu' '*.cuh' '*.cpp')
    mapfile -t scripts < <(files_named '*.sh' '*.py' Makefile run)
    for file in "${sources[@]}" "${scripts[@]}"; do
        most=600
        [ "$file" != train_gpt.c ] || most=800
        awk -v most=$most 'END { if (NR > most) print FILENAME ": " NR " lines, at most " most }' "$file"
    done
    printf '%s\0' "${sources[@]}" "${scripts[@]}" | xargs -0 grep -nHE '^.{121}' |
        grep -vE '^[^:]*\.def:|^[^:]*:[0-9]*: *\{.*\},?$' | # rows of tables may be wide
        sed -E 's/^([^:]*:[0-9]*):.*/\1: more than 120 columns/'
    grep -nHP '\t' "${sources[@]}" | sed -E 's/^([^:]*:[0-9]*):.*/\1: a tab/'
    printf '%s\n' "${sources[@]}" "${scripts[@]}" | sed 's|.*/||' | sort | uniq -d | sed 's/$/: two files of this name/'
    grep -rnHIE "$marks" . --exclude-dir={.git,build,runs,fixtures,corpus} | sed 's|^\./||; s/$/   <- not here/'
    grep -nHE '\b(system|popen)[[:space:]]*\(' "${sources[@]}" | grep -v '^tests/' |
        sed -E 's/^([^:]*:[0-9]*):.*/\1: runs a shell/'
    long_functions "${sources[@]}"
}

found=$(problems) || true
[ -z "$found" ] || { echo "$found"; exit 1; }
