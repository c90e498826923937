#!/usr/bin/env bash
# What the documents say is there: in every `sh` block of README.md and docs/, the commands, options and keys of
# train_gpt are known to the program and the files of this tree exist; every relative link leads somewhere;
# docs/configuration.md is what the option rows print.
#   scripts/check_docs.sh      the program is $TRAIN_GPT, or ./train_gpt
set -euo pipefail
shopt -s nullglob
cd "$(dirname "$0")/.."

program=${TRAIN_GPT:-./train_gpt}
[ -x "$program" ] || { echo "$program is not there; build it with make"; exit 1; }
commands=$("$program" help | awk '/^Sections/ { exit } /^  [a-z]/ { print $1 }' | tr '\n' ' ')

# Lines of the sh blocks, without comments, continued lines joined.
shell_lines() {
    awk '/^```sh/ { on = 1; next } /^```/ { on = 0 } on' "$1" |
        awk '{ sub(/ # .*/, ""); gsub(/;/, " ; "); if (sub(/\\$/, "")) printf "%s", $0; else print }'
}

check_command() { # COMMAND WORD...
    local command=$1 usage word; shift
    [[ " $commands " == *" $command "* ]] || { echo "there is no command $command"; return; }
    usage=$("$program" help "$command" | sed -n 's/^usage: //p')
    for word; do
        case $word in
        --markdown) ;;
        base=*) [ "$command" = sweep ] && [ -e "${word#*=}" ] || echo "$command has no $word" ;;
        --*) [[ "$usage" == *"$word"* ]] || echo "$command has no option $word" ;;
        [a-z]*=*) "$program" help "${word%%=*}" >/dev/null 2>&1 || echo "there is no key ${word%%=*}" ;;
        esac
    done
}

check_line() { # WORD...
    while [ $# -gt 0 ]; do
        case $1 in
        train_gpt | ./train_gpt) shift; check_command "$@" ;;
        make) make -n ${2:+"$2"} >/dev/null 2>&1 || echo "make has no target ${2:-}" ;;
        configs/* | scripts/* | ./scripts/* | docs/*) [ -e "$1" ] || echo "$1 is not there" ;;
        esac
        shift
    done
}

links() { # relative ones, without their anchors
    { grep -oE '\]\([^)#: ]+' "$1" || true; } | sed 's/^](//' | sort -u
}

problems() {
    local document target words
    "$program" help --markdown | cmp -s - docs/configuration.md ||
        echo "docs/configuration.md is out of date; run: ./train_gpt help --markdown > docs/configuration.md"
    for document in README.md docs/*.md; do
        shell_lines "$document" | while read -ra words; do check_line "${words[@]}"; done |
            sort -u | sed "s|^|$document: |"
        grep -HnE '^[A-Z]{3,}(_[A-Z]+)*$' "$document" | sed 's/$/ holds the place of something/'
        while read -r target; do
            [ -e "$(dirname "$document")/$target" ] || echo "$document: links $target, which is not there"
        done < <(links "$document")
    done
}

found=$(problems) || true
[ -z "$found" ] || { echo "$found"; exit 1; }
