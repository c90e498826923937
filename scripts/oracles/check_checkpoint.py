#!/usr/bin/env python3
"""Holds a checkpoint against the public libraries: safetensors opens its tensors, transformers loads the directory
with no key missing, unexpected or mismatched, and gives the same validation loss as `train_gpt eval` and the same
likeliest continuation as `train_gpt sample --temperature 0`.
Run in a virtual environment with numpy, torch, transformers, safetensors, tokenizers (requirements.txt):

    python scripts/oracles/check_checkpoint.py CHECKPOINT_DIR [--data 'DIR/val_*.bin'] [--tokens N] [--program PATH]

CHECKPOINT_DIR is one step's directory. The windows are eval's: in order, floor((n - 1) / T) of them in a shard of n
tokens, window w being tokens w T .. w T + T. --data is left out where the run's own data.val still stands.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import safetensors
import tokenizers
import torch
import transformers

from token_shards import read_shards

LOSS_TOLERANCE = 2e-5  # relative: two fp32 implementations
BATCH = 8
PROMPT = "The "
TEXTS = ["", "The river's deepest line.", "tabs\tand\n\n newlines  ", "na\u00efve \u6e29\u5ea6 \U0001f30a 12345",
         "<|endoftext|>"]


def check_safetensors(directory):
    with safetensors.safe_open(directory / "model.safetensors", framework="pt") as file:
        if file.metadata() != {"format": "pt"}:
            sys.exit(f"model.safetensors: metadata is {file.metadata()}, expected only format pt")
        dtypes = {str(file.get_tensor(name).dtype) for name in file.keys()}
        print(f"safetensors    {len(file.keys())} tensors of {' and '.join(sorted(dtypes))}")


def load_model(directory):
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, local_files_only=True, output_loading_info=True)
    problems = {kind: keys for kind, keys in info.items() if keys}
    if problems:
        sys.exit(f"transformers: {problems}")
    parameters = sum(p.numel() for p in model.parameters())
    print(f"transformers   {type(model).__name__}, {parameters} parameters, every key matched")
    return model.eval()


def eval_loss(program, directory, patterns, tokens):
    command = [program, "eval", str(directory), "--json", f"eval.tokens={tokens}"]
    if patterns:
        command.append("data.val=" + json.dumps(patterns))
    result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return result["val_loss"], result["tokens"]


@torch.no_grad()
def transformers_loss(model, patterns, length, tokens):
    windows = [ids[w * length : w * length + length + 1] for ids in read_shards(patterns)
               for w in range((len(ids) - 1) // length)]
    windows = np.stack(windows[: -(-tokens // length)])
    total = 0.0
    for begin in range(0, len(windows), BATCH):
        ids = torch.tensor(windows[begin : begin + BATCH])
        logits = model(input_ids=ids[:, :-1], use_cache=False).logits.double()
        total += torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="sum").item()
    return total / (len(windows) * length), len(windows) * length


@torch.no_grad()
def check_continuation(program, directory, model, length):
    """Each next token has the largest logit: one that differs makes another text."""
    path = directory / "tokenizer.json"
    if not path.exists():
        return
    tokenizer = tokenizers.Tokenizer.from_file(str(path))
    ids = tokenizer.encode(PROMPT).ids
    count = length - len(ids)
    for _ in range(count):
        ids.append(int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    theirs = tokenizer.decode(ids, skip_special_tokens=False)
    ours = subprocess.run([program, "sample", str(directory), "--prompt", PROMPT, "--tokens", str(count),
                           "--temperature", "0"], check=True, capture_output=True, text=True).stdout
    if ours != theirs + "\n":
        sys.exit(f"the likeliest continuation is\n{ours}\nand transformers' is\n{theirs}")
    print(f"sample         {count} likeliest tokens after {PROMPT!r}, as transformers'")


def check_tokenizer(directory, vocab):
    """The tokenizers library reads the file and gets every text back; ids are the model's."""
    path = directory / "tokenizer.json"
    if not path.exists():
        print("tokenizers     no tokenizer.json")
        return
    tokenizer = tokenizers.Tokenizer.from_file(str(path))
    if tokenizer.get_vocab_size() != vocab:
        sys.exit(f"{path}: {tokenizer.get_vocab_size()} tokens, the model has {vocab}")
    for text in TEXTS:
        back = tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False)
        if back != text:
            sys.exit(f"{path}: {text!r} comes back as {back!r}")
    transformers.AutoTokenizer.from_pretrained(directory, local_files_only=True)
    print(f"tokenizers     {vocab} tokens, texts come back")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument("--data", nargs="+", help="globs of validation shards; default: those of the run")
    parser.add_argument("--tokens", type=int, default=16384, help="validation tokens, at most (default %(default)s)")
    parser.add_argument("--program", default="./train_gpt")
    arguments = parser.parse_args()

    options = json.loads((arguments.checkpoint / "run.json").read_text())["options"]
    length = options["train"]["sequence_length"]
    patterns = arguments.data or options["data"]["val"]
    patterns = [patterns] if isinstance(patterns, str) else patterns

    check_safetensors(arguments.checkpoint)
    model = load_model(arguments.checkpoint)
    check_tokenizer(arguments.checkpoint, model.config.vocab_size)
    ours, our_tokens = eval_loss(arguments.program, arguments.checkpoint, arguments.data, arguments.tokens)
    theirs, their_tokens = transformers_loss(model, patterns, length, arguments.tokens)
    print(f"eval           {ours:.7f} over {our_tokens} tokens")
    print(f"transformers   {theirs:.7f} over {their_tokens} tokens")
    if our_tokens != their_tokens or not abs(ours - theirs) <= LOSS_TOLERANCE * theirs:
        sys.exit(f"the losses differ by {abs(ours / theirs - 1):.2g}, more than {LOSS_TOLERANCE:g}")
    check_continuation(arguments.program, arguments.checkpoint, model, length)


if __name__ == "__main__":
    main()
