#!/usr/bin/env python3
"""GPT-2 in PyTorch as fast as it goes there without kernels of one's own: torch.compile, scaled_dot_product_attention,
bf16 weights' autocast, fused AdamW with fp32 state. Prints one row: program, model, micro-batch, ms, tokens/s.

    pytorch_gpt.py gpt2-124m 64
"""
import math
import statistics
import sys

import torch
import torch.nn.functional as F
from torch import nn

SHAPES = {"gpt2-124m": (12, 768, 12), "gpt2-350m": (24, 1024, 16), "gpt2-774m": (36, 1280, 20),
          "gpt2-1558m": (48, 1600, 25)}
VOCAB, LENGTH, WARMUP, REPEATS = 50304, 1024, 8, 15


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, c))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class Gpt(nn.Module):
    def __init__(self, layers, width, heads):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(VOCAB, width), nn.Embedding(LENGTH, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        for p in self.parameters():
            if p.dim() == 2:
                nn.init.normal_(p, std=0.02)

    def forward(self, ids, targets):
        x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1], device=ids.device))
        for block in self.blocks:
            x = block(x)
        return F.cross_entropy(F.linear(self.norm(x), self.wte.weight).flatten(0, 1).float(), targets.flatten())


def main():
    preset, batch = sys.argv[1], int(sys.argv[2])
    torch.manual_seed(1)
    torch.set_float32_matmul_precision("high")
    model = Gpt(*SHAPES[preset]).cuda()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), fused=True)
    compiled = torch.compile(model)
    ids = torch.randint(VOCAB - 47, (batch, LENGTH + 1), device="cuda")
    times = []
    for step in range(WARMUP + REPEATS):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        with torch.autocast("cuda", torch.bfloat16):
            loss = compiled(ids[:, :-1], ids[:, 1:])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        end.record()
        torch.cuda.synchronize()
        if step >= WARMUP:
            times.append(begin.elapsed_time(end))
    assert math.isfinite(loss.item())
    ms = statistics.median(times)
    print(f"| PyTorch {torch.__version__}, torch.compile, fused AdamW, a step of one micro-batch | {preset} | "
          f"{batch} x {LENGTH} | {ms:.2f} | {1e3 * batch * LENGTH / ms:.0f} |")


main()
