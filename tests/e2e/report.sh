#!/usr/bin/env bash
# Reports: of real runs and of a sweep of 40 runs that is written here; whole, well-formed, small, harmless.
#   tests/e2e/report.sh      the program is $TRAIN_GPT, or ./train_gpt
source "$(dirname "$0")/lib.sh"

# Tags that match, attributes in quotes and once each, no < or & that begins nothing: what makes XML of it.
well_formed() { # FILE
    awk -v RS='<' -v name="$1" '
        function complain(what) { print name ": " what ": <" substr($0, 1, 120); bad = 1; exit 1 }
        NR == 1 { next }
        {
            end = index($0, ">")
            if (!end) complain("a < that begins no tag")
            tag = substr($0, 1, end - 1); text = substr($0, end + 1)
            rest = text
            gsub(/&(amp|lt|gt|quot|#39);/, "", rest)
            if (index(rest, "&")) complain("a & that begins nothing")
            if (tag ~ /^!DOCTYPE/) next
            if (tag ~ /^\//) {
                if (substr(tag, 2) != open[depth--]) complain("not what is open, " open[depth + 1])
                next
            }
            empty = sub(/\/$/, "", tag)
            element = tag; sub(/[ \n].*/, "", element)
            if (element !~ /^[a-zA-Z][a-zA-Z0-9]*$/) complain("no name of a tag")
            attributes = substr(tag, length(element) + 1)
            split("", seen)
            while (match(attributes, /^[ \n]+[a-zA-Z:-]+="[^"]*"/)) {
                one = substr(attributes, RSTART, RLENGTH); attributes = substr(attributes, RLENGTH + 1)
                key = one; sub(/=.*/, "", key); gsub(/[ \n]/, "", key)
                value = one; gsub(/&(amp|lt|gt|quot|#39);/, "", value)
                if (key in seen) complain("twice " key)
                if (key ~ /^on|^href$|^src$|^style$/) complain("an attribute " key)
                if (index(value, "&")) complain("a & that begins nothing")
                seen[key] = 1
                if (key == "id" && ids[one]++) complain("an id twice")
            }
            if (attributes != "") complain("attributes that are none: " attributes)
            if (!empty) open[++depth] = element
            if (element == "script") scripts++
        }
        END {
            if (bad) exit 1
            if (depth != 0) { print name ": open at the end: " open[depth]; exit 1 }
            if (scripts != 1) { print name ": " scripts " scripts"; exit 1 }
        }' "$1" || fail "$1 is not well-formed"
}

# A browser is shown nothing that is elsewhere, and runs the one script whose hash the page names.
harmless() { # FILE
    local script hash others
    well_formed "$1"
    others=$(sed -E 's#http://www.w3.org/(1999/xhtml|2000/svg)"##g' "$1" |
        grep -cE 'https?://|url\([^#]|@import' || true)
    [ "$others" -eq 0 ] || fail "$1 names something that is elsewhere"
    script=$(tr '\n' '\001' <"$1" | sed 's/.*<script>\(.*\)<\/script>.*/\1/' | tr '\001' '\n')
    hash=$(printf '%s' "$script" | sha256sum | cut -d' ' -f1 | sed 's/../\\x&/g')
    hash=$(printf '%b' "$hash" | base64)
    grep -F "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-$hash'" "$1" >/dev/null ||
        fail "$1 does not allow its script, sha256-$hash"
}

smaller() { # FILE BYTES
    [ "$(wc -c <"$1")" -lt "$2" ] || fail "$1 has $(wc -c <"$1") bytes"
}

shows() { # FILE TEXT...
    local file=$1 text; shift
    for text; do grep -F -- "$text" "$file" >/dev/null || fail "$file does not show $text"; done
}

# ---- runs ----

make_shards
train run.dir=a train.steps=12 eval.every=4 optim.lr=0.004
train run.dir=b train.steps=12 eval.every=4 optim.name=muon
expect 0 '^a/report.html$' "$program" report a
harmless a/report.html
shows a/report.html '<title>Run a</title>' '12 of 12' 'Validation loss' 'Learning rate' '<dt>optimizer</dt>' FLOPs
expect 0 '^./report.html$' bash -c "cd a && '$program' report ."
shows a/report.html '<title>Run a</title>'
expect 0 '^two.html$' "$program" report a b/ --out two.html
harmless two.html
shows two.html '<bdi title="b">b</bdi>' 'optim.name' 'what is the same in all'
cp a/report.html before.html
expect 0 . "$program" report a
cmp a/report.html before.html || fail "the same run gave two reports"

# Damage has its line, and leaves the report that was there; a torn last line is that of a run at work.
cp -r a torn
printf '{"step":13,"lo' >>torn/metrics.jsonl
expect 0 . "$program" report torn
cp -r a damaged
sed -i '3s/.*/{"step":3,/' damaged/metrics.jsonl
expect 65 'damaged/metrics.jsonl, line 3' "$program" report damaged
cmp damaged/report.html a/report.html || fail "a report was lost"
expect 66 'shards: neither a run nor a sweep' "$program" report a shards --out x.html
expect 66 'nothing: there is no such directory' "$program" report nothing
expect 73 . "$program" report a --out nowhere/x.html
expect 2 . "$program" report

# What is no file is not replaced by one; of a link the file behind it is.
mkfifo pipe
expect 73 'pipe is not a regular file' "$program" report a --out pipe
[ -p pipe ] || fail "a pipe was replaced"
echo old >behind.html
ln -s behind.html link.html
expect 0 '^link.html$' "$program" report a --out link.html
[ -L link.html ] || fail "a link was replaced"
cmp behind.html a/report.html || fail "the file behind a link was not replaced"
[ ! -e x.html ] || fail "x.html was written"

# ---- a sweep ----

# 40 runs: 4 arms, 5 learning rates, 2 seeds; one arm's name is a script. The highest rate diverges, and one run's
# metrics are damaged.
make_sweep() { # DIR LINES
    mkdir -p "$1/runs"
    awk -v dir="$1" -v lines="$2" 'BEGIN {
        split("adamw,<script>document.title=1</script>,\\\"><img src=x onerror=alert(1)>,a \\u202e&amp; b", arm, ",")
        printf "{\"v\":1,\"time\":1,\"event\":\"plan\",\"name\":\"s\",\"metric\":\"val_loss\",\"goal\":\"min\"," \
               "\"at\":\"last\",\"runs\":[" >(dir "/state.jsonl")
        for (i = 0; i < 40; i++) {
            a = int(i / 10) + 1; lr = 0.001 * 3 ^ (int(i / 2) % 5); seed = i % 2 + 1
            id = sprintf("%012x", i + 1)
            printf "%s{\"id\":\"%s\",\"arm\":\"%s\",\"settings\":{\"optim.lr\":%g,\"run.seed\":%d},\"steps\":%d," \
                   "\"step_tokens\":64}", i ? "," : "", id, arm[a], lr, seed, lines >(dir "/state.jsonl")
        }
        print "]}" >(dir "/state.jsonl")
        for (i = 0; i < 40; i++) {
            id = sprintf("%012x", i + 1); run = dir "/runs/" id; step = int(i / 2) % 5
            diverged = step == 4; base = 2 + int(i / 10) / 10 + (step - (i < 30) * 2) ^ 2 / 20 + i % 2 / 100
            system("mkdir -p " run)
            printf "{\"parameters\":1000,\"flops_per_token\":6000,\"step_tokens\":64,\"anytime\":%s}\n",
                   i < 30 ? "true" : "false" >(run "/run.json")
            for (s = 1; s <= lines; s++) {
                loss = diverged && s == lines ? "null" : base + 3 / s
                printf "{\"step\":%d,\"tokens\":%d,\"loss\":%s,\"lr\":0.01,\"grad_norm\":%g,\"skipped\":0," \
                       "\"tokens_per_second\":1000,\"seconds\":%g,\"gpu_power\":300}\n", s, s * 64, loss, 1 + 9 / s,
                       s / 10 >(run "/metrics.jsonl")
                if (s % int(lines / 10) == 0)
                    printf "{\"step\":%d,\"tokens\":%d,\"val_loss\":%g,\"seconds\":%g}\n", s, s * 64, base + 2 / s,
                           s / 10 >(run "/metrics.jsonl")
            }
            if (i == 7) print "damage\n{}" >(run "/metrics.jsonl")
            close(run "/metrics.jsonl"); close(run "/run.json")
            printf "{\"v\":1,\"time\":2,\"event\":\"started\",\"run\":\"%s\",\"attempt\":1,\"host\":\"h\",\"pid\":1," \
                   "\"slot\":\"cpu 0\",\"until\":0}\n", id >(dir "/state.jsonl")
            printf "{\"v\":1,\"time\":3,\"event\":\"ended\",\"run\":\"%s\",\"status\":\"%s\",\"exit\":%d,\"step\":%d," \
                   "\"reason\":\"%s\",\"metric\":%g,\"best\":%g,\"seconds\":9,\"wall\":10}\n", id,
                   diverged ? "diverged" : "finished", diverged ? 76 : 0, lines, diverged ? "<i>not finite</i>" : "",
                   base + 2 / lines, base + 2 / lines >(dir "/state.jsonl")
        } }'
}

make_sweep sweep 400
expect 0 '^sweep/report.html$' "$program" report sweep
harmless sweep/report.html
smaller sweep/report.html 1000000
shows sweep/report.html '&lt;script&gt;document.title=1&lt;/script&gt;' '&lt;img src=x' '\xe2\x80\xae&amp;amp; b' \
    '&lt;i&gt;not finite&lt;/i&gt;' 'Validation loss against learning rate' 'Best result by budget' \
    'runs/000000000008/metrics.jsonl, line 411' 'train_gpt train sweep/configs/000000000005.json' \
    'class="status bad">diverged' 'class="band s3"' 'its best optim.lr, 0.001, is the smallest that has a result'
rows=$(grep -o '^<tr><td><code>0000[0-9a-f]*' sweep/report.html | sort -u | wc -l)
[ "$rows" -eq 40 ] || fail "the table of all runs has $rows rows"
crosses=$(grep -c 'class="edge' sweep/report.html)
[ "$crosses" -eq 8 ] || fail "$crosses of 8 diverged runs are shown"
[ -s sweep/summary.csv ] && [ -s sweep/summary.json ] || fail "no summary was written"

# The frontier: anytime arms have a step at every evaluation, the others a point at their end alone.
frontier=$(sed -n '/Best result by budget/,/<\/svg>/p' sweep/report.html | grep -c '<circle' || true)
[ "$frontier" -eq 31 ] || fail "the frontier has $frontier points, 3 x 10 + 1 are expected"

# What is still to come, or failed, is no end of what was tried; a run at work shows what it has logged.
cp -r sweep partial
for id in 00000000001f 000000000020; do
    echo '{"v":1,"time":4,"event":"ended","run":"'$id'","status":"failed","exit":70,"step":9}' >>partial/state.jsonl
done
echo '{"v":1,"time":4,"event":"started","run":"000000000001","attempt":2,"host":"h","pid":1,"slot":"cpu 0","until":0}' \
    >>partial/state.jsonl
sed -i 's/"val_loss":[^,]*/"val_loss":1.25/' partial/runs/000000000001/metrics.jsonl
sed -i 's/"val_loss":[^,]*/"val_loss":1/' partial/runs/000000000021/metrics.jsonl
expect 0 . "$program" report partial
shows partial/report.html ': <bdi>adamw</bdi> from 2.56K tokens on, <bdi>a \xe2\x80\xae&amp;amp; b</bdi> from 25.6K.'
shows partial/report.html 'its best optim.lr, 0.003, is the smallest that has a result' \
    'running</td><td class="n" data-v="1.25">'

# Beside runs, on one page; and all of its runs by themselves.
expect 0 . "$program" report sweep a --out mixed.html
harmless mixed.html
shows mixed.html '<h2>Sweep <bdi>s</bdi></h2>' '<h2>Runs</h2>'
rm -r sweep/runs/000000000008
expect 0 . "$program" report sweep/runs/* --out runs.html
harmless runs.html
smaller runs.html 3000000

# Empty, damaged, and names that are as bad as names can be.
mkdir -p empty bad
: >empty/state.jsonl
echo '{"v":1,"event":"ended"}' >bad/state.jsonl
expect 0 . "$program" report empty
harmless empty/report.html
expect 65 'bad/state.jsonl:1' "$program" report bad
names=('<script>document.title=1<' '"><img src=x onerror=alert(1)>' '&amp;&#60;' "it's" $'new\nline' $'\u202eturned' \
    "$(printf '%0240d' 0)" $'bad\xff\xfe' ' ' '%s%n')
for name in "${names[@]}"; do cp -r a "names-$name"; done
expect 0 . "$program" report names-* --out names.html
harmless names.html
