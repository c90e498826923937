#!/usr/bin/env python3
"""Writes tests/fixtures/hugging_face: tiny random models of transformers' own classes, saved by them, with what they
compute: logits of 4 x 32 tokens, and the 200 likeliest tokens after 8. gpt2 is F32 with biases; llama BF16, sharded,
untied, with grouped heads; qwen3 F16. All compute in fp32.
Run in a virtual environment with torch, transformers, safetensors (requirements.txt):

    python scripts/oracles/make_hugging_face_fixtures.py
"""
import os
import pathlib

os.environ["HF_HUB_OFFLINE"] = "1"

import safetensors.torch
import torch
import transformers

OUT = pathlib.Path(__file__).resolve().parents[2] / "tests/fixtures/hugging_face"
VOCAB, CONTEXT = 83, 256
PROMPT, MADE = 8, 200
GAP = 2e-3  # between the likeliest token and the next: no rounding decides

ROTARY = dict(vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
              num_key_value_heads=2, max_position_embeddings=CONTEXT, bos_token_id=1, eos_token_id=None)
MODELS = {
    "gpt2": (transformers.GPT2LMHeadModel(transformers.GPT2Config(
        vocab_size=VOCAB, n_positions=CONTEXT, n_embd=24, n_layer=2, n_head=2, n_inner=40, bos_token_id=1,
        eos_token_id=None)), torch.float32, None),
    "llama": (transformers.LlamaForCausalLM(transformers.LlamaConfig(**ROTARY, rope_theta=500000.0)), torch.bfloat16,
              "12KB"),
    "qwen3": (transformers.Qwen3ForCausalLM(transformers.Qwen3Config(
        **ROTARY, head_dim=16, tie_word_embeddings=True, rope_theta=1000000.0)), torch.float16, None),
}


def fill(model, dtype, seed):
    """Weights that `dtype` holds, so large that nothing in the network is nearly linear."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            values = torch.randn(p.shape, generator=generator)
            gain = p.ndim == 1 and name.endswith("weight")
            values = 1 + 0.2 * values if gain else 0.2 * values if p.ndim == 1 else values * 1.5 / p.shape[-1] ** 0.5
            p.copy_(values.to(dtype))


@torch.no_grad()
def continuation(model, ids):
    """The likeliest tokens by transformers, and the smallest gap to the next likely."""
    out = model.generate(ids, max_new_tokens=MADE, do_sample=False, return_dict_in_generate=True, output_logits=True)
    best = torch.stack(out.logits).topk(2, dim=-1).values
    return out.sequences[0, ids.shape[1] :], (best[..., 0] - best[..., 1]).min().item()


def main():
    for name, (model, dtype, shard) in MODELS.items():
        directory = OUT / name
        generator = torch.Generator().manual_seed(7)
        ids = torch.randint(VOCAB, (4, 32), generator=generator)
        for seed in range(1000):
            fill(model.eval(), dtype, seed)
            made, gap = continuation(model, ids[:1, :PROMPT])
            if len(made) == MADE and gap > GAP and len(set(made.tolist())) > 12:
                break
        with torch.no_grad():
            logits = model(input_ids=ids).logits
        directory.mkdir(parents=True, exist_ok=True)
        for old in directory.iterdir():
            old.unlink()
        model.to(dtype).save_pretrained(directory, **({"max_shard_size": shard} if shard else {}))
        safetensors.torch.save_file({"tokens": ids.int(), "logits": logits.float().contiguous(), "made": made.int()},
                                    directory / "expected.safetensors")
        print(f"{name}: seed {seed}, gap {gap:.3g}, {len(set(made.tolist()))} different tokens, "
              f"{sum(f.stat().st_size for f in directory.iterdir())} bytes")


if __name__ == "__main__":
    main()
