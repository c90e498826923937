#!/usr/bin/env bash
# What the documents say exists: every train_gpt command in a shell block is a command of the program, every file they
# link is there, and docs/configuration.md is what the option rows print.
set -euo pipefail
cd "$(dirname "$0")/.."

problems=$(
    ./train_gpt help --markdown | cmp -s - docs/configuration.md ||
        echo "docs/configuration.md is out of date: ./train_gpt help --markdown > docs/configuration.md"
    for document in README.md docs/*.md; do
        awk '/^```sh/ {on=1; next} /^```/ {on=0} on' "$document" |
            { grep -oE '(^|[ ;&])(\./)?train_gpt [a-z]+' || true; } | awk '{print $NF}' | sort -u |
            while read -r command; do
                ./train_gpt help | grep -qE "^ +$command( |\$)" || echo "$document: there is no command $command"
            done
        { grep -oE '\]\([^)#: ]+' "$document" || true; } | sed 's/^](//' | sort -u |
            while read -r target; do
                [ -e "$(dirname "$document")/$target" ] || echo "$document: links $target, which is not there"
            done
    done
)
[ -z "$problems" ] || { echo "$problems"; exit 1; }
