#!/usr/bin/env bash
# scripts/get_data.sh against a mirror in a folder: what is whole gets its name, what was cut goes on, what is wrong is
# not kept.
. "$(dirname "$0")/lib.sh"
command -v curl >/dev/null || { echo "curl is not here, and wget reads no file: addresses"; exit 77; }
get() { sh "$root/scripts/get_data.sh" "$@"; }
export THALWEG_DATA=$PWD/data THALWEG_MIRROR=file://$PWD/mirror HOME=$PWD
repository=mirror/huggingface.co/datasets/kjj0/fineweb10B-gpt2

put_pointer() { # NAME: of the shard as it is
    printf 'version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %s\n' \
        "$(sha256sum <"$repository/resolve/main/$1" | cut -d' ' -f1)" "$(wc -c <"$repository/resolve/main/$1")" \
        >"$repository/raw/main/$1"
}
mkdir -p $repository/raw/main $repository/resolve/main
for name in fineweb_val_000000 fineweb_train_000001 fineweb_train_000002 fineweb_train_000003; do
    make_text 500 | sed "s/^/$name /" >$repository/resolve/main/$name.bin
    put_pointer $name.bin
done
train=data/fineweb10B/fineweb_train_00000
same() { cmp "$repository/resolve/main/$(basename "$1")" "$1" || fail "$1 is not what was fetched"; }

echo "== usage"
expect 0 'licence: ODC-By' get list
expect 2 'the names are' get
expect 2 'the names are' get nothing
expect 2 'usage' get gpt2 3
for count in 0 -1 x 1x; do expect 2 'usage' get fineweb10B "$count"; done
expect 2 'there are 103 training shards' get fineweb10B 104
[ ! -e data ] || fail "something was made by mistakes: $(ls data)"

echo "== shards: as many as asked for, verified, with what to say to train"
expect 0 "data.train='$PWD/data/fineweb10B/fineweb_train_\*.bin'.*data.tokenizer=gpt2" get fineweb10B 2
grep -q '^licence  ODC-By' out.log || fail "no licence: $(cat out.log)"
grep -q '3 of 3' out.log || fail "no count: $(cat out.log)"
for file in data/fineweb10B/fineweb_val_000000.bin ${train}1.bin ${train}2.bin; do same $file; done
[ "$(ls data/fineweb10B | wc -l)" -eq 3 ] || fail "other files than asked for: $(ls data/fineweb10B)"

echo "== again: nothing is fetched twice; a part that is there goes on"
mv $repository/resolve away
expect 0 'fineweb_train_000002.bin is there already' get fineweb10B 2
expect 1 'could not fetch.*fineweb_train_000003.bin.*goes on' get fineweb10B 3
mkdir -p $repository/resolve/main
head -c 20000 away/main/fineweb_train_000003.bin >${train}3.bin.part # and the mirror has all but that beginning
{ head -c 20000 /dev/zero; tail -c +20001 away/main/fineweb_train_000003.bin; } \
    >$repository/resolve/main/fineweb_train_000003.bin
expect 0 'fineweb_train_000003.bin$' get fineweb10B 3
rm -r $repository/resolve
mv away $repository/resolve
same ${train}3.bin
rm ${train}3.bin
cp $repository/resolve/main/fineweb_train_000003.bin ${train}3.bin.part # all came, and only the name was missing
expect 0 'fineweb_train_000003.bin$' get fineweb10B 3
mv ${train}3.bin ${train}3.bin.part
echo more >>${train}3.bin.part
expect 0 'fineweb_train_000003.bin$' get fineweb10B 3 # a part that is too long begins anew
same ${train}3.bin

echo "== a server that gives no part of a file: it is fetched anew; without checksums nothing is"
mkdir tools
printf '#!/bin/sh\ncase " $* " in *" -C "*) exit 33 ;; esac\nexec %s "$@"\n' "$(command -v curl)" >tools/curl
chmod +x tools/curl
head -c 1000 ${train}3.bin >${train}3.bin.part
rm ${train}3.bin
expect 0 'fineweb_train_000003.bin$' env PATH="$PWD/tools:$PATH" sh "$root/scripts/get_data.sh" fineweb10B 3
same ${train}3.bin
expect 1 'neither sha256sum nor shasum' env PATH=/nowhere "$(command -v sh)" "$root/scripts/get_data.sh" fineweb10B 3

echo "== what is wrong is not kept"
printf 'X' | dd of=$repository/resolve/main/fineweb_train_000002.bin bs=1 seek=100 conv=notrunc 2>/dev/null
rm ${train}2.bin
expect 1 'fineweb_train_000002.bin: the checksum is not' get fineweb10B 2
[ ! -e ${train}2.bin ] && [ ! -e ${train}2.bin.part ] || fail "kept: $(ls data/fineweb10B)"
head -c 1000 ${train}1.bin >$repository/resolve/main/fineweb_train_000002.bin
expect 1 '1000 of [0-9]* bytes came' get fineweb10B 2
[ ! -e ${train}2.bin ] || fail "a file that is too short got its name"
echo '<html>' >$repository/raw/main/fineweb_train_000002.bin
expect 1 'expected a pointer of Git LFS' get fineweb10B 2
sed -i 's/^size .*/size 4000000000000000/' $repository/raw/main/fineweb_train_000001.bin
rm ${train}1.bin
expect 1 'MB are free; set THALWEG_DATA' get fineweb10B 1
[ "$(ls data/fineweb10B/*pointer* 2>/dev/null)" = "" ] || fail "pointers were left: $(ls data/fineweb10B)"

echo "== single files"
hellaswag=mirror/raw.githubusercontent.com/rowanz/hellaswag/a29ff8e9a04bba4bd6588223785ce105328adc57/data
mkdir -p $hellaswag data/hellaswag
echo '{}' >$hellaswag/hellaswag_val.jsonl
echo 'of another time, and longer' >data/hellaswag/hellaswag_val.jsonl.part
expect 1 'hellaswag_val.jsonl: the checksum is not 0aa3' get hellaswag
[ "$(ls data/hellaswag)" = "" ] || fail "kept: $(ls data/hellaswag)"
expect 1 'could not fetch' get tinyshakespeare
text=$(realpath "${THALWEG_TEST_DATA:-$root/../shared/data}/tinyshakespeare.txt" 2>/dev/null || true)
if [ -f "$text" ]; then
    mkdir -p mirror/raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare
    cp "$text" mirror/raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt
    expect 0 'next: ./train_gpt prepare' get tinyshakespeare
    cmp "$text" data/tinyshakespeare/tinyshakespeare.txt
fi
