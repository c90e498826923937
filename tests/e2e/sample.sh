#!/usr/bin/env bash
# sample: prompts from words, files and ids, options, ends of a text, JSON; mistakes; samples while training.
. "$(dirname "$0")/lib.sh"
make_shards
learned=(train.sequence_length=32 train.batch_tokens=256 train.micro_batch=8 train.steps=60 optim.lr=0.01)
train run.dir=run "${learned[@]}"
sample() { "$program" sample run "$@" 2>sample.err; }
# equal FILE FILE WHAT
equal() { cmp "$1" "$2" || { cat "$1" "$2" >&2; fail "$3"; }; }
has() { # PATTERN FILE
    grep -qE -- "$1" "$2" || { cat "$2" >&2; fail "no \"$1\" in $2"; }
}

echo "== text, and the same from a file, with --json and as ids"
sample --prompt 'the river' --tokens 12 --seed 3 >text.out
has '^the river' text.out
printf 'the river\n\n  \nstone\r\n' >prompts.txt
sample --prompts prompts.txt --tokens 12 --seed 3 >file.out
has '^== prompt 1 of 2$' file.out
has '^== prompt 2 of 2$' file.out
has '^stone' file.out
sed -n '2,/^$/p' file.out | sed '$d' >first.out
equal text.out first.out "the first prompt of a file is not the single one"
printf '{"prompt": "the river", "more": 1}\n{"prompt": "two\\nlines"}\n' >prompts.jsonl
sample --prompts prompts.jsonl --tokens 12 --seed 3 --json >lines.json
has '"prompt": "two\\nlines"' lines.json
sample --prompts - --tokens 12 --seed 3 --json <prompts.txt >stdin.json
has '"prompt": "stone"' stdin.json
[ ! -s sample.err ] || { cat sample.err >&2; fail "--json tells more than mistakes"; }
[ "$(head -c 1 stdin.json)" = '{' ] && [ "$(tail -n 1 stdin.json)" = '}' ] || fail "more than an object on stdout"
has '"finish": "(length|end_of_text)"' stdin.json
ids_of() { grep -m 1 '"ids"' "$1" | sed 's/.*\[//; s/\].*//'; }
ids_of lines.json >a.ids
ids_of stdin.json >b.ids
equal a.ids b.ids "lines and JSON lines differ"
word=$(printf 'the river' | od -An -tu1 | tr -s ' \n' ' ') # ids of the byte tokenizer
sample --ids --prompt "$word" --tokens 12 --seed 3 >ids.out
[ "$(tr -d ' \n' <ids.out)" = "$(tr -d ' \n' <<<"$word")$(tr -d ', \n' <a.ids)" ] ||
    fail "ids differ from those of the text"
sample --ids --prompt "${word// /,}" --tokens 12 --seed 3 --json >ids.json
has '"text": null' ids.json
ids_of ids.json >c.ids
equal a.ids c.ids "ids with commas differ"

echo "== options"
sample --prompt 'the ' --temperature 0 --tokens 20 --ignore-eos >greedy.out
for option in '--top-k 1' '--top-p 0.000001' '--min-p 1' 'sample.top_k=1'; do
    # shellcheck disable=SC2086 # an option and its value
    sample --prompt 'the ' $option --tokens 20 --ignore-eos >other.out
    equal greedy.out other.out "$option is not the likeliest token"
done
sample --prompt 'the ' --temperature 0 --tokens 20 --ignore-eos --repetition-penalty 100 >penalty.out
! cmp -s greedy.out penalty.out || fail "a penalty changes nothing"
sample --prompt 'the ' --temperature 0 --tokens 20 --ignore-eos --weights z >z.out
equal greedy.out z.out "adamw's z is not what the model holds"

echo "== ends: a text that is not shown, whole or in part; the separator"
tail -c +5 greedy.out | head -c 10 >ten
stop=$(tail -c 3 ten) # of a text that begins with these ten bytes
sample --prompt 'the ' --temperature 0 --tokens 20 --stop "$stop" >stop.out
all=$(tail -c +5 greedy.out)
[ "$(cat stop.out)" = "the ${all%%"$stop"*}" ] || { cat greedy.out stop.out >&2; fail "--stop $stop"; }
sample --prompt 'the ' --temperature 0 --tokens 20 --stop "$stop" --json >stop.json
has '"finish": "stop"' stop.json
sample --prompt 'the ' --temperature 0 --tokens 20 --ignore-eos --stop "$(tail -c 2 greedy.out | head -c 1)#" >held.out
equal greedy.out held.out "text that only begins like the stop text is lost"
sample --tokens 3000 --json --temperature 3 >end.json # one of 257 ids, about
has '"finish": "end_of_text"' end.json
[ "$(ids_of end.json | grep -o 256 | wc -l)" -eq 1 ] || fail "the separator is not the last of the ids"
sample --tokens 3000 --json --temperature 3 --ignore-eos >through.json
has '"tokens": 3000,' through.json
has 'forgets the older half' sample.err
sample --ids --prompt 256 --tokens 3000 --json --temperature 3 --weights z >ids.json
has '"tokens": 3000,' ids.json # whether or not a tokenizer is there

echo "== characters of several bytes come whole"
mkdir wide && awk 'BEGIN { for (i = 0; i < 2000; i++) print "é€😀" }' >wide.txt
"$program" prepare wide.txt --tokenizer byte --out wide >prepare.log 2>&1
data=(data.train='wide/train_*.bin' data.val='wide/val_*.bin')
train run.dir=wide/run "${learned[@]}"
"$program" sample wide/run --prompt 'é' --temperature 0 --tokens 17 >wide.out
[ "$(cat wide.out)" = $'é€😀\né€😀' ] || { cat wide.out >&2; fail "not what it was trained on"; }
data=(data.train='shards/train_*.bin' data.val='shards/val_*.bin')

echo "== mistakes"
expect 2 'sample.top_p: "0" is outside' "$program" sample run --top-p 0
expect 2 'sample.min_p' "$program" sample run --min-p 1.5
expect 2 'sample.repetition_penalty' "$program" sample run --repetition-penalty 0
expect 2 'leave one of them out' "$program" sample run --prompt a --prompts prompts.txt
expect 2 'leave one of them out' "$program" sample run --ids --prompt 1 --stop a
expect 66 '--prompts nowhere: .*name a file' "$program" sample run --prompts nowhere
expect 66 '--prompts \.: ' "$program" sample run --prompts .
expect 2 'it holds no prompt' "$program" sample run --prompts /dev/null
printf 'a\0b\n' >zero.txt
expect 2 'bytes that are 0' "$program" sample run --prompts zero.txt
printf '{"prompt": "a"}\n{"prompt": 3}\n' >bad.jsonl
expect 2 'bad.jsonl line 2: expected an object like' "$program" sample run --prompts bad.jsonl
expect 2 '"x4" is not an id' "$program" sample run --ids --prompt '1 x4'
expect 2 '"257" is not in the vocabulary' "$program" sample run --ids --prompt 257
expect 2 '"-3" is not an id' "$program" sample run --ids --prompt '1,-3'
expect 2 'at least one' "$program" sample run --ids
expect 2 '--weights w' "$program" sample run --weights w

echo "== nobody reads"
status=0
sample --tokens 1000000 --ignore-eos | head -c 10 >/dev/null || status=$?
[ $status -eq 141 ] || fail "exit $status where nobody reads"

echo "== while training: the text of a command, and nothing else changes"
options=(sample.prompt='the river' sample.tokens=12 sample.top_k=9 sample.top_p=0.9 sample.stop=zz run.seed=3)
train run.dir=with "${learned[@]}" sample.every=60 "${options[@]}"
mv train.log with.log
train run.dir=without "${learned[@]}" run.seed=3
same_run with without
"$program" sample with --prompt 'the river' --tokens 12 --top-k 9 --top-p 0.9 --stop zz --seed $((3 + 60)) >command.out
[[ $(cat with.log) == *"step 60: sample"$'\n'"$(cat command.out)"* ]] ||
    { cat with.log command.out >&2; fail "a sample while training is not that of the command"; }
expect 0 'key-value cache +.*MiB' "$program" check "$tiny" "${data[@]}" "${learned[@]}" sample.every=5 \
    sample.tokens=90000 model.context=100000
