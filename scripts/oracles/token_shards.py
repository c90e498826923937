"""Token shards as docs/formats.md describes them, read independently of the program."""
import glob
import json
import pathlib
import subprocess
import sys

import numpy as np

HEADER_INTS = 256
KINDS = {(20240520, 1): "<u2", (20240801, 7): "<u4"}


def read_shard(path):
    """The ids of one file with a header."""
    header = np.fromfile(path, "<i4", HEADER_INTS)
    kind = KINDS.get(tuple(header[:2].tolist()))
    if kind is None:
        sys.exit(f"{path}: not a token shard with a header")
    ids = np.fromfile(path, kind, offset=4 * HEADER_INTS)
    if len(ids) != header[2]:
        sys.exit(f"{path}: the header counts {header[2]} tokens, the file has {len(ids)}")
    return ids.astype(np.int64)


def read_shards(patterns):
    """The ids of each file, in the program's order: sorted within each glob."""
    paths = [path for pattern in patterns for path in sorted(glob.glob(str(pattern)))]
    if not paths:
        sys.exit(f"no shard matches {' '.join(map(str, patterns))}")
    return [read_shard(path) for path in paths]


def prepare(program, inputs, tokenizer, out):
    """Runs `train_gpt prepare` and returns its dataset.json."""
    command = [program, "prepare", *map(str, inputs), "--tokenizer", tokenizer, "--out", str(out)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return json.loads((pathlib.Path(out) / "dataset.json").read_text())
