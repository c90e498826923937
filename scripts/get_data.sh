#!/bin/sh
# Fetches public data that is not part of this repository, each into its own folder of $THALWEG_DATA
# (default ~/.cache/thalweg), and believes it only by size and checksum. What was interrupted stays as FILE.part, and
# the same command goes on with it.
#   scripts/get_data.sh list            what there is, from where, under which licence
#   scripts/get_data.sh NAME [COUNT]    COUNT: training shards, of sets that have them (default 10)
# A mirror: with THALWEG_MIRROR=URL everything is fetched from URL/HOST/PATH instead of https://HOST/PATH.
set -eu

data=${THALWEG_DATA:-$HOME/.cache/thalweg}

names="tinyshakespeare gpt2 hellaswag fineweb10B fineweb-edu-10B"

# A row of the table: what, licence, source, and sha256, size (bytes; empty: not known) and file of what is one file.
# Where sha256 is `lfs`, source is a dataset of the Hugging Face Hub with token shards FILE_val_000000.bin and
# FILE_train_000001.bin to the last one, whose number is `last`. Their size and sha256 are those of Git LFS:
# SOURCE/raw/main/NAME has them in lines `oid sha256:...` and `size ...`, SOURCE/resolve/main/NAME is the shard itself.
describe() { # NAME
    last='' size=''
    case $1 in
    tinyshakespeare)
        what="plays by Shakespeare, one text file of 1.1 MB" licence="public domain; collected in karpathy/char-rnn"
        source=https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt
        sha256=86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed size=1115394 file=tinyshakespeare.txt
        ;;
    gpt2)
        what="merges of GPT-2's tokenizer, 0.5 MB, for --tokenizer gpt2" licence="MIT; OpenAI"
        source=https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/vocab.bpe
        sha256=1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5 size=456318 file=vocab.bpe
        ;;
    hellaswag)
        what="HellaSwag's validation set, 10042 examples, 12 MB" licence="MIT; Zellers and others, 2019"
        source=https://raw.githubusercontent.com/rowanz/hellaswag/a29ff8e9a04bba4bd6588223785ce105328adc57
        source=$source/data/hellaswag_val.jsonl
        sha256=0aa3b88843990f3f10a97b9575c94d7b71fb2205240ba04ae4884d9e9c992588 file=hellaswag_val.jsonl
        ;;
    fineweb10B)
        what="FineWeb as GPT-2's tokens, 103 shards of 100M tokens, 200 MB each"
        licence="ODC-By 1.0, and Common Crawl's terms of use"
        source=https://huggingface.co/datasets/kjj0/fineweb10B-gpt2 sha256=lfs file=fineweb last=103
        ;;
    fineweb-edu-10B)
        what="FineWeb-Edu as GPT-2's tokens, 99 shards of 100M tokens, 200 MB each"
        licence="ODC-By 1.0, and Common Crawl's terms of use"
        source=https://huggingface.co/datasets/kjj0/finewebedu10B-gpt2 sha256=lfs file=finewebedu last=99
        ;;
    *) usage ;;
    esac
}

fail() { # EXIT_CODE MESSAGE...
    code=$1
    shift
    echo "$*" >&2
    exit "$code"
}

usage() { fail 2 "usage: scripts/get_data.sh list | NAME [COUNT]; the names are $names"; }

# ---- fetching ----

address() { # https://HOST/PATH, or where the mirror has it
    if [ -n "${THALWEG_MIRROR:-}" ]; then echo "$THALWEG_MIRROR/${1#https://}"; else echo "$1"; fi
}

# Goes on behind what the file holds already; begins anew where the server gives no part of a file.
download() { # URL FILE
    if command -v curl >/dev/null; then
        if [ -t 2 ]; then how=--progress-bar; else how=-sS; fi
        status=0
        curl -fL "$how" --retry 3 -C - -o "$2" "$1" || status=$?
        [ "$status" -eq 33 ] || return "$status"
        rm -f "$2"
        curl -fL "$how" --retry 3 -o "$2" "$1"
    elif command -v wget >/dev/null; then
        wget -q -c -O "$2" "$1"
    else
        fail 1 "neither curl nor wget is here; apt-get install curl"
    fi
}

bytes_of() { if [ -f "$1" ]; then wc -c <"$1" | tr -d ' '; else echo 0; fi; }

is_right() { # SHA256 FILE
    [ -f "$2" ] && [ "$(checksum <"$2" | cut -d' ' -f1)" = "$1" ]
}

checksum() { if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi; }

# Before so many bytes are written to a folder.
check_space() { # BYTES FOLDER
    free=$(df -Pk "$2" | awk 'NR == 2 { print $4 }')
    [ -z "$free" ] || [ $(($1 / 1024)) -le "$free" ] ||
        fail 1 "$2: $(($1 / 1000000)) MB are to come, $((free / 1000)) MB are free; set THALWEG_DATA to another place"
}

has_all() { # FILE SIZE
    [ -n "$2" ] && [ "$(bytes_of "$1")" -eq "$2" ]
}

# Into PART, which may hold some of it.
fetch_part() { # URL PART SIZE
    began=$(bytes_of "$2")
    if [ -n "$3" ]; then
        if [ "$began" -gt "$3" ]; then rm -f "$2"; fi
        check_space $(($3 - $(bytes_of "$2"))) "$(dirname "$2")"
    fi
    has_all "$2" "$3" || download "$1" "$2" || {
        # of unknown size: it may be there, and wrong
        [ -z "$3" ] && [ "$began" -gt 0 ] && rm -f "$2" && download "$1" "$2"
    } || fail 1 "could not fetch $1; the same command goes on where it was; or fetch it elsewhere, to ${2%.part}"
    [ -z "$3" ] || has_all "$2" "$3" ||
        fail 1 "$1: $(bytes_of "$2") of $3 bytes came; the same command goes on where it was"
}

fetch() { # URL SHA256 SIZE FILE; SIZE empty: not known
    if is_right "$2" "$4"; then
        echo "$4 is there already"
        return
    fi
    mkdir -p "$(dirname "$4")"
    fetch_part "$(address "$1")" "$4.part" "$3"
    is_right "$2" "$4.part" || {
        rm -f "$4.part"
        fail 1 "$(address "$1"): the checksum is not $2; nothing was kept, try again"
    }
    mv "$4.part" "$4"
    echo "$4"
}

# ---- shards of the Hugging Face Hub ----

fetch_shard() { # NAME, of $source
    url=$(address "$source/raw/main/$1") pointer=$folder/pointer.$$
    mkdir -p "$folder"
    rm -f "$pointer"
    download "$url" "$pointer" || fail 1 "could not fetch $url, which says how large $1 is and what its checksum"
    oid=$(sed -n 's/^oid sha256:\([0-9a-f]\{64\}\)$/\1/p' "$pointer")
    bytes=$(sed -n 's/^size \([0-9][0-9]*\)$/\1/p' "$pointer")
    rm -f "$pointer"
    [ -n "$oid" ] && [ -n "$bytes" ] || fail 1 "$url: expected a pointer of Git LFS, with oid sha256 and size"
    fetch "$source/resolve/main/$1" "$oid" "$bytes" "$folder/$1"
}

fetch_shards() { # COUNT
    case $1 in '' | *[!0-9]* | 0* | ??????????*) usage ;; esac
    [ "$1" -le "$last" ] || fail 2 "$name: there are $last training shards, not $1"
    echo "1 of $(($1 + 1))"
    fetch_shard "${file}_val_000000.bin"
    shard=1
    while [ "$shard" -le "$1" ]; do
        echo "$((shard + 1)) of $(($1 + 1))"
        fetch_shard "$(printf '%s_train_%06d.bin' "$file" "$shard")"
        shard=$((shard + 1))
    done
    [ -f "$data/gpt2/vocab.bpe" ] || echo "the tokenizer is still to come: scripts/get_data.sh gpt2"
    echo "train with: data.train='$folder/${file}_train_*.bin' data.val='$folder/${file}_val_*.bin'" \
        "data.tokenizer=gpt2"
}

# ---- what is asked for ----

list() {
    for name in $names; do
        describe "$name"
        printf '%-16s %s\n%16s %s\n%16s licence: %s\n' "$name" "$what" '' "$source" '' "$licence"
    done
}

what_next() {
    case $name in
    tinyshakespeare) echo "next: ./train_gpt prepare '$folder/$file' --tokenizer byte --out shards" ;;
    gpt2) echo "next: --tokenizer gpt2, data.tokenizer=gpt2" ;;
    hellaswag) echo "next: ./train_gpt eval MODEL --tasks hellaswag; in training eval.tasks=val,hellaswag" ;;
    esac
}

[ $# -ge 1 ] && [ $# -le 2 ] || usage
[ "$1" != list ] || { list; exit; }
name=$1 folder=$data/$1
describe "$name"
[ $# -eq 1 ] || [ "$sha256" = lfs ] || usage
command -v sha256sum >/dev/null || command -v shasum >/dev/null ||
    fail 1 "neither sha256sum nor shasum is here, so that nothing can be verified; apt-get install coreutils"
echo "$name: $what
from     $source
licence  $licence"
if [ "$sha256" = lfs ]; then
    fetch_shards "${2:-10}"
else
    fetch "$source" "$sha256" "$size" "$folder/$file"
    what_next
fi
