#!/usr/bin/env bash
# Budgets of the tree: files of 600 lines (train_gpt.c 800), functions of 70 (120 for forward, backward and the loop),
# lines of 120 columns, no tabs in C, unique basenames, nothing left behind to be done.
set -euo pipefail
cd "$(dirname "$0")/.."

sources() { find train_gpt.c runtime kernels model optim data commands tests -name '*.[ch]' -o -name '*.def' -path './*'; }

# Functions begin at a line that starts with a letter and ends with an opening brace; they end at a lone closing one.
long_functions() {
    awk -v limit=70 -v larger=120 '
        FNR == 1 { start = 0 }
        /^[A-Za-z_].*\) \{$/ || (/^ .*\) \{$/ && head) { if (!start) { start = FNR; name = head ? head : $0 } }
        { head = /^[A-Za-z_][^;=]*[(,][^;{]*$/ ? $0 : (head && /^ /) ? head : "" }
        /^\}/ && start {
            most = name ~ /forward|backward|train\(/ ? larger : limit
            if (FNR - start + 1 > most) print FILENAME ":" start ": " FNR - start + 1 " lines: " name
            start = 0
        }' "$@"
}

mapfile -t files < <(sources)
problems=$(
    for file in "${files[@]}"; do
        lines=$(wc -l <"$file"); most=600
        [ "$file" != train_gpt.c ] || most=800
        [ "$lines" -le "$most" ] || echo "$file: $lines lines, at most $most"
    done
    awk 'length($0) > 120 { print FILENAME ":" FNR ": " length($0) " columns" }' $(printf '%s\n' "${files[@]}" | grep -v '\.def$')
    grep -nP '\t' "${files[@]}" | sed 's/$/ (a tab)/' || true
    printf '%s\n' "${files[@]}" | sed 's|.*/||' | sort | uniq -d | sed 's/$/: a name used twice/'
    mark='TO''DO|FIX''ME|XX''X'
    grep -rnE "$mark" --include='*' . --exclude-dir=.git --exclude-dir=build --exclude-dir=runs --exclude-dir=fixtures \
        --exclude-dir=demo -I || true
    long_functions "${files[@]}"
)
[ -z "$problems" ] || { echo "$problems"; exit 1; }
