#!/usr/bin/env python3
"""Writes tests/fixtures/bpe: a text by a recurrence, and the merges that `tokenizers` trains on it.

text.txt has stems and endings in changing proportion, numbers, contractions, runs of one letter, sign or space, and
characters of two to four bytes. merges.txt has a line "LEFT RIGHT" of token ids for each merge of a byte-level BPE of
1000 ids: 256 bytes in GPT-2's order, 743 merges, and one id for a separator, which takes no part in training.
Run in a virtual environment with tokenizers (requirements.txt):

    python scripts/oracles/make_bpe_fixture.py [OUT_DIR]

    python scripts/oracles/make_bpe_fixture.py --check PREPARED

trains on the training split of a dataset of `train_gpt prepare --tokenizer bpe:N` and compares merges and ids.
"""
import json
import pathlib
import sys

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from token_shards import read_shards

ROOT = pathlib.Path(__file__).resolve().parents[2]
VOCAB, WORDS = 1000, 6000
STEMS = "river stone deep run old wall carry sand sea over under light dark water moon hill bend lock mill ford".split()
ENDINGS = ["", "", "", "s", "ing", "ed", "er", "less", "ward", "'s", "'ll", "n't", ",", ".", "...", ";", "-"]
OTHERS = ["aaaaaaaa", "aaa", "=====", "==", "1234567", "1999", "2024", "3.14", "été", "Füße", "水の流れ", "река", "🌊🌊",
          "x = y"]
GAPS = [" ", " ", " ", " ", " ", " ", "\n", "  ", "\n\n    ", "\t"]


def numbers(state=12345):
    """A linear congruence modulo 2^31; its upper bits."""
    while True:
        state = (state * 1103515245 + 12345) % 2**31
        yield state >> 12


def make_text():
    number = numbers()
    words = []
    for i in range(WORDS):
        stems = STEMS[: 4 + i * len(STEMS) // WORDS]  # new ones come in later
        word = stems[next(number) % len(stems)] + ENDINGS[next(number) % len(ENDINGS)]
        if next(number) % 3 == 0:
            word = stems[next(number) % len(stems)] + word
        if next(number) % 12 == 0:
            word = OTHERS[next(number) % len(OTHERS)] * (1 + next(number) % 3)
        if next(number) % 9 == 0:
            word = word.capitalize()
        words.append(word + GAPS[next(number) % len(GAPS)])
    return "".join(words)


def train(texts, vocab):
    """Merges as pairs of tokens in the byte-level alphabet, ids by token, and the tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    trainer = trainers.BpeTrainer(vocab_size=vocab - 1, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                  show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    merges = [tuple(merge.split(" ") if isinstance(merge, str) else merge) for merge in model["merges"]]
    return merges, model["vocab"], tokenizer


def write(out):
    out.mkdir(parents=True, exist_ok=True)
    text = make_text()
    merges, ids, _ = train([text], VOCAB)
    if len(merges) != VOCAB - 257:
        sys.exit(f"{len(merges)} merges, expected {VOCAB - 257}: the text is too short")
    (out / "text.txt").write_text(text, encoding="utf-8", newline="")
    (out / "merges.txt").write_text("".join(f"{ids[left]} {ids[right]}\n" for left, right in merges))
    print(f"{out}: {len(text.encode())} bytes of text, {len(merges)} merges")


def check(prepared):
    ours = Tokenizer.from_file(str(prepared / "tokenizer.json"))
    model = json.loads((prepared / "tokenizer.json").read_text())["model"]
    separator = ours.token_to_id("<|endoftext|>")
    stream = np.concatenate(read_shards([prepared / "train_*.bin"]))
    ends = np.flatnonzero(stream == separator)
    texts = [ours.decode(ids[ids != separator].tolist()) for ids in np.split(stream, ends + 1)[:-1]]
    merges, ids, theirs = train(texts, len(model["vocab"]))
    if merges != [tuple(merge) for merge in model["merges"]]:
        sys.exit(f"{prepared}: {len(model['merges'])} merges, which are not the {len(merges)} of tokenizers")
    if ids != {token: id for token, id in model["vocab"].items() if id != separator}:
        sys.exit(f"{prepared}: the ids are not those of tokenizers")
    encoded = [id for text in texts for id in theirs.encode(text).ids + [separator]]
    if not np.array_equal(encoded, stream):
        sys.exit(f"{prepared}: the shards are not what tokenizers encodes")
    print(f"{prepared}: {len(merges)} merges and {len(stream)} ids, as of tokenizers")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--check"] and len(sys.argv) == 3:
        check(pathlib.Path(sys.argv[2]))
    else:
        write(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "tests/fixtures/bpe")
