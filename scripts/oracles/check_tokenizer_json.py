#!/usr/bin/env python3
"""Holds `train_gpt prepare` against the `tokenizers` library: each of many random strings must get the ids that the
library gives it by the tokenizer.json that prepare wrote and, for a file, by that file itself. Special tokens are text
in both. Run in a virtual environment of Python 3.11 with requirements.txt; byte, gpt2 and files may be named:

    python scripts/oracles/check_tokenizer_json.py TOKENIZER... [--strings 1000000] [--cases CASES] [--program PATH]

CASES is a JSON list of {"text", "ids"}; its texts are checked, too, and with gpt2 its ids.
"""
import argparse
import json
import pathlib
import random
import sys
import tempfile

import numpy as np
import tokenizers
from tokenizers import Tokenizer

from hard_strings import make_string
from token_shards import prepare, read_shards

BATCH = 100000


def read_tokenizer(path):
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.encode_special_tokens = True
    return tokenizer


def encode(tokenizer, texts):
    return [encoding.ids for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]


def documents(ids, separator):
    """Lists of ids, each of which had a separator behind it."""
    ends = np.flatnonzero(ids == separator)
    return [part.tolist() for part in np.split(ids, ends + 1)[:-1]]


def check(texts, tokenizer, program, expected=None):
    """How many strings were checked. prepare holds some documents out, so ours are two lists, each in order."""
    with tempfile.TemporaryDirectory() as work:
        lines = pathlib.Path(work, "texts.jsonl")
        lines.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        facts = prepare(program, [lines], tokenizer, f"{work}/out")
        ours = [documents(np.concatenate(read_shards([f"{work}/out/{split}_*.bin"])), facts["separator"])
                for split in ("train", "val")]
        theirs = [encode(read_tokenizer(f"{work}/out/tokenizer.json"), texts)]
    if pathlib.Path(tokenizer).exists():
        theirs.append(encode(read_tokenizer(tokenizer), texts))
    if expected:
        theirs.append(expected)
    states = {0}  # how many of the strings so far may be in the first list
    for i, text in enumerate(texts):
        for ids in theirs[1:]:
            if ids[i] != theirs[0][i]:
                sys.exit(f"{tokenizer}: {ascii(text)}: {ids[i]}, by what prepare wrote {theirs[0][i]}")
        wanted = theirs[0][i] + [facts["separator"]]
        found = [(ours[0][n : n + 1], ours[1][i - n : i - n + 1]) for n in states]
        states = {n + 1 for n in states if ours[0][n : n + 1] == [wanted]} | {
            n for n in states if ours[1][i - n : i - n + 1] == [wanted]}
        if not states:
            sys.exit(f"{tokenizer}: {ascii(text)}: tokenizers makes {wanted}, prepare one of {found}")
    if len(ours[0]) + len(ours[1]) != len(texts):
        sys.exit(f"{tokenizer}: {len(ours[0]) + len(ours[1])} documents of {len(texts)}")
    return len(texts)


def names_of(tokenizer):
    if not pathlib.Path(tokenizer).exists():
        return ["<|endoftext|>"]
    return [token["content"] for token in json.loads(pathlib.Path(tokenizer).read_text())["added_tokens"]]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokenizers", nargs="+", metavar="TOKENIZER")
    parser.add_argument("--strings", type=int, default=1000000)
    parser.add_argument("--cases", type=pathlib.Path)
    parser.add_argument("--program", default="./train_gpt")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    for tokenizer in arguments.tokenizers:
        checked, draw, names = 0, random.Random(arguments.seed), names_of(tokenizer)
        if arguments.cases:
            cases = json.loads(arguments.cases.read_text())
            expected = [case["ids"] for case in cases] if tokenizer == "gpt2" else None
            checked += check([case["text"] for case in cases], tokenizer, arguments.program, expected)
        for begin in range(0, arguments.strings, BATCH):
            texts = [make_string(draw, names) for _ in range(min(BATCH, arguments.strings - begin))]
            checked += check(texts, tokenizer, arguments.program)
        print(f"{tokenizer}: {checked} strings, all as tokenizers {tokenizers.__version__} encodes them", flush=True)


if __name__ == "__main__":
    main()
