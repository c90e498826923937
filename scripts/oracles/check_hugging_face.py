#!/usr/bin/env python3
"""Holds Hugging Face directories, both ways, against transformers: random models of every class, made and saved by
it (fp32, bf16, fp16; one file and shards; tied and not; grouped heads), with weights so large that nothing is nearly
linear.

* `train_gpt eval` on random ids has the loss of transformers in fp64: to 1e-6 in fp32, and with --device cuda, which
  computes in bf16, within twice the distance that transformers in bf16 has from it
* `train_gpt sample --ids --temperature 0` makes the 200 tokens of generate(do_sample=False), as far as the gap between
  the likeliest two is more than rounding
* `train_gpt export` loads back with no key missing or unexpected and every tensor bit for bit, whatever the dtype
* a checkpoint loads the same way, and says what `eval` says

Run in a virtual environment with numpy, torch, transformers (4 or 5), safetensors (requirements.txt):

    python scripts/oracles/check_hugging_face.py [--program PATH] [--device cpu|cuda] [--large]
"""
import argparse
import glob
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "warning"

import numpy as np
import safetensors.torch
import torch
import transformers as T

LENGTH, SEQUENCES, PROMPT, MADE = 128, 8, 8, 200
GAP = 1e-3
DTYPE = "torch_dtype" if T.__version__.startswith("4.") else "dtype"


def models(large):
    width, layers, vocab = (256, 6, 5003) if large else (64, 3, 503)
    gpt2 = dict(vocab_size=vocab, n_positions=256, n_embd=width, n_layer=layers, n_head=4, bos_token_id=1,
                eos_token_id=None)
    rotary = dict(vocab_size=vocab, hidden_size=width, intermediate_size=2 * width + 24, num_hidden_layers=layers,
                  num_attention_heads=4, max_position_embeddings=256, bos_token_id=1, eos_token_id=None)
    yield "gpt2", T.GPT2LMHeadModel(T.GPT2Config(**gpt2))
    yield "gpt2 inner", T.GPT2LMHeadModel(T.GPT2Config(**gpt2, n_inner=3 * width, layer_norm_epsilon=1e-3))
    yield "gpt2 untied", T.GPT2LMHeadModel(T.GPT2Config(**gpt2, tie_word_embeddings=False))
    yield "llama", T.LlamaForCausalLM(T.LlamaConfig(**rotary))
    yield "llama tied", T.LlamaForCausalLM(T.LlamaConfig(**rotary, tie_word_embeddings=True, rms_norm_eps=1e-5))
    yield "llama grouped", T.LlamaForCausalLM(T.LlamaConfig(**rotary, num_key_value_heads=2, head_dim=24))
    yield "qwen3", T.Qwen3ForCausalLM(T.Qwen3Config(**rotary, num_key_value_heads=1, head_dim=32))
    yield "qwen3 tied", T.Qwen3ForCausalLM(T.Qwen3Config(**rotary, num_key_value_heads=4, tie_word_embeddings=True))


@torch.no_grad()
def fill(model, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        values = torch.randn(p.shape, generator=generator)
        gain = p.ndim == 1 and name.endswith("weight")
        values = 1 + 0.2 * values if gain else 0.2 * values if p.ndim == 1 else values * 1.5 / p.shape[-1] ** 0.5
        p.copy_(values.to(dtype))


def load(directory, dtype):
    model, info = T.AutoModelForCausalLM.from_pretrained(directory, local_files_only=True, output_loading_info=True,
                                                         **{DTYPE: dtype})
    problems = {kind: keys for kind, keys in info.items() if keys}
    if problems:
        sys.exit(f"{directory}: {problems}")
    return model.eval()


@torch.no_grad()
def loss_of(model, ids):
    logits = model(input_ids=ids[:, :-1], use_cache=False).logits.double()
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()).item()


def write_shard(path, ids):
    """Windows of LENGTH + 1 that share one token: sequences one behind the other."""
    header = np.zeros(256, np.int32)
    header[:3] = 20240520, 1, len(ids)
    path.write_bytes(header.tobytes() + np.asarray(ids, np.uint16).tobytes())


def tensors(directory):
    found = {}
    for file in glob.glob(f"{directory}/*.safetensors"):
        found.update(safetensors.torch.load_file(file))
    return found


class Check:
    def __init__(self, program, device, work):
        self.program, self.work = program, work
        self.machine = [f"device={device}"]
        self.bf16 = device == "cuda"

    def run(self, *words):
        result = subprocess.run([self.program, *map(str, words)], capture_output=True, text=True)
        if result.returncode:
            sys.exit(f"{' '.join(map(str, words))}: exit {result.returncode}\n{result.stderr}")
        return result.stdout

    def loss(self, directory, stream):
        windows = torch.tensor(np.stack([stream[i * LENGTH : (i + 1) * LENGTH + 1] for i in range(SEQUENCES)]))
        ours = json.loads(self.run("eval", directory, "--json", f"data.val={self.work}/ids.bin", *self.machine,
                                   f"train.sequence_length={LENGTH}"))["val_loss"]
        exact = loss_of(load(directory, torch.float32).double(), windows)
        limit = 1e-6 * exact
        if self.bf16:
            limit = max(2 * abs(loss_of(load(directory, torch.bfloat16), windows) - exact), 2e-3 * exact)
        if not abs(ours - exact) <= limit:
            sys.exit(f"{directory}: loss {ours}, transformers in fp64 has {exact}, further than {limit:g}")
        return abs(ours - exact) / exact

    @torch.no_grad()
    def continuation(self, directory, stream):
        ids = torch.tensor(np.asarray(stream[:PROMPT], np.int64))[None]
        out = load(directory, torch.float32).generate(ids, max_new_tokens=MADE, do_sample=False, output_logits=True,
                                                      return_dict_in_generate=True)
        best = torch.stack(out.logits).topk(2, dim=-1).values
        sure = int(((best[:, 0, 0] - best[:, 0, 1]) > GAP).long().cumprod(0).sum())
        theirs = out.sequences[0, PROMPT:].tolist()
        text = self.run("sample", directory, "--ids", "--prompt", " ".join(map(str, stream[:PROMPT])), "--tokens", MADE,
                        "--temperature", 0, "--json", "--ignore-eos", *self.machine)
        ours = json.loads(text)["samples"][0]["ids"]
        if ours[:sure] != theirs[:sure]:
            sys.exit(f"{directory}: continues with {ours}, transformers with {theirs}")
        return sure

    def export(self, directory):
        for size in ("5GB", "100KB"):
            out = self.work / "out"
            shutil.rmtree(out, ignore_errors=True)
            self.run("export", directory, "--to", "hf", out, "--shard-size", size)
            a, b = tensors(directory), tensors(out)
            wrong = [k for k in a.keys() | b.keys() if k not in a or k not in b or a[k].dtype != b[k].dtype or not
                     torch.equal(a[k].view(torch.uint8), b[k].view(torch.uint8))]
            if wrong:
                sys.exit(f"{directory}: exported otherwise: {wrong[:5]}")
            ids = torch.arange(64)[None]
            x, y = load(directory, torch.float32), load(out, torch.float32)
            with torch.no_grad():
                if not torch.equal(x(ids).logits, y(ids).logits):
                    sys.exit(f"{directory}: the export has other logits")

    def checkpoint(self):
        """Checkpoints of the three classes: transformers loads them, tokenizer included, with the loss of eval."""
        text = "the river runs deep below old stone walls and carries sand to the sea. " * 400
        (self.work / "text.txt").write_text(text)
        self.run("prepare", self.work / "text.txt", "--tokenizer", "byte", "--out", self.work / "shards")
        config = self.work / "config.json"
        config.write_text(json.dumps({"model": {"depth": 2, "width": 64, "heads": 2}, "train": {
            "steps": 20, "batch_tokens": 512, "micro_batch": 4, "sequence_length": 64}, "eval": {"every": 20}}))
        gpt2 = ["model.norm=layernorm", "model.position=learned", "model.mlp=gelu"]
        runs = {"llama": [], "qwen3": ["model.qk_norm=true", "model.kv_heads=1"], "gpt2": gpt2,
                "gpt2 with biases": gpt2 + ["model.bias=true"], "llama untied": ["model.tied=false"]}
        for name, words in runs.items():
            run = self.work / name.replace(" ", "_")
            self.run("train", config, f"data.train={self.work}/shards/train_*.bin",
                     f"data.val={self.work}/shards/val_*.bin", f"run.dir={run}", *words, *self.machine)
            checkpoint = run / "checkpoints/step_00000020"
            model = load(checkpoint, torch.float32)
            tokenizer = T.AutoTokenizer.from_pretrained(checkpoint, local_files_only=True)
            if tokenizer.encode("old stone") != list(b"old stone"):
                sys.exit(f"{checkpoint}: the tokenizer gives {tokenizer.encode('old stone')}")
            ids = np.fromfile(self.work / "shards/val_000000.bin", np.uint16)[512:].astype(np.int64)
            count = min((len(ids) - 1) // 64, 16)
            windows = torch.tensor(np.stack([ids[i * 64 : i * 64 + 65] for i in range(count)]))
            ours = self.run("eval", checkpoint, "--json", f"eval.tokens={64 * count}", *self.machine)
            ours = json.loads(ours)["val_loss"]
            theirs = loss_of(model.double(), windows)
            if not abs(ours - theirs) <= (5e-3 if self.bf16 else 1e-6) * theirs:
                sys.exit(f"{checkpoint}: loss {ours}, transformers has {theirs}")
            print(f"checkpoint {name:18} {type(model).__name__}, loss off by {abs(ours / theirs - 1):.1g}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="./train_gpt")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--large", action="store_true", help="wider, deeper models")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        check = Check(arguments.program, arguments.device, pathlib.Path(work))
        for number, (name, model) in enumerate(models(arguments.large)):
            vocab = model.config.vocab_size
            stream = np.random.default_rng(number).integers(vocab, size=SEQUENCES * LENGTH + 1).tolist()
            write_shard(pathlib.Path(work) / "ids.bin", stream)
            for dtype in (torch.float32, torch.bfloat16, torch.float16):
                directory = pathlib.Path(work) / "model"
                shutil.rmtree(directory, ignore_errors=True)
                fill(model.float().eval(), dtype, number)
                copy = type(model)(model.config)
                copy.load_state_dict(model.state_dict())
                copy.to(dtype).save_pretrained(directory, **({"max_shard_size": "150KB"} if number % 2 else {}))
                off = check.loss(directory, stream)
                sure = 0 if check.bf16 else check.continuation(directory, stream)
                check.export(directory)
                print(f"{name:14} {str(dtype)[6:]:9} loss off by {off:.1g}, {sure} tokens alike, export alike")
        check.checkpoint()
    print(f"transformers {T.__version__}: all of it holds")


if __name__ == "__main__":
    main()
