#!/usr/bin/env bash
# Text as it is found: compressed, from a pipe, under another member's name; any number of threads; a tokenizer that is
# trained, and a model on it; and what is wrong with each of these, named, with nothing kept.
. "$(dirname "$0")/lib.sh"
make_text 3000 >text.txt
awk '{ printf "{\"body\": \"%s\"}\n", $0 }' text.txt >lines.jsonl
prepare() { "$program" prepare "$@" --tokenizer byte >prepare.log 2>&1 || { cat prepare.log >&2; fail "prepare $*"; }; }
same_shards() { # a b
    for file in "$1"/*.bin; do cmp "$file" "$2/${file##*/}" || fail "$1 and $2 differ"; done
}

echo "== compressed, piped, by one thread and by several"
prepare text.txt --out text
prepare lines.jsonl --field body --out lines
gzip -c text.txt >text.txt.gz
{ head -n 1000 lines.jsonl | gzip -c; tail -n +1001 lines.jsonl | gzip -c; } >lines.jsonl.gz
prepare text.txt.gz --out packed_text
prepare lines.jsonl.gz --field body --out packed_lines --threads 1
same_shards text packed_text
same_shards lines packed_lines
prepare - --field body --out piped --threads 3 <lines.jsonl
prepare - --field=body --out piped_gzip < <(cat lines.jsonl.gz)
same_shards lines piped
same_shards lines piped_gzip
grep -q '"sources": \["stdin"\]' piped/dataset.json || fail "the source is not told"
cp "$root/tests/fixtures/text/three.jsonl.zst" .
expect 0 'documents +3, 59' "$program" prepare three.jsonl.zst --tokenizer byte --out three --val-fraction 0.5

echo "== what is damaged, missing or not meant"
cp -r text kept
head -c 3000 text.txt.gz >cut.txt.gz
{ cat lines.jsonl.gz; echo more; } >followed.jsonl.gz
head -c -2 three.jsonl.zst >cut.jsonl.zst
printf 'X' | dd of=three.jsonl.zst bs=1 seek=20 conv=notrunc 2>/dev/null
cp text.txt plain.txt.gz
head -c 5000 lines.jsonl >cut.jsonl
refused() { # CODE PATTERN ARGUMENT...
    local code=$1 pattern=$2; shift 2
    expect "$code" "$pattern" "$program" prepare "$@" --out text
    diff -r text kept || fail "a refused command changed what was there"
}
refused 65 'cut.txt.gz: byte 3000 of the gzip file: the file ends in the middle' cut.txt.gz --tokenizer byte
refused 65 'followed.jsonl.gz: byte [0-9]+ of the gzip file: something else' followed.jsonl.gz --tokenizer byte \
    --field body
refused 65 'cut.jsonl.zst: byte [0-9]+ of the zstd file: the file ends in the middle' cut.jsonl.zst --tokenizer byte
refused 65 'three.jsonl.zst' three.jsonl.zst --tokenizer byte
refused 65 'plain.txt.gz: byte 0 of the gzip file: no gzip data' plain.txt.gz --tokenizer byte
refused 65 'lines.jsonl, line 1: expected an object with a string "text".*--field' lines.jsonl --tokenizer byte
refused 66 'the inputs hold no text' - --tokenizer byte
status=0
"$program" prepare - --field body --tokenizer byte --out text <cut.jsonl >out.log 2>&1 || status=$?
[ $status -eq 65 ] && grep -q '^standard input, line ' out.log || { cat out.log; fail "a cut pipe ends with $status"; }
refused 2 'name it once' - - --tokenizer byte
for size in 256 0 -5 1048577 300x '' 1e3 99999999999999999999; do
    refused 2 "bpe:$size: expected bpe:N, N from 257 to 1048576" text.txt --tokenizer "bpe:$size"
done
refused 2 'cannot be read twice' - --tokenizer bpe:300
refused 2 '--threads: .*1025' text.txt --tokenizer byte --threads 1025
refused 2 '--threads' text.txt --tokenizer byte --threads two
mkdir foreign && echo mine >foreign/notes.txt
expect 73 'foreign: holds notes.txt' "$program" prepare text.txt --tokenizer bpe:300 --out foreign

echo "== stopped by a signal: what was there stays, and is replaced the next time"
mkfifo pipe
for signal in 1 2 15; do
    "$program" prepare - --field body --tokenizer byte --out text <pipe >start.log 2>&1 & started=$!
    exec 9>pipe
    wait_to_heed $signal
    kill -$signal "$started"
    ends_with $((signal == 2 ? 130 : 128 + signal))
    exec 9>&-
    grep -q '^prepare: interrupted; ' start.log || { cat start.log; fail "it does not tell what is left"; }
    diff -r --exclude=prepare.partial text kept || fail "signal $signal changed what was there"
done
prepare text.txt --out text
diff -r text kept || fail "what was stopped is in the way"

echo "== a tokenizer that is trained, and a model on it"
expect 0 'vocabulary +300 \(bpe\)' "$program" prepare text.txt --tokenizer bpe:300 --out shards
expect 0 'vocabulary +300 \(bpe\)' "$program" prepare text.txt.gz --tokenizer bpe:300 --out again --threads 1
same_shards shards again
cmp shards/tokenizer.json again/tokenizer.json
expect 0 'the text gives [0-9]+ of the 50000 tokens' "$program" prepare text.txt --tokenizer bpe:50000 --out small
expect 0 'vocabulary +300 \(bpe\)' "$program" prepare lines.jsonl --field body \
    --tokenizer shards/tokenizer.json --out other
train run.dir=run train.steps=1 data.tokenizer=shards/tokenizer.json
expect 0 '^the river' "$program" sample run --prompt 'the river' --tokens 5
