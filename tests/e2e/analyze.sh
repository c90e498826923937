#!/usr/bin/env bash
# Newton-Schulz beside the exact polar factor: known values of the Taylor polynomials, their bounds, alignment, emulated
# bf16, momenta of a run, and what users get wrong.
. "$(dirname "$0")/lib.sh"

# What a run of analyze says of a key, one line for each number of steps.
analyze() {
    "$program" analyze newton-schulz "$@" --json >out.json 2>err.log || { cat err.log >&2; fail "analyze $*"; }
}
values_of() { sed -nE "s/^ *\"$1\": ([^,]*),?\$/\1/p" out.json; }
# near KEY RELATIVE_TOLERANCE EXPECTED...
near() {
    local key=$1 tolerance=$2; shift 2
    paste <(values_of "$key") <(printf '%s\n' "$@") | awk -v t="$tolerance" '
        NF != 2 { print "another number of values"; exit 1 }
        { d = $1 - $2; if (d < 0) d = -d; if (d > t * $2) { print $1, "is not near", $2; bad = 1 } }
        END { exit bad }' || fail "$key of $(head -n 5 out.json | tr -d '\n')"
}
last() { values_of "$1" | tail -n 1; }
# holds EXPRESSION [NAME=VALUE...]: an awk expression.
holds() {
    local expression=$1 names=(); shift
    for name; do names+=(-v "$name"); done
    awk "${names[@]}" "BEGIN { exit !($expression) }" || fail "$expression, with $*"
}
# ordered KEY_A KEY_B: a <= b in each row, up to rounding. descending KEY: from row to row.
ordered() {
    paste <(values_of "$1") <(values_of "$2") | awk '$2 != "null" && $1 > $2 + 1e-12 { print $1, ">", $2; bad = 1 }
        END { exit bad || NR == 0 }' || fail "$1 is above $2"
}
descending() {
    values_of "$1" | awk 'NR > 1 && $1 > last + 1e-12 { bad = 1 } { last = $1 } END { exit bad || NR < 2 }' ||
        fail "$1 does not descend: $(values_of "$1" | tr '\n' ' ')"
}

echo "== one singular value, as the scalar recursion moves it"
half=(--matrix spectrum:1,1,1,1)
analyze --polynomial taylor:1 "${half[@]}" --steps 1,2,3,4,5
near epsilon 5e-3 .312 .131 .0247 9.08e-4 1.24e-6
near exponent_bound 0 2 4 8 16 32
analyze --polynomial taylor:2 "${half[@]}" --steps 1,2,3
near epsilon 5e-3 .207 .0189 1.66e-5
analyze --polynomial taylor:3 "${half[@]}" --steps 1,2
near epsilon 5e-3 .141 1.46e-3
analyze --polynomial taylor:2 --matrix spectrum:0.1,0.99498743710662 --steps 6
near epsilon 5e-3 .9 .814 .659 .408 .122 4.15e-3 1.78e-7
near epsilon_bound 5e-3 .9 .828 .706 .5125 .254 .0445 3.29e-4

echo "== a random matrix"
for kappa in 1 2 3; do
    analyze --polynomial taylor:$kappa --rows 48 --columns 192 --steps 7
    ordered epsilon epsilon_bound
    ordered delta delta_bound
    ordered chi chi_bound
    descending chi
    descending epsilon
    analyze --polynomial taylor:$kappa --rows 48 --columns 192 --steps 4
    ordered exponent_bound exponent
done
analyze --polynomial keller5 --rows 48 --columns 192 --steps 0,5
holds 'e > .1 && e < .22' e="$(last relative_error)"
holds 'low > .68 && high < 1.21' low="$(last min)" high="$(last max)"
near flops 0 0 9953280
relative=$(last relative_error)
analyze --polynomial keller5 --rows 48 --columns 192 --steps 0,5 --dtype bf16
holds 'a != b && (a - b) ^ 2 < 1e-4' a="$relative" b="$(last relative_error)"
grep -q '"emulated": true' out.json || fail "bf16 is not called emulated"
analyze --polynomial exact --rows 24 --columns 24 --steps 0,23
holds 'e < 1e-12' e="$(last epsilon)"
analyze --polynomial taylor:2 --matrix spectrum:1,0.5 --rows 8 --columns 3 --steps 5
near rank 0 2
holds 'e < 1e-12' e="$(last epsilon)"
expect 0 'log delta/log delta_0' "$program" analyze newton-schulz --polynomial taylor:2 --rows 8
expect 0 'bf16, emulated' "$program" analyze newton-schulz --dtype bf16 --matrix spectrum:power:1 --rows 8

echo "== momenta of a run"
make_shards
train run.dir=muon optim.name=muon
train run.dir=adam optim.name=sf_adamw
expect 0 'm.h.1.qkv_w.q +32 x 32' "$program" analyze newton-schulz --matrix muon
analyze --matrix muon --polynomial polar5
[ "$(values_of rows | wc -l)" -eq 14 ] || fail "2 blocks of 7 matrices are $(values_of rows | wc -l)"
ordered chi chi_bound
expect 0 'm.h.0.mlp_out_w: 32 x 128' "$program" analyze newton-schulz --matrix muon --tensor h.0.mlp_out_w

echo "== mistakes"
expect 2 'did you mean "keller5"' "$program" analyze newton-schulz --polynomial keler5
expect 2 'neither gaussian' "$program" analyze newton-schulz --matrix gausian
expect 2 'has no matrix m.h.7.mlp_out_w; .*m.h.0.mlp_out_w' "$program" analyze newton-schulz --matrix muon \
    --tensor h.7.mlp_out_w
expect 2 'keeps no momentum of matrices; .*h.0.attn_out_w' "$program" analyze newton-schulz --matrix adam
expect 2 '0..64' "$program" analyze newton-schulz --steps 65
expect 2 'short side is 2' "$program" analyze newton-schulz --matrix spectrum:3,2,1 --rows 2
expect 2 'not safe' "$program" analyze newton-schulz --polynomial custom --coefficients '5 -9'
expect 2 'one of fp32, fp64, bf16' "$program" analyze newton-schulz --dtype fp16
expect 2 'usage: train_gpt analyze newton-schulz' "$program" analyze
! "$program" analyze newton-schulz --matrix adam --json >out.json 2>err.log || fail "no momentum, and exit 0"
[ ! -s out.json ] || fail "a refused call wrote to standard output"
