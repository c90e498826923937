#!/bin/sh
# Fetches public data that is not part of this repository, each into its own folder of $THALWEG_DATA
# (default ~/.cache/thalweg), and believes it only by its checksum.
#   scripts/get_data.sh gpt2    GPT-2's merges (450 KB), for --tokenizer gpt2
set -eu

data=${THALWEG_DATA:-$HOME/.cache/thalweg}

fetch() { # URL SHA256 FILE
    url=$1 sum=$2 file=$3
    if [ -f "$file" ] && echo "$sum  $file" | sha256sum -c --status; then
        echo "$file is there already"
        return
    fi
    mkdir -p "$(dirname "$file")"
    part=$file.part.$$
    trap 'rm -f "$part"' EXIT
    if command -v curl >/dev/null; then
        curl -fsSL --retry 3 -o "$part" "$url"
    elif command -v wget >/dev/null; then
        wget -q -O "$part" "$url"
    else
        echo "neither curl nor wget is here; apt-get install curl" >&2
        exit 1
    fi || {
        echo "could not fetch $url; fetch it elsewhere and put it at $file" >&2
        exit 1
    }
    if ! echo "$sum  $part" | sha256sum -c --status; then
        echo "$url: the checksum is not $sum; nothing was kept, try again" >&2
        exit 1
    fi
    mv "$part" "$file"
    echo "$file"
}

case ${1:-} in
gpt2)
    fetch https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/vocab.bpe \
        1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5 "$data/gpt2/vocab.bpe"
    ;;
*)
    echo "usage: scripts/get_data.sh gpt2" >&2
    exit 2
    ;;
esac
