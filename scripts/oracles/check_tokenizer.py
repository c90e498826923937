#!/usr/bin/env python3
"""Holds `train_gpt prepare --tokenizer gpt2` against tiktoken: the shards of each text file must hold exactly
tiktoken's ids for its two parts, training and validation, and the two parts together must be the file.
Run in a virtual environment with numpy, tiktoken (requirements.txt), after `scripts/get_data.sh gpt2`:

    python scripts/oracles/check_tokenizer.py TEXT... [--program PATH]

Each TEXT is a UTF-8 file of one document. Nothing is downloaded: tiktoken gets its ranks from the same vocab.bpe.
"""
import argparse
import os
import pathlib
import sys
import tempfile

import numpy as np
import tiktoken
from tiktoken_ext.openai_public import r50k_pat_str

from token_shards import prepare, read_shards

SEPARATOR = 50256


def gpt2_encoding():
    """Ids are those of the 256 bytes in GPT-2's order, then of the merges in the file's order."""
    data = pathlib.Path(os.environ.get("THALWEG_DATA", pathlib.Path.home() / ".cache/thalweg"))
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    order = printable + [byte for byte in range(256) if byte not in printable]
    letters = {chr(byte if i < len(printable) else 256 + i - len(printable)): byte for i, byte in enumerate(order)}
    ranks = {bytes([byte]): i for i, byte in enumerate(order)}
    for line in (data / "gpt2/vocab.bpe").read_text().splitlines()[1:]:
        ranks[bytes(letters[letter] for letter in line.replace(" ", ""))] = len(ranks)
    return tiktoken.Encoding("gpt2", pat_str=r50k_pat_str, mergeable_ranks=ranks,
                             special_tokens={"<|endoftext|>": SEPARATOR}, explicit_n_vocab=SEPARATOR + 1)


def check_part(path, split, ids, encoding):
    """The part's bytes, after its ids were found to be tiktoken's."""
    if len(ids) == 0 or ids[-1] != SEPARATOR or (ids[:-1] == SEPARATOR).any():
        sys.exit(f"{path}: the {split} part must end in its only separator")
    part = encoding.decode_bytes(ids[:-1].tolist())
    expected = np.array(encoding.encode_ordinary(part.decode()), np.int64)
    if len(expected) != len(ids) - 1:
        sys.exit(f"{path}: {len(ids) - 1} {split} tokens, tiktoken makes {len(expected)}")
    different = np.flatnonzero(expected != ids[:-1])
    if len(different):
        sys.exit(f"{path}: {split} token {different[0]} is {ids[different[0]]}, tiktoken's is {expected[different[0]]}")
    return part


def check_file(path, program, encoding):
    with tempfile.TemporaryDirectory() as out:
        facts = prepare(program, [path], "gpt2", out)
        ids = {split: np.concatenate(read_shards([f"{out}/{split}_*.bin"])) for split in ("train", "val")}
    for split in ids:
        counted = facts[f"{split}_tokens"]
        if counted != len(ids[split]):
            sys.exit(f"{path}: dataset.json counts {counted} {split} tokens, the shards {len(ids[split])}")
    if b"".join(check_part(path, split, ids[split], encoding) for split in ids) != path.read_bytes():
        sys.exit(f"{path}: the two parts are not the file")
    print(f"{path}: {len(ids['train'])} + {len(ids['val'])} tokens, as tiktoken's")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="+", type=pathlib.Path, metavar="TEXT")
    parser.add_argument("--program", default="./train_gpt")
    arguments = parser.parse_args()
    encoding = gpt2_encoding()
    for path in arguments.texts:
        check_file(path, arguments.program, encoding)


if __name__ == "__main__":
    main()
